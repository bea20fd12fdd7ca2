import { NotWhole } from '../../model/content.ts'
import type { Bytes } from '../../model/step.ts'
import { edgesOf } from '../../platform/edges.ts'

/** More than the clients write before the first definition, and after the last row. */
const edgeBytes = 4096

/** What a dump that begins so ends with; what it is made with (`--skip-comments`, `--compact`) leaves one or both out. */
const pairs = [
  // Accounts may stand before and after a dump.
  {
    begins: /^-- Accounts, with what they may do/,
    ends: /\n-- Accounts completed\s*$/,
    last: '-- Accounts completed',
  },
  {
    begins: /^-- (?:MySQL|MariaDB) dump /m,
    ends: /\n-- Dump completed[^\n]*\s*$/,
    last: '-- Dump completed',
  },
  {
    begins: /SET @OLD_SQL_NOTES=@@SQL_NOTES/,
    ends: /SET SQL_NOTES=@OLD_SQL_NOTES/,
    last: 'SET SQL_NOTES=@OLD_SQL_NOTES',
  },
  // What newer dumpers of MariaDB write instead.
  {
    begins: /SET @OLD_NOTE_VERBOSITY=@@NOTE_VERBOSITY/,
    ends: /SET NOTE_VERBOSITY=@OLD_NOTE_VERBOSITY/,
    last: 'SET NOTE_VERBOSITY=@OLD_NOTE_VERBOSITY',
  },
]

/**
 * Whether what mariadb-dump or mysqldump wrote ends as it should, as far as its beginning tells: without comments and
 * settings, nobody can know. `isDump`: it is one, and so not empty.
 */
export async function lookAtDump(bytes: Bytes, isDump: boolean): Promise<string> {
  const seen = new Set<string>()
  const { head, tail, bytes: size } = await edgesOf(noting(bytes, seen), edgeBytes)
  if (isDump && size === 0) throw new NotWhole('it is empty')
  const pair = pairs.find(({ begins }) => begins.test(head))
  if (pair && !pair.ends.test(tail)) throw new NotWhole(`it was cut: it does not end with "${pair.last}"`)
  // What puts the accounts behind a dump does so also when the dumper has died.
  if (innerBegins.some(line => seen.has(line)) && !seen.has(innerEnd))
    throw new NotWhole(`it was cut: it has no line "${innerEnd}"`)
  return ''
}

const innerBegins = ['-- MariaDB dump ', '-- MySQL dump ']
const innerEnd = '-- Dump completed'

/** Passes them on, and notes which of these lines there were. */
async function* noting(bytes: Bytes, seen: Set<string>): Bytes {
  const longest = 32
  const lines = [...innerBegins, innerEnd]
  let before = Buffer.from('\n')
  for await (const chunk of bytes) {
    const part = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    const joint = Buffer.concat([before, part.subarray(0, longest)])
    for (const line of lines)
      if (!seen.has(line) && [joint, part].some(text => text.includes(`\n${line}`))) seen.add(line)
    before = Buffer.concat([before, part.subarray(-longest)]).subarray(-longest)
    yield chunk
  }
}
