import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import type { Warning } from '../../model/manifest.ts'
import type { Artifact, Census, CensusLevel, Session, SourceFacts } from '../../model/source.ts'
import type { Program } from '../../model/step.ts'
import { applicationName, watch } from './activity.ts'
import { takeCensus } from './census.ts'
import { type Clients, chooseClients, clientVersion, majorOf } from './clients.ts'
import { connect, type Database } from './connect.ts'
import { type Connection, childEnv, noticingItsEnd, showConnection } from './connection.ts'
import { judged } from './explain.ts'
import { type DatabaseFacts, databaseFacts } from './facts.ts'
import { liftTimeouts, serverVersion } from './server.ts'
import { databaseSettings, settingsName } from './settings.ts'
import { quoteConninfo, quoteText } from './sql.ts'

const pingMs = 30_000

/** The connection whose transaction holds the moment, and what was learnt on it. */
interface Held {
  readonly db: Database
  /** The server's version: 150018. */
  readonly num: number
  readonly snapshot: string
  readonly at: Date
  readonly facts: DatabaseFacts
  readonly clients: Clients
  readonly client: string
}

export interface SessionOptions {
  readonly connection: Connection
  readonly census: CensusLevel
  /** Where the client programs are; undefined: the usual places. */
  readonly clients: string | undefined
  /** The names under which our programs are connected now: `whySilent` looks for them. */
  readonly running: Set<string>
}

/**
 * Holds one moment of a database: a transaction that exported its snapshot (PostgreSQL docs, "Snapshot Synchronization
 * Functions"), which pg_dump and the census see through. Throws a Failure leaving nothing open.
 */
export async function openSession(options: SessionOptions, ctx: Context): Promise<Session> {
  const held = await hold(options, ctx)
  const ping = setInterval(() => held.db.rows('SELECT 1').catch(() => {}), pingMs).unref()
  const warnings: Warning[] = [...held.facts.warnings]
  const watches = new AsyncDisposableStack()
  return {
    concurrency: 1,
    async *artifacts() {
      yield dumpArtifact(held, options, watches)
      yield globalsArtifact(held, options.connection)
      const settings = await databaseSettings(held.db)
      if (settings !== '') yield settingsArtifact(settings)
    },
    census: () => census(held, options, warnings, ctx),
    finish: () => finish(held, options.connection, warnings),
    async [Symbol.asyncDispose]() {
      clearInterval(ping)
      await watches.disposeAsync()
      await held.db.close()
    },
  }
}

async function hold({ connection, clients: folder }: SessionOptions, ctx: Context): Promise<Held> {
  const db = await connect(connection, 'cairn', ctx)
  try {
    const { num } = await serverVersion(db)
    const clients = await chooseClients(majorOf(num), `back up ${showConnection(connection)}`, folder, ctx)
    const client = await clientVersion(clients.path('pg_dump'), ctx)
    await liftTimeouts(db)
    await db.rows('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
    const { snapshot, at } = await db.one<{ snapshot: string; at: Date }>(
      'SELECT pg_export_snapshot() AS snapshot, now() AS at',
    )
    const facts = await databaseFacts(db, num)
    return { db, num, snapshot, at, facts, clients, client }
  } catch (error) {
    await db.close()
    throw error
  }
}

function dumpArtifact(
  held: Held,
  { connection, running }: SessionOptions,
  watches: AsyncDisposableStack,
): Artifact {
  return {
    name: `postgres/${connection.database}.dump`,
    media: 'pg_dump-custom',
    role: 'data',
    sizeHint: held.facts.bytes,
    open(ctx): Program {
      const name = applicationName('pg_dump')
      running.add(name)
      // pg_dump reads the catalogs of a hundred thousand tables without a byte of output.
      watches.use(watch(connection, name, 'the dump', ctx, 'new'))
      const judge = judged('pg_dump')
      return {
        program: held.clients.path('pg_dump'),
        // Compression is a stage's work; level 0 keeps the archive's own out of its way.
        args: [
          '--format=custom',
          '--compress=0',
          `--snapshot=${held.snapshot}`,
          '--no-password',
          // A standby cannot read them (PostgreSQL docs, "Hot Standby").
          ...(held.facts.standby ? ['--no-unlogged-table-data'] : []),
        ],
        env: childEnv(noticingItsEnd(connection, held.num), name),
        judge(exit, stderrTail) {
          running.delete(name)
          return judge(exit, stderrTail)
        },
      }
    },
  }
}

/** Roles, memberships and tablespaces: what the database needs and a dump of it does not hold. */
function globalsArtifact(held: Held, connection: Connection): Artifact {
  return {
    name: 'postgres/globals.sql',
    media: 'sql',
    role: 'globals',
    open: () => ({
      program: held.clients.path('pg_dumpall'),
      args: [
        '--globals-only',
        // pg_dumpall takes this for a connection string where it looks like one: so it is one.
        `--database=dbname=${quoteConninfo(connection.database)}`,
        '--no-password',
        ...(held.facts.rolePasswords ? [] : ['--no-role-passwords']),
      ],
      env: childEnv(noticingItsEnd(connection, held.num), applicationName('pg_dumpall')),
      judge: judged('pg_dumpall'),
    }),
  }
}

function settingsArtifact(settings: string): Artifact {
  const bytes = Buffer.from(settings)
  return {
    name: settingsName,
    media: 'sql',
    role: 'globals',
    sizeHint: bytes.byteLength,
    open: async function* () {
      yield bytes
    },
  }
}

/**
 * The census in the same snapshot, on a connection of its own. Where it cannot be taken the backup stands without one,
 * with a warning.
 */
async function census(
  held: Held,
  { connection, census: level }: SessionOptions,
  warnings: Warning[],
  ctx: Context,
): Promise<Census> {
  if (level === 'none') return { level, at: 'snapshot', objects: [], unseen: [] }
  try {
    const name = applicationName('census')
    // A row count waits for locks too.
    await using db = await connect(noticingItsEnd(connection, held.num), name, ctx)
    await using _watched = watch(connection, name, 'the census', ctx)
    await liftTimeouts(db)
    await db.rows('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
    await db.rows(`SET TRANSACTION SNAPSHOT ${quoteText(held.snapshot)}`)
    return await takeCensus(db, level, ctx.alive)
  } catch (error) {
    ctx.signal.throwIfAborted()
    warnings.push({ what: `there is no census: ${(error as Error).message}` })
    return { level: 'none', at: 'snapshot', objects: [], unseen: [] }
  }
}

/** The last word: the snapshot was held until now, so everything shows the one moment. */
async function finish(
  held: Held,
  connection: Connection,
  warnings: readonly Warning[],
): Promise<SourceFacts> {
  try {
    await held.db.rows('SELECT 1')
  } catch (error) {
    throw new Failure({
      what: `the snapshot of ${showConnection(connection)} was lost`,
      why: (held.db.lost() ?? (error as Error)).message,
      remedy:
        'see the log of the server; a pooler between us and it must not take connections away: connect to the server directly',
      cause: error,
    })
  }
  return {
    kind: 'logical',
    capturedAt: held.at,
    consistentAt: held.at,
    client: held.client,
    options: { ...held.facts.options, format: 'custom', clientMajor: held.clients.major },
    warnings,
  }
}
