import type { Context } from '../../model/context.ts'
import { Failure, usage } from '../../model/failure.ts'
import type { Warning } from '../../model/manifest.ts'
import type { Artifact, Census, CensusLevel, Session, SourceFacts } from '../../model/source.ts'
import { applicationName, watch } from './activity.ts'
import { partialArguments } from './arguments.ts'
import { takeCensus } from './census.ts'
import { aheadAdvice, chooseClients, clientVersion, isAheadOf, majorOf } from './clients.ts'
import { connect, type Database } from './connect.ts'
import { type Connection, noticingItsEnd, showConnection } from './connection.ts'
import { type DumpFormat, type Dumping, databaseArtifact, globalsArtifact } from './dump.ts'
import { type DatabaseFacts, databaseFacts } from './facts.ts'
import { mustReadAll, unseenBy } from './readable.ts'
import { isEmpty, serverVersion } from './server.ts'
import { databaseSettings, settingsName } from './settings.ts'
import { quoteText } from './sql.ts'

const pingMs = 30_000

/** The connection whose transaction holds the moment, and what was learnt on it. */
interface Held {
  readonly db: Database
  readonly dumping: Dumping
  readonly snapshot: string
  readonly at: Date
  readonly facts: DatabaseFacts
  /** What the dump leaves out, because the role may not see it. */
  readonly unseen: readonly string[]
  readonly client: string
  /** The arguments by which only a part is dumped. */
  readonly partial: readonly string[]
}

export interface SessionOptions {
  readonly connection: Connection
  readonly census: CensusLevel
  readonly format: DumpFormat
  readonly jobs: number
  /** Whether what belongs to the database and is not in a dump of it goes with it. */
  readonly globals: boolean | 'only'
  readonly args: readonly string[]
  readonly allowEmpty: boolean
  /** Of an archive, which people unpack. */
  readonly isPart: boolean
  /** Where the client programs are; undefined: the usual places. */
  readonly clients: string | undefined
  /** The names under which our programs are connected now: `whySilent` looks for them. */
  readonly running: Map<string, Connection>
}

/**
 * Holds one moment of a database: a transaction that exported its snapshot (PostgreSQL docs, "Snapshot Synchronization
 * Functions"), which pg_dump and the census see through. Throws a Failure leaving nothing open; also for a database that
 * holds nothing, or that the role may not read as a whole.
 */
export async function openSession(options: SessionOptions, ctx: Context): Promise<Session> {
  const watches = new AsyncDisposableStack()
  const held = await hold(options, watches, ctx)
  const ping = setInterval(() => held.db.rows('SELECT 1').catch(() => {}), pingMs).unref()
  const warnings: Warning[] = [...warningsOf(held), ...aheadOfServer(held, options, ctx)]
  return {
    concurrency: 1,
    async *artifacts() {
      const { snapshot, facts } = held
      if (options.globals !== 'only')
        yield databaseArtifact(held.dumping, {
          ...{ ...options, snapshot },
          ...{ bytes: facts.bytes, encoding: facts.options.encoding },
        })
      if (!options.globals) return
      yield globalsArtifact(held.dumping, facts.options.encoding)
      if (options.globals === 'only') return
      const settings = await databaseSettings(held.db)
      if (settings !== '') yield settingsArtifact(settings)
    },
    census: () => census(held, options.census, warnings, ctx),
    finish: () => finish(held, options, warnings),
    async [Symbol.asyncDispose]() {
      clearInterval(ping)
      await watches.disposeAsync()
      await held.db.close()
    },
  }
}

async function hold(o: SessionOptions, watches: AsyncDisposableStack, ctx: Context): Promise<Held> {
  const db = await connect(o.connection, 'cairn', ctx)
  try {
    // Of several hosts, the one that answered: the snapshot is there.
    const { connection } = db
    const { num } = await serverVersion(db)
    const purpose = `back up ${showConnection(connection)}`
    const clients = await chooseClients(majorOf(num), purpose, o.clients, ctx)
    const client = await clientVersion(clients.path('pg_dump'), ctx)
    if (!o.allowEmpty) await mustHoldSomething(db)
    await db.rows('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
    const { snapshot, at } = await db.one<{ snapshot: string; at: Date }>(
      'SELECT pg_export_snapshot() AS snapshot, now() AS at',
    )
    const facts = await databaseFacts(db, num)
    const { standby, rolePasswords } = facts
    const partial = partialArguments(o.args, false)
    if (partial.length === 0) await mustReadAll(db)
    const unseen = await unseenBy(db, num)
    const shared = { args: o.args, running: o.running, watches }
    const dumping = { connection, num, clients, standby, rolePasswords, ...shared }
    return { db, dumping, snapshot, at, facts, unseen, client, partial }
  } catch (error) {
    await db.close()
    throw error
  }
}

/** Throws a usage Failure for a database that holds nothing: usually it is the wrong one. */
export async function mustHoldSomething(db: Database): Promise<void> {
  if (!(await isEmpty(db))) return
  throw usage(
    `cannot back up ${showConnection(db.connection)}`,
    'the database is empty',
    'check that it is the right one; if it is, say allowEmpty: true',
  )
}

function warningsOf({ facts, unseen, partial }: Held): Warning[] {
  const warnings = [...facts.warnings]
  if (partial.length > 0)
    warnings.push({ what: `only a part of the database is dumped: ${partial.join(' ')}` })
  for (const name of unseen)
    warnings.push({ what: `this role may not see all of it, so that it is not saved whole: ${name}` })
  return warnings
}

/** Told at once, and in the manifest. */
function aheadOfServer({ dumping }: Held, { isPart, globals }: SessionOptions, ctx: Context): Warning[] {
  const major = majorOf(dumping.num)
  if (!isPart || globals === 'only' || !isAheadOf(major, dumping.clients)) return []
  const advice = aheadAdvice(major, dumping.clients)
  ctx.emit({ type: 'warning', ...advice })
  return [{ what: `${advice.what}: ${advice.why}` }]
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
 * with a warning. Of a part there is none: it would promise rows that are not in the dump.
 */
async function census(held: Held, level: CensusLevel, warnings: Warning[], ctx: Context): Promise<Census> {
  const none: Census = { level: 'none', at: 'snapshot', objects: [], unseen: [] }
  if (level === 'none' || held.partial.length > 0) return none
  try {
    const { connection, num } = held.dumping
    const name = applicationName('census')
    // A row count waits for locks too.
    await using db = await connect(noticingItsEnd(connection, num), name, ctx)
    await using _watched = watch(connection, name, 'the census', ctx)
    await db.rows('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
    await db.rows(`SET TRANSACTION SNAPSHOT ${quoteText(held.snapshot)}`)
    const taken = await takeCensus(db, level, ctx.alive)
    return { ...taken, unseen: [...taken.unseen, ...held.unseen] }
  } catch (error) {
    ctx.signal.throwIfAborted()
    warnings.push({ what: `there is no census: ${(error as Error).message}` })
    return none
  }
}

/** The last word: the snapshot was held until now, so everything shows the one moment. */
async function finish(held: Held, o: SessionOptions, warnings: readonly Warning[]): Promise<SourceFacts> {
  try {
    await held.db.rows('SELECT 1')
  } catch (error) {
    throw new Failure({
      what: `the snapshot of ${showConnection(held.db.connection)} was lost`,
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
    options: {
      ...held.facts.options,
      format: o.format,
      clientMajor: held.dumping.clients.major,
      ...(o.args.length > 0 ? { args: o.args, partial: held.partial.length > 0 } : {}),
    },
    warnings,
  }
}
