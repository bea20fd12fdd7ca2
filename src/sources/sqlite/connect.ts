import { existsSync } from 'node:fs'
import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import { flow } from '../../platform/flow.ts'
import { privateDir } from '../../platform/private-dir.ts'
import { needSpace } from '../../platform/space.ts'
import { look, type Seen } from './look.ts'

/** A database that cannot be locked was written to while it was read; what was read is worth nothing. */
export class Moved extends Error {
  override readonly name = 'Moved'
}

/** A read transaction on a database. Disposing ends it and leaves nothing beside the database. */
export interface Connection extends Disposable {
  readonly db: DatabaseSync
  /** Throws Moved when somebody wrote to a database that we could not lock. */
  verify(): Promise<void>
}

/** How long to wait for a database that others keep locked. */
const lockedMs = 60_000

/**
 * Opens a database read-only and begins a read transaction: from here on it is one moment of the database.
 *
 * In WAL mode nobody is held up, but the -wal file grows until the transaction ends. In rollback mode writers wait.
 * Three ways, because opening a WAL database *writes* a -shm file beside it, which cannot be done on a read-only
 * mount, and which its own program may not be allowed to open afterwards:
 *
 * - rollback mode, or somebody has it open: as SQLite does it, with locks;
 * - WAL, nobody has it open and the -wal is empty: `immutable`, which takes no locks and ignores a -wal;
 * - WAL with a -wal that nobody has open (its program was killed), or an unfinished rollback journal, that
 *   cannot be recovered in place: a copy of all files in the spool, recovered there.
 *
 * The last two are right only if nobody writes meanwhile, which `verify` finds out.
 *
 * Throws a Failure when it stays locked or cannot be opened; nothing is left behind then.
 */
export async function connect(seen: Seen, ctx: Context): Promise<Connection> {
  if (seen.wal && !seen.shm && seen.walBytes === 0) return still(seen, ctx)
  if (seen.wal && !seen.shm) return copied(seen, ctx)
  try {
    return { ...(await begin(seen.path, seen, ctx)), verify: async () => {} }
  } catch (error) {
    if (needsRecovery(error)) return copied(seen, ctx)
    throw error
  }
}

async function still(seen: Seen, ctx: Context): Promise<Connection> {
  const connection = await begin(immutable(seen.path), seen, ctx)
  return { ...connection, verify: () => unmoved(seen, ctx) }
}

async function copied(seen: Seen, ctx: Context): Promise<Connection> {
  await needSpace(ctx.spool, seen.bytes + seen.walBytes, `cannot copy ${seen.path}`)
  const dir = privateDir(ctx.spool)
  try {
    const copy = join(dir.path, 'database')
    for (const end of ['', '-wal', '-journal']) await copyFile(seen.path + end, copy + end, end !== '', ctx)
    await recover(copy)
    const connection = await begin(copy, seen, ctx)
    return {
      db: connection.db,
      verify: () => unmoved(seen, ctx),
      [Symbol.dispose]() {
        connection[Symbol.dispose]()
        dir[Symbol.dispose]()
      },
    }
  } catch (error) {
    dir[Symbol.dispose]()
    throw error
  }
}

/** By another program, for the reason `look` gives; and it can be stopped half-way. */
async function copyFile(from: string, to: string, optional: boolean, ctx: Context): Promise<void> {
  if (optional && !existsSync(from)) return
  for await (const _ of flow({ program: 'cp', args: ['--', from, to] }, [], ctx));
  await chmod(to, 0o600)
}

/** The first read replays the -wal or rolls the journal back; for that it must be allowed to write. */
async function recover(path: string): Promise<void> {
  const { DatabaseSync } = await import('node:sqlite')
  const db = new DatabaseSync(path)
  try {
    db.prepare('SELECT count(*) FROM sqlite_schema').get()
  } finally {
    db.close()
  }
}

async function unmoved(seen: Seen, ctx: Context): Promise<void> {
  const now = await look(seen.path, ctx)
  if (now.fingerprint !== seen.fingerprint) throw new Moved(seen.path)
}

/** The name under which SQLite opens a file without locks and without a -wal. */
export function immutable(path: string): string {
  return `${pathToFileURL(path).href}?immutable=1`
}

async function begin(name: string, seen: Seen, ctx: Context): Promise<{ db: DatabaseSync } & Disposable> {
  const { DatabaseSync } = await import('node:sqlite')
  const until = performance.now() + lockedMs
  for (;;) {
    ctx.signal.throwIfAborted()
    let db: DatabaseSync | undefined
    try {
      // Short, because it blocks this thread; the loop does the waiting.
      db = new DatabaseSync(name, { readOnly: true, timeout: 50, enableDoubleQuotedStringLiterals: true })
      // BEGIN alone takes no snapshot: the first read does.
      db.exec('BEGIN; SELECT count(*) FROM sqlite_schema')
      const opened = db
      return { db, [Symbol.dispose]: () => opened.close() }
    } catch (error) {
      db?.close()
      if (!isBusy(error)) throw needsRecovery(error) ? error : refused(seen, error)
      if (performance.now() > until) throw locked(seen.path, error)
    }
    ctx.alive(`waiting for a lock on ${seen.path}`)
    await sleep(20)
  }
}

/** SQLite's primary result code of an error, https://www.sqlite.org/rescode.html; null for any other error. */
export function resultCode(error: unknown): number | null {
  const code = (error as { errcode?: unknown } | null)?.errcode
  return typeof code === 'number' ? code & 0xff : null
}

/** SQLITE_BUSY or SQLITE_LOCKED. */
function isBusy(error: unknown): boolean {
  return [5, 6].includes(resultCode(error) ?? -1)
}

/** SQLITE_READONLY or SQLITE_CANTOPEN: a -wal or a journal that cannot be used where it lies. */
function needsRecovery(error: unknown): boolean {
  return [8, 14].includes(resultCode(error) ?? -1)
}

function refused(seen: Seen, cause: unknown): Failure {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new Failure({
    what: `cannot back up ${seen.path}`,
    why,
    remedy: 'open it with sqlite3 to see more',
    cause,
  })
}

export function locked(path: string, cause: unknown): Failure {
  return new Failure({
    what: `cannot use ${path}`,
    why: 'another program keeps it locked',
    remedy: 'stop that program, or let it use WAL mode and no exclusive lock',
    cause,
  })
}
