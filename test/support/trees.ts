import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Context } from '../../src/model/context.ts'
import type { Manifest } from '../../src/model/manifest.ts'
import type { ArtifactReader } from '../../src/model/restore.ts'
import type { Source } from '../../src/model/source.ts'
import { FilesOptions, filesSource } from '../../src/sources/files/index.ts'
import { manifestOf, recordOf } from './capture.ts'
import { folder, isRoot } from './places.ts'
import { type Kept, readerOver } from './reader.ts'

// Folders and archives for the tests of this folder.

export const pick = { allow: new Set<string>() }

export function sourceOf(...paths: (string | { path: string; name: string })[]): Source {
  return filesSource(FilesOptions.parse({ paths }))
}

/** Names that a careless program takes for something else. */
export const oddNames: readonly Buffer[] = [
  ...[
    'new\nline',
    'quo"te\'s',
    'back\\slash\\n\\101',
    'colon: file changed as we read it',
    ' space ',
    '😀 é',
    '-rf',
  ],
  ...[
    '--checkpoint=1',
    '--checkpoint-action=exec=touch PWNED',
    '*',
    '%s',
    '$(touch PWNED)',
    'tab\t',
    '~',
    '...',
  ],
  'x'.repeat(255),
]
  .map(name => Buffer.from(name))
  .concat(Buffer.from([0x69, 0xff, 0xfe, 0x80]))

/** Everything that a file system can hold and a careless copy would lose. */
export function hostileTree(t: TestContext): string {
  const dir = join(folder(t), 'tree')
  mkdirSync(dir)
  for (const name of oddNames) writeFileSync(Buffer.concat([Buffer.from(`${dir}/`), name]), name)
  const deep = join(dir, ...Array.from({ length: 12 }, () => 'd'.repeat(100)))
  mkdirSync(deep, { recursive: true })
  writeFileSync(join(deep, 'bottom'), 'deep')
  mkdirSync(join(dir, 'empty', 'er'), { recursive: true })
  writeFileSync(join(dir, 'zero'), '')
  writeFileSync(join(dir, 'one name'), 'linked')
  linkSync(join(dir, 'one name'), join(dir, 'empty', 'other name'))
  symlinkSync('one name', join(dir, 'to a file'))
  symlinkSync('/nowhere/at/all', join(dir, 'dangling'))
  symlinkSync('../../..', join(dir, 'empty', 'upwards'))
  execFileSync('mkfifo', [join(dir, 'fifo')])
  sparse(join(dir, 'sparse'), 1024 ** 3)
  for (const [name, mode] of [
    ['private', 0o600],
    ['readable', 0o444],
    ['nothing', 0o000],
  ] as const) {
    writeFileSync(join(dir, name), name)
    chmodSync(join(dir, name), mode)
  }
  if (isRoot) execFileSync('chown', ['12345:54321', join(dir, 'private')])
  chmodSync(join(dir, 'empty', 'er'), 0o3777)
  // Nanoseconds, and long ago.
  execFileSync('touch', ['-d', '1999-12-31 23:59:59.123456789', join(dir, 'readable')])
  utimesSync(join(dir, 'empty'), 1_000_000_000, 1_000_000_000)
  chmodSync(dir, 0o751)
  utimesSync(dir, 1_234_567_890, 1_234_567_890)
  return dir
}

/** One block of data in the middle of so many bytes of nothing. */
function sparse(path: string, bytes: number): void {
  const file = openSync(path, 'w')
  ftruncateSync(file, bytes)
  writeSync(file, 'needle', bytes / 2)
  closeSync(file)
}

/** All that can be known about a tree, by name. */
export function describeTree(dir: string): Record<string, unknown> {
  const found: Record<string, unknown> = {}
  const inodes = new Map<number, string>()
  const visit = (path: Buffer, name: string): void => {
    const stats = lstatSync(path, { bigint: true })
    const twin = inodes.get(Number(stats.ino))
    inodes.set(Number(stats.ino), name)
    found[name] = {
      mode: stats.mode.toString(8),
      owner: `${stats.uid}:${stats.gid}`,
      modified: stats.isSymbolicLink() ? null : stats.mtimeNs,
      size: stats.isDirectory() ? null : stats.size,
      ...(stats.isSymbolicLink() ? { to: readlinkSync(path) } : {}),
      ...(stats.isFile() && stats.size < 1_000_000n ? { content: readFileSync(path).toString('hex') } : {}),
      ...(stats.nlink > 1n && !stats.isDirectory() ? { twin: twin ?? 'first' } : {}),
    }
    if (!stats.isDirectory()) return
    const names = readdirSync(path, { encoding: 'buffer' }).toSorted(Buffer.compare)
    for (const inner of names)
      visit(Buffer.concat([path, Buffer.from('/'), inner]), `${name}/${inner.toString('latin1')}`)
  }
  visit(Buffer.from(dir), '.')
  return found
}

/** A backup of one archive that somebody else has made. */
export function backupOf(
  archive: Uint8Array,
  ctx: Context,
  place: { path: string; kind?: 'folder' | 'file' },
  kept?: Kept,
): { manifest: Manifest; reader: ArtifactReader } {
  const artifact = recordOf({ name: 'files/data.tar', media: 'tar', role: 'data' }, archive)
  const now = new Date()
  const options = { paths: [{ name: 'data', kind: 'folder', ...place }] }
  const facts = {
    kind: 'files',
    capturedAt: now,
    consistentAt: now,
    client: 'tar',
    options,
    warnings: [],
  } as const
  const source = { engine: 'files', identity: 'files:x', version: '1', unit: 'files' }
  return {
    manifest: manifestOf(source, [artifact], facts, ctx),
    reader: readerOver(new Map([['files/data.tar', kept ?? archive]]), ctx),
  }
}

/** A member of a hostile archive, as ustar has it. */
export interface Forged {
  readonly name: string
  readonly type?: 'file' | 'link' | 'symlink' | 'folder' | 'block' | 'char'
  readonly to?: string
  readonly content?: string
  readonly mode?: number
}

/** An archive with members that no honest tar would make. */
export function forge(...members: Forged[]): Uint8Array {
  const blocks: Uint8Array[] = []
  for (const member of members) {
    const content = Buffer.from(member.content ?? '')
    blocks.push(
      forgedHeader(member, content.length),
      content,
      Buffer.alloc((512 - (content.length % 512)) % 512),
    )
  }
  return Buffer.concat([...blocks, Buffer.alloc(10_240)])
}

function forgedHeader(member: Forged, bytes: number): Uint8Array {
  const types = { file: '0', link: '1', symlink: '2', char: '3', block: '4', folder: '5' }
  const type = member.type ?? 'file'
  const header = Buffer.alloc(512)
  const octal = (value: number, at: number, width: number): void => {
    header.write(value.toString(8).padStart(width - 1, '0'), at)
  }
  header.write(member.name, 0)
  octal(member.mode ?? (type === 'folder' ? 0o755 : 0o644), 100, 8)
  octal(0, 108, 8)
  octal(0, 116, 8)
  octal(bytes, 124, 12)
  octal(1_600_000_000, 136, 12)
  header.fill(' ', 148, 156)
  header.write(types[type], 156)
  header.write(member.to ?? '', 157)
  header.write('ustar\x0000', 257)
  octal(1, 329, 8)
  octal(3, 337, 8)
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  )
  return header
}
