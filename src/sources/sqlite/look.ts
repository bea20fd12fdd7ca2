import { constants } from 'node:fs'
import { access, realpath, stat } from 'node:fs/promises'
import type { Context } from '../../model/context.ts'
import { Failure, usage } from '../../model/failure.ts'
import { flow } from '../../platform/flow.ts'

/** What lies at a database's path, seen without touching it. */
export interface Seen {
  /** Where the file really is: SQLite keeps -wal, -shm and -journal beside it, not beside a link. */
  readonly path: string
  readonly bytes: number
  readonly walBytes: number
  /** The database is in WAL mode. */
  readonly wal: boolean
  /** Somebody has it open in WAL mode, or died with it open. */
  readonly shm: boolean
  readonly pageSize: number
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Changes when any of the files is written to. */
  readonly fingerprint: string
}

const magic = 'SQLite format 3\0'

/**
 * Looks at a database file. Throws a Failure when there is none, when it cannot be read, or when it is something else.
 *
 * This process never opens the file itself, but through SQLite: POSIX locks belong to the process, and closing any
 * descriptor of a file drops all of its locks, those of another session's snapshot too
 * (https://www.sqlite.org/howtocorrupt.html, 2.2). So another program reads the header.
 */
export async function look(path: string, ctx: Context): Promise<Seen> {
  const real = await present(path)
  const main = await stat(real, { bigint: true })
  const bytes = Number(main.size)
  const header = bytes === 0 ? Buffer.alloc(100) : await readHeader(real, ctx)
  if (bytes > 0 && (header.length < 100 || header.toString('latin1', 0, 16) !== magic)) {
    throw usage(
      `cannot read ${path}`,
      'it is not a SQLite database, or it is encrypted as a whole',
      'an encrypted database can be backed up as a file while its program is stopped',
    )
  }
  const [wal, shm, journal] = await Promise.all(['-wal', '-shm', '-journal'].map(end => sizes(real + end)))
  return {
    path: real,
    bytes,
    walBytes: wal?.bytes ?? 0,
    wal: header[18] === 2,
    shm: shm !== null,
    // 1 stands for 65536, which does not fit (https://www.sqlite.org/fileformat.html, 1.3.2).
    pageSize: header.readUInt16BE(16) === 1 ? 65_536 : header.readUInt16BE(16),
    mode: Number(main.mode & 0o7777n),
    uid: Number(main.uid),
    gid: Number(main.gid),
    fingerprint: [main.ino, main.size, main.mtimeNs, wal?.print, journal?.print].join(' '),
  }
}

async function present(path: string): Promise<string> {
  try {
    const real = await realpath(path)
    const found = await stat(real)
    if (found.isDirectory()) throw usage(`cannot read ${path}`, 'it is a folder', 'name the database file')
    if (!found.isFile()) throw usage(`cannot read ${path}`, 'it is not a regular file')
    await access(real, constants.R_OK)
    return real
  } catch (error) {
    throw unreadable(path, error)
  }
}

function unreadable(path: string, error: unknown): Failure {
  if (error instanceof Failure) return error
  const code = (error as NodeJS.ErrnoException).code
  const what = `cannot read ${path}`
  if (code === 'ENOENT' || code === 'ENOTDIR')
    return usage(what, 'there is no such file', 'check the path, and in a container the mount')
  if (code === 'EACCES' || code === 'EPERM')
    return usage(what, 'there is no permission to read it', 'run as its owner or as a member of its group')
  return new Failure({ what, why: String(error), cause: error })
}

async function readHeader(path: string, ctx: Context): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of flow({ program: 'head', args: ['-c', '100', '--', path] }, [], ctx))
    chunks.push(chunk)
  return Buffer.concat(chunks)
}

async function sizes(path: string): Promise<{ bytes: number; print: string } | null> {
  try {
    const found = await stat(path, { bigint: true })
    return { bytes: Number(found.size), print: `${found.ino}/${found.size}/${found.mtimeNs}` }
  } catch {
    return null
  }
}
