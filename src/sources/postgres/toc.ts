import { Failure } from '../../model/failure.ts'
import type { Bytes } from '../../model/step.ts'

/** One entry of an archive's table of contents. */
export interface TocEntry {
  readonly id: number
  /** `TABLE`, `TABLE DATA`, `INDEX`, `FK CONSTRAINT`, … */
  readonly kind: string
  readonly schema: string | null
  /** '': nobody in particular. */
  readonly owner: string
  /** The name; of what belongs to a table mostly `table name`, of comments and privileges `TABLE name`. */
  readonly tag: string
  readonly needs: readonly number[]
}

/** More than this no table of contents takes. */
const mostBytes = 512 * 1024 * 1024

/**
 * Reads the table of contents from the beginning of an archive of pg_dump, in its custom format or as a tar of its
 * directory format, which must begin with `toc.dat`. No more is read than that takes.
 */
export async function readToc(bytes: Bytes): Promise<TocEntry[]> {
  let held = Buffer.alloc(0)
  let tryAt = 0
  for await (const chunk of bytes) {
    held = Buffer.concat([held, chunk])
    if (held.length < tryAt) continue
    const found = parseToc(archiveIn(held))
    if (found) return found
    if (held.length > mostBytes) break
    tryAt = held.length * 2
  }
  const found = parseToc(archiveIn(held))
  if (found) return found
  throw unreadable('it ends within its table of contents')
}

/** The archive itself; of a tar, the content of its first member. */
function archiveIn(bytes: Buffer): Buffer {
  if (bytes.subarray(257, 262).toString('latin1') !== 'ustar') return bytes
  if (bytes.subarray(0, 8).toString('latin1') !== 'toc.dat\0')
    throw unreadable('toc.dat is not its first file')
  const size = Number.parseInt(bytes.subarray(124, 136).toString('latin1'), 8)
  return bytes.subarray(512, 512 + size)
}

function unreadable(why: string): Failure {
  return new Failure({
    what: 'cannot read the table of contents of the archive',
    why,
    remedy: 'restore all of it, or name no tables',
  })
}

class TooShort extends Error {}

/** What is written when: PostgreSQL source, pg_backup_archiver.h, K_VERS_*. */
const since = { relkind: 1_16, algorithm: 1_15, tableAccessMethod: 1_14 }

/** Null when the bytes end before the table does. */
function parseToc(bytes: Buffer): TocEntry[] | null {
  try {
    return entriesOf(new Reader(bytes))
  } catch (error) {
    if (error instanceof TooShort) return null
    throw error
  }
}

/** As ReadHead, ReadToc and ReadExtraToc do (PostgreSQL source, pg_backup_archiver.c, _custom.c, _directory.c). */
function entriesOf(from: Reader): TocEntry[] {
  if (from.raw(5).toString('latin1') !== 'PGDMP')
    throw unreadable('it does not begin as an archive of pg_dump')
  const [major, minor] = [from.byte(), from.byte()]
  const version = major * 100 + minor
  from.byte()
  if (major !== 1 || minor < 12 || minor > 16) throw unreadable(`its format is version ${major}.${minor}`)
  from.intBytes = from.byte()
  const offsetBytes = from.byte()
  const format = from.byte()
  if (version >= since.algorithm) from.byte()
  else from.int()
  for (let part = 0; part < 7; part++) from.int()
  // The database, and the versions of server and pg_dump.
  for (let text = 0; text < 3; text++) from.text()
  const count = from.int()
  const entries: TocEntry[] = []
  for (let index = 0; index < count; index++) {
    const entry = entryFrom(from, version)
    entries.push(entry)
    // Where the data is: in the custom format an offset, in the directory format a file.
    if (format === 1) from.raw(1 + offsetBytes)
    else from.text()
  }
  return entries
}

function entryFrom(from: Reader, version: number): TocEntry {
  const id = from.int()
  from.int()
  from.text()
  from.text()
  const tag = from.text() ?? ''
  const kind = from.text() ?? ''
  from.int()
  for (let text = 0; text < 3; text++) from.text()
  const schema = from.text()
  from.text()
  if (version >= since.tableAccessMethod) from.text()
  if (version >= since.relkind) from.int()
  const owner = from.text() ?? ''
  from.text()
  const needs: number[] = []
  for (let need = from.text(); need !== null; need = from.text()) needs.push(Number(need))
  return { id, kind, schema: schema === '' ? null : schema, owner, tag, needs }
}

class Reader {
  intBytes = 4
  #at = 0
  readonly #bytes: Buffer

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  raw(length: number): Buffer {
    const end = this.#at + length
    if (end > this.#bytes.length) throw new TooShort()
    const found = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return found
  }

  byte(): number {
    return this.raw(1)[0] ?? 0
  }

  /** A sign, and the bytes of the number, the lowest first. */
  int(): number {
    const negative = this.byte() !== 0
    const found = this.raw(this.intBytes).readUIntLE(0, Math.min(this.intBytes, 6))
    return negative ? -found : found
  }

  text(): string | null {
    const length = this.int()
    return length < 0 ? null : this.raw(length).toString('utf8')
  }
}
