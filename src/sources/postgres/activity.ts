import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Context } from '../../model/context.ts'
import { connect, type Database } from './connect.ts'
import type { Connection } from './connection.ts'

/**
 * What the server says about our programs' connections (PostgreSQL docs, "The Cumulative Statistics System"). They are
 * found by application_name, which everybody may see of everybody.
 */
interface Activity {
  readonly pid: number
  readonly active: boolean
  /** `Client`, `Lock`, `IO`; null: it is computing. */
  readonly waits: string | null
  readonly event: string | null
  readonly query: string
  /** When the query began, as text: another text is another query. */
  readonly since: string
  /** What it waits to lock, and who holds it; 0: a prepared transaction. */
  readonly wanted: string | null
  readonly holder: number | null
  readonly holderName: string | null
}

const question = `
  SELECT a.pid, a.state = 'active' AS active, a.wait_event_type AS waits, a.wait_event AS event,
         left(a.query, 80) AS query, coalesce(a.query_start::text, '') AS since,
         (SELECT coalesce(n.nspname || '.' || c.relname, l.locktype)
            FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation
            LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           WHERE l.pid = a.pid AND NOT l.granted LIMIT 1) AS wanted,
         b.pid AS holder, h.application_name AS "holderName"
    FROM pg_catalog.pg_stat_activity a
    CROSS JOIN LATERAL (SELECT (pg_catalog.pg_blocking_pids(a.pid))[1]) b (pid)
    LEFT JOIN pg_catalog.pg_stat_activity h ON h.pid = b.pid
   WHERE a.application_name = ANY($1)`

/** A name by which the server knows one run's program: `cairn pg_dump 3f9c01`. */
export function applicationName(program: string): string {
  return `cairn ${program} ${randomBytes(3).toString('hex')}`
}

/** Why the programs of these names are silent, in sentences; '' when nothing is known. */
export async function whySilent(
  connection: Connection,
  names: readonly string[],
  ctx: Context,
): Promise<string> {
  await using db = await connect(connection, 'cairn', ctx, 4_000)
  const found = await activity(db, names)
  if (found.length === 0) return 'the server knows of no connection of it'
  return found.map(describe).join('; ')
}

async function activity(db: Database, names: readonly string[]): Promise<Activity[]> {
  return await db.rows<Activity>(question, [names])
}

function describe(a: Activity): string {
  if (a.waits === 'Lock') {
    return `it waits for a lock on ${a.wanted ?? 'something'}${holderOf(a)}`
  }
  if (!a.active) return `its connection (pid ${a.pid}) is idle: the server waits for it`
  if (a.waits === 'Client') return `its connection (pid ${a.pid}) waits for the program itself (${a.event})`
  return `the server works for it (pid ${a.pid}${a.waits ? `, ${a.waits} ${a.event}` : ''}): ${a.query}`
}

function holderOf({ holder, holderName }: Activity): string {
  if (holder === null) return ''
  if (holder === 0) return ' held by a prepared transaction (pg_prepared_xacts)'
  return ` held by pid ${holder} (${holderName || 'unnamed application'})`
}

/** True when the server is busy with its own work: it waits for nobody. */
function atWork(a: Activity): boolean {
  return a.active && a.waits !== 'Client' && a.waits !== 'Lock'
}

/**
 * Looks at the server every few seconds on a connection of its own. While it works on what we gave it (CREATE INDEX,
 * a long count), `ctx.alive` is called: the silence is legal. A wait for a lock is not; it is reported once as a
 * warning, so that a person can act before the stall. A server that does not answer proves nothing.
 *
 * What counts as work: `any` query that runs and waits for nobody, which may rightly take hours (CREATE INDEX); or only
 * `new` queries since the last look, where none should take long (pg_dump among the catalogs), so that a server process that hangs is found.
 */
export function watch(
  connection: Connection,
  name: string,
  /** For the warning: `the restore`. */
  what: string,
  ctx: Context,
  work: 'any' | 'new' = 'any',
): AsyncDisposable {
  const stop = new AbortController()
  const inner = { ...ctx, signal: AbortSignal.any([ctx.signal, stop.signal]) }
  const done = looking(connection, name, what, inner, work).catch(() => {})
  return {
    async [Symbol.asyncDispose]() {
      stop.abort()
      await done
    },
  }
}

async function looking(
  connection: Connection,
  name: string,
  what: string,
  ctx: Context,
  work: 'any' | 'new',
): Promise<void> {
  // Well below any sensible stall time, and still no burden.
  const everyMs = Math.min(3_000, ctx.stallMs / 3)
  let warned = false
  let since = ''
  for (;;) {
    // The first look comes late: most work is done by then, and costs no connection.
    await sleep(everyMs, undefined, { signal: ctx.signal })
    try {
      await using db = await connect(connection, 'cairn', ctx, 4_000)
      for (;;) {
        for (const found of await activity(db, [name])) {
          if (atWork(found) && (work === 'any' || found.since !== since)) ctx.alive(found.query)
          else if (found.waits === 'Lock' && !warned) {
            warned = true
            warn(found, what, ctx)
          }
          since = found.since
        }
        await sleep(everyMs, undefined, { signal: ctx.signal })
      }
    } catch {
      ctx.signal.throwIfAborted()
    }
  }
}

function warn(found: Activity, what: string, ctx: Context): void {
  ctx.emit({
    type: 'warning',
    what: `${what} waits`,
    why: describe(found),
    remedy: 'end the other transaction, or close the application that uses this database',
  })
}
