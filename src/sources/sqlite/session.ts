import { createReadStream } from 'node:fs'
import { stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import type { Context } from '../../model/context.ts'
import { asFailure, Failure } from '../../model/failure.ts'
import type { Warning } from '../../model/manifest.ts'
import type { Artifact, Census, CensusLevel, Session } from '../../model/source.ts'
import type { Bytes } from '../../model/step.ts'
import { privateDir } from '../../platform/private-dir.ts'
import { needSpace } from '../../platform/space.ts'
import { type Counted, countTables, examine, type Report } from './check.ts'
import { type Connection, connect, Moved } from './connect.ts'
import { look, type Seen } from './look.ts'

/** Pages that are copied between two looks at the signal: 4 MB of 4 kB pages. */
const pagesPerStep = 1000

/**
 * Copies a database into the spool, in one read transaction with the census, and checks the copy. When this
 * returns, the source is free again; disposing the session removes the copy.
 *
 * The transaction matters: `backup()` alone starts over whenever *another* process writes, and never ends on a
 * large busy database. Within a read transaction on the same connection it reads that one moment.
 *
 * Throws a Failure when there is no space, when the database stays locked, or when the copy is not sound; nothing is
 * left behind then.
 */
export async function openSession(path: string, level: CensusLevel, ctx: Context): Promise<Session> {
  try {
    return await capture(path, level, ctx)
  } catch (error) {
    if (!(error instanceof Moved)) throw error
  }
  // Its program has started meanwhile: now it can be read with locks.
  try {
    return await capture(path, level, ctx)
  } catch (error) {
    if (!(error instanceof Moved)) throw error
    throw new Failure({
      what: `cannot back up ${path}`,
      why: 'it was written to while it was read, by a program that shares no locks with us',
      remedy: 'stop that program while the backup reads, or mount the folder of the database writable',
    })
  }
}

async function capture(path: string, level: CensusLevel, ctx: Context): Promise<Session> {
  const seen = await look(path, ctx)
  await needSpace(ctx.spool, seen.bytes + seen.walBytes, `cannot copy ${seen.path}`)
  const dir = privateDir(ctx.spool)
  try {
    const copy = join(dir.path, 'copy')
    const { tables, at } = await copyAtOneMoment(seen, copy, level, ctx)
    const report = await examine(copy, level === 'counts', ctx)
    demandSound(path, tables, report)
    return sessionOf({ path, seen, copy, dir, tables, level, at, report }, (await stat(copy)).size, ctx)
  } catch (error) {
    dir[Symbol.dispose]()
    throw error
  }
}

async function copyAtOneMoment(seen: Seen, copy: string, level: CensusLevel, ctx: Context) {
  using connection = await connect(seen, ctx)
  const at = ctx.clock.now()
  await copyDatabase(connection, seen, copy, ctx)
  const tables: Counted[] = []
  for (const table of countTables(connection.db, level === 'counts')) {
    tables.push(table)
    ctx.alive(`counting the rows of ${table.name}`)
    // Counting blocks this thread: let others have their turn.
    await turn()
    ctx.signal.throwIfAborted()
  }
  await connection.verify()
  return { tables, at }
}

async function copyDatabase(connection: Connection, seen: Seen, copy: string, ctx: Context): Promise<void> {
  const { backup } = await import('node:sqlite')
  ctx.signal.throwIfAborted()
  if (seen.bytes + seen.walBytes === 0) return writeFile(copy, '', { mode: 0o600 })
  try {
    await backup(connection.db, copy, {
      rate: pagesPerStep,
      progress: ({ totalPages, remainingPages }) => {
        ctx.signal.throwIfAborted()
        ctx.alive(`copying ${seen.path}: ${totalPages - remainingPages} of ${totalPages} pages`)
      },
    })
  } catch (error) {
    ctx.signal.throwIfAborted()
    throw asFailure(
      error,
      `cannot copy ${seen.path} into ${ctx.spool}`,
      'is the file system of the spool full?',
    )
  }
  ctx.signal.throwIfAborted()
}

/** The copy must be whole, and hold what was counted in the source. */
function demandSound(path: string, source: readonly Counted[], copy: Report): void {
  if (copy.problems.length > 0) {
    throw new Failure({
      what: `${path} is damaged`,
      why: `its copy fails SQLite's integrity check: ${copy.problems.slice(0, 3).join('; ')}`,
      remedy: 'repair it with sqlite3 (.recover), or restore an older backup',
    })
  }
  const differs = source.find((table, index) => table.rows !== copy.tables[index]?.rows)
  if (!differs && source.length === copy.tables.length) return
  throw new Failure({
    what: `the copy of ${path} is not equal to it`,
    why: `the rows of ${differs?.name ?? 'some table'} differ`,
  })
}

interface Captured {
  readonly path: string
  readonly seen: Seen
  readonly copy: string
  readonly dir: Disposable
  readonly tables: readonly Counted[]
  readonly level: CensusLevel
  readonly at: Date
  readonly report: Report
}

function sessionOf(captured: Captured, bytes: number, ctx: Context): Session {
  const { path, seen, copy, dir, tables, level, at } = captured
  const artifact: Artifact = {
    name: `sqlite/${basename(path)}`,
    media: 'sqlite',
    role: 'data',
    sizeHint: bytes,
    open: () => read(copy, bytes, ctx),
  }
  return {
    concurrency: 1,
    async *artifacts() {
      yield artifact
    },
    census: async () => censusOf(tables, level),
    finish: async () => ({
      kind: 'logical',
      capturedAt: at,
      consistentAt: at,
      client: `sqlite ${await sqliteVersion()} (node:sqlite)`,
      options: {
        path,
        journalMode: seen.wal ? 'wal' : 'rollback',
        pageSize: seen.pageSize,
        mode: seen.mode,
        uid: seen.uid,
        gid: seen.gid,
      },
      warnings: warningsOf(path, captured.report),
    }),
    [Symbol.asyncDispose]: async () => dir[Symbol.dispose](),
  }
}

async function* read(path: string, bytes: number, ctx: Context): Bytes {
  let seen = 0
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
    ctx.signal.throwIfAborted()
    seen += chunk.length
    yield chunk
  }
  if (seen !== bytes) throw new Error(`${path} has changed: ${seen} instead of ${bytes} bytes`)
}

function censusOf(tables: readonly Counted[], level: CensusLevel): Census {
  const unseen =
    level === 'counts' ? tables.filter(table => table.rows === null).map(table => table.name) : []
  return { level, at: 'snapshot', objects: level === 'none' ? [] : tables, unseen }
}

function warningsOf(path: string, report: Report): Warning[] {
  if (report.lessBecause === '') return []
  return [{ what: `indexes could not be checked: ${report.lessBecause}`, path }]
}

/** The version of the SQLite inside this Node. */
export async function sqliteVersion(): Promise<string> {
  const { DatabaseSync } = await import('node:sqlite')
  const db = new DatabaseSync(':memory:')
  try {
    return String(db.prepare('SELECT sqlite_version() AS version').get()?.version)
  } finally {
    db.close()
  }
}
