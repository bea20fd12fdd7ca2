import type { Context } from '../../model/context.ts'
import { damage, Failure } from '../../model/failure.ts'
import type { ArtifactRecord } from '../../model/manifest.ts'
import type { ArtifactReader } from '../../model/restore.ts'
import type { Exit, Program, Verdict } from '../../model/step.ts'
import { flow, pour } from '../../platform/flow.ts'
import { describeExit } from '../../platform/program.ts'
import { type GnuTar, noteOf } from './tar.ts'

/** How many warnings a person reads. */
const mostWarnings = 100

export interface Extraction {
  readonly tree: string
  readonly tar: GnuTar
  /** Give the files to whom they belonged. */
  readonly owners: boolean
  readonly allow: ReadonlySet<string>
  /** Leaves the first folder of every name out. */
  readonly withName?: boolean
}

/** What came of it. */
export interface Extracted {
  readonly warnings: string[]
  /** Members that could not be made, because the system takes no path as long as theirs. */
  readonly tooLong: number
}

/** GNU tar saves from folder to folder, and so also what lies deeper than it can make again in one step. */
const longName = /: Cannot [^:]+: File name too long$/

/**
 * Extracts an artifact into an empty folder that nobody else can enter. GNU tar makes symbolic
 * links that lead outside last, so no member can be written through one.
 *
 * Of the extended attributes only `user.*` come back; `security.capability`, which gives a program powers of
 * root, with the consent `setuid`.
 *
 * Paths of 4096 bytes and more are left out, and all else comes back. Throws a Failure when tar fails otherwise, and when the archive wants to write outside the folder.
 */
export async function extract(
  artifact: ArtifactRecord,
  to: Extraction,
  read: ArtifactReader,
  ctx: Context,
): Promise<Extracted> {
  const lines: string[] = []
  let dropped = 0
  let tooLong = 0
  let others = 0
  const program: Program = {
    program: 'tar',
    endsEarly: true,
    args: argumentsFor(to),
    onStderr(line) {
      const note = noteOf(line)
      if (!note) return
      if (longName.test(note.text)) {
        tooLong++
        return
      }
      if (note.path === null) others++
      if (lines.length < mostWarnings)
        lines.push(note.path === null ? note.text : `${note.path}: ${note.text}`)
      else dropped++
    },
    judge: (exit, tail) => judge(artifact.name, exit, tail, lines, tooLong > 0 && others === 0),
  }
  await read.into(artifact, program)
  ctx.signal.throwIfAborted()
  const warnings = dropped === 0 ? lines : [...lines, `and ${dropped} more like these`]
  if (tooLong > 0) warnings.push(`${tooLong} members are left out: their paths are too long for this system`)
  return { warnings, tooLong }
}

function argumentsFor({ tree, tar, owners, allow, withName }: Extraction): string[] {
  const capabilities = tar.attributes.includes('--xattrs') && allow.has('setuid')
  return [
    '--extract',
    // Our pipes are sockets: tar would take a short read for a short record, end there, and break the pipe.
    '--read-full-records',
    '--file=-',
    `--directory=${tree}`,
    '--numeric-owner',
    '--same-permissions',
    owners ? '--same-owner' : '--no-same-owner',
    ...(withName ? ['--strip-components=1'] : []),
    '--delay-directory-restore',
    ...tar.attributes,
    ...(capabilities ? ['--xattrs-include=user.*', '--xattrs-include=security.capability'] : []),
    '--quoting-style=escape',
  ]
}

function judge(
  name: string,
  exit: Exit,
  tail: string,
  lines: readonly string[],
  isOnlyTooLong: boolean,
): Verdict {
  // tar would strip the prefix and go on: but an archive of ours has no such names.
  const outside = lines.find(line => /^Removing leading|Member name contains '\.\.'/.test(line))
  if (outside) {
    return damage(
      `${name} cannot be trusted`,
      `it wants to write outside the target: ${outside}`,
      'restore another backup',
    )
  }
  if (exit.code === 0 || (exit.code === 2 && isOnlyTooLong)) return null
  const why = lines.length > 0 ? lines.slice(-3).join('; ') : describeExit(exit, tail)
  return new Failure({ what: `cannot extract ${name}`, why, remedy: remedyFor(why) })
}

function remedyFor(why: string): string {
  // A full disk may show as a short write only.
  if (/No space left|quota exceeded|Wrote only \d+ of \d+ bytes/i.test(why))
    return 'make room in the file system of the target'
  if (/Cannot change ownership/.test(why)) return 'run as root, or give up the owners with --allow no-owner'
  if (/Cannot mknod/.test(why)) return 'run as root to restore device nodes'
  return ''
}

/** Copies what was extracted into an empty folder of another file system. Throws a Failure. */
export async function copyTree(from: string, to: Extraction, ctx: Context): Promise<void> {
  const reads = [
    '--create',
    '--file=-',
    '--format=posix',
    '--sparse',
    '--numeric-owner',
    ...to.tar.attributes,
  ]
  const program: Program = {
    program: 'tar',
    endsEarly: true,
    args: argumentsFor(to),
    judge: (exit, tail) => judge(`into ${to.tree}`, exit, tail, [], false),
  }
  await pour({ program: 'tar', args: [...reads, `--directory=${from}`, '.'] }, [], program, ctx)
}

/** A folder's own mode, owner, times and attributes, as a small archive. */
export async function folderItself(
  tree: string,
  mode: number,
  tar: GnuTar,
  ctx: Context,
): Promise<Uint8Array> {
  const program: Program = {
    program: 'tar',
    args: [
      '--create',
      '--file=-',
      '--format=posix',
      '--no-recursion',
      '--numeric-owner',
      `--mode=${mode.toString(8)}`,
      ...tar.attributes,
      `--directory=${tree}`,
      '.',
    ],
  }
  const chunks: Uint8Array[] = []
  for await (const chunk of flow(program, [], ctx)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Gives the folder `to.tree` what `folderItself` kept of another; throws when it belongs to somebody else. */
export async function applyToFolder(kept: Uint8Array, to: Extraction, ctx: Context): Promise<void> {
  const args = argumentsFor(to)
  // It reads to the archive's end, which may be before the end of the bytes.
  await pour(once(kept), [], { program: 'tar', endsEarly: true, args }, ctx)
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  yield bytes
}
