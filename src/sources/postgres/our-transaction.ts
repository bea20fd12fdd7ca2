import { Failure } from '../../model/failure.ts'
import type { Bytes, Transform } from '../../model/step.ts'

/** More than pg_restore writes before the first object, and after the last. */
const edgeBytes = 2_048

/** The end of every whole script: the transaction's, then the trailer, then what ends psql's restricted mode. */
const ending = /\nCOMMIT;\n\n((?:--\n-- PostgreSQL database dump complete\n--\n|\\unrestrict \w+\n|\n)*)$/

/**
 * Takes the transaction out of the script that `pg_restore --single-transaction` writes: we open and close it
 * ourselves, after more has been judged than pg_restore knows. The end of the script is held back until the input
 * ended well, so that not even an unforeseen COMMIT there could come too early; a script without that very end
 * throws, and so does one without the beginning.
 */
export function ourTransaction(serverMajor: number): Transform {
  return {
    name: 'the transaction of the restore',
    async *run(input: Bytes): Bytes {
      // Whole chunks are held and passed on; only the first and the last few kilobytes are ever copied.
      const held: Uint8Array[] = []
      let bytes = 0
      let head = true
      for await (const chunk of input) {
        held.push(chunk)
        bytes += chunk.byteLength
        if (head) {
          if (bytes < 2 * edgeBytes) continue
          const script = withoutBegin(Buffer.concat(held), serverMajor)
          held.splice(0, held.length, script)
          bytes = script.byteLength
          head = false
        }
        for (let first = held[0]; first && bytes - first.byteLength >= edgeBytes; first = held[0]) {
          held.shift()
          bytes -= first.byteLength
          yield first
        }
      }
      const rest = Buffer.concat(held)
      const script = head ? withoutBegin(rest, serverMajor) : rest
      const cut = Math.max(0, script.byteLength - edgeBytes)
      if (cut > 0) yield script.subarray(0, cut)
      yield withoutCommit(script.subarray(cut))
    },
  }
}

/** Also drops a setting that pg_restore 17 and later writes for every server, and that older ones do not know. */
function withoutBegin(script: Buffer, serverMajor: number): Buffer {
  const start = latin1(script.subarray(0, edgeBytes))
  if (!start.includes('\nBEGIN;\n')) throw unexpected('does not begin with a transaction')
  const begun = start.replace('\nBEGIN;\n', '\n')
  const known = serverMajor >= 17 ? begun : begun.replace('\nSET transaction_timeout = 0;\n', '\n')
  return Buffer.concat([Buffer.from(known, 'latin1'), script.subarray(edgeBytes)])
}

function withoutCommit(script: Buffer): Buffer {
  const text = latin1(script)
  if (!ending.test(text)) throw unexpected('does not end with the end of a dump')
  return Buffer.from(text.replace(ending, '\n$1'), 'latin1')
}

/** Bytes as characters, one to one: what is not ours to read stays as it is. */
function latin1(bytes: Buffer): string {
  return bytes.toString('latin1')
}

function unexpected(why: string): Failure {
  return new Failure({
    what: 'cannot restore',
    why: `what pg_restore makes of the archive ${why}`,
    remedy: 'the archive is not whole, or this pg_restore is newer than what was tried: use that of the dump',
  })
}
