import { isUtf8 } from 'node:buffer'
import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { Program } from '../../model/step.ts'
import { flow } from '../../platform/flow.ts'
import { needProgram } from '../../platform/program.ts'

/** Why it must be this one: sparse files, ACLs and precise times are told apart by GNU tar, not by BusyBox or bsdtar. */
const remedy = 'install GNU tar (Debian and Alpine call it "tar")'

/** What the tar on this machine is and can. */
export interface GnuTar {
  readonly version: string
  /** What keeps attributes beyond POSIX, as far as this tar was built with it. */
  readonly attributes: readonly string[]
}

/** Throws a Failure (exit 2) when the tar on PATH is not GNU tar. */
export async function gnuTar(ctx: Context): Promise<GnuTar> {
  needProgram('tar', remedy)
  const said = await textOf({ program: 'tar', args: ['--version'] }, ctx)
  const version = /GNU tar\)?\s+(\S+)/.exec(said)?.[1]
  if (!version) throw usage('cannot use this tar', 'it is not GNU tar', remedy)
  const attributes = ['--xattrs', '--acls']
  const lines: string[] = []
  const probe = ['--create', '--file=-', ...attributes, '--files-from=/dev/null']
  await textOf({ program: 'tar', args: probe, judge: () => null, onStderr: line => lines.push(line) }, ctx)
  const missing = lines.join('\n')
  return {
    version,
    attributes: attributes.filter(
      flag => !missing.includes(flag === '--acls' ? 'ACL support' : 'XATTR support'),
    ),
  }
}

async function textOf(program: Program, ctx: Context): Promise<string> {
  const chunks: Uint8Array[] = []
  for await (const chunk of flow(program, [], ctx)) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

/** A line of tar's: about which file, if it says so, and what. */
export interface Note {
  readonly path: string | null
  readonly text: string
}

/** What tar says of a file that it has stored all the same, or that is not there any more: no reason to fail. */
const harmless =
  /^(.*): (file changed as we read it|File removed before we read it|File shrank by \d+ bytes?; padding with zeros|socket ignored|door ignored|file is on a different filesystem; not dumped|contains a cache directory tag.*|implausibly old time stamp.*|time stamp .* in the future)$/is

/** Null for the line that only says that another one was an error. */
export function noteOf(line: string): Note | null {
  const text = line.replace(/^(\S*\/)?tar: /, '')
  if (/^(Exiting with failure status|Error is not recoverable)/.test(text)) return null
  const known = harmless.exec(text)
  if (known) return { path: unquote(known[1] ?? ''), text: known[2] ?? '' }
  return { path: null, text }
}

/**
 * A name as tar's quoting style `escape` writes it, as it is; where it is not UTF-8, which no text can hold, the
 * quoted form stays.
 */
export function unquote(quoted: string): string {
  const letters: Readonly<Record<string, number>> = { a: 7, b: 8, t: 9, n: 10, v: 11, f: 12, r: 13 }
  const bytes: Buffer[] = []
  for (const [part] of quoted.matchAll(/\\[0-7]{3}|\\.|[^\\]+/gs)) {
    if (!part.startsWith('\\')) bytes.push(Buffer.from(part))
    else if (part.length === 4) bytes.push(Buffer.from([Number.parseInt(part.slice(1), 8)]))
    else bytes.push(Buffer.from([letters[part.slice(1)] ?? part.charCodeAt(1)]))
  }
  const name = Buffer.concat(bytes)
  return isUtf8(name) ? name.toString('utf8') : quoted
}
