import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { Warning } from '../../model/manifest.ts'
import type { Census, CensusLevel, Inspection, Session, SourceFacts } from '../../model/source.ts'
import { partialArguments } from './arguments.ts'
import { takeCensus } from './census.ts'
import { chooseClients, clientVersion, majorOf } from './clients.ts'
import { connect, type Database } from './connect.ts'
import { type Connection, onDatabase } from './connection.ts'
import { connectableDatabases, connectSomewhere, showServer } from './databases.ts'
import { type Dumping, wholeArtifact } from './dump.ts'
import { databaseFacts } from './facts.ts'
import { mustReadAll, unseenBy } from './readable.ts'
import { clusterOf, serverVersion } from './server.ts'
import type { SessionOptions } from './session.ts'

/** The unit of a whole server. */
const wholeUnit = 'all'

export async function inspectWhole(connection: Connection, ctx: Context): Promise<Inspection> {
  await using db = await connectSomewhere(connection, [], ctx)
  const version = await serverVersion(db)
  const { bytes } = await connectableDatabases(db)
  return {
    identity: await clusterOf(db, connection),
    version: version.text,
    units: [{ name: wholeUnit }],
    estimate: bytes,
  }
}

/** What was learnt of the server before it is dumped. */
interface Surveyed {
  readonly dumping: Dumping
  readonly client: string
  readonly names: readonly string[]
  readonly bytes: number
  readonly unseen: readonly string[]
  readonly options: Readonly<Record<string, unknown>>
  readonly warnings: Warning[]
}

/**
 * A whole server as pg_dumpall writes it. PostgreSQL has no snapshot across databases: each is consistent in itself, at
 * a moment between the begin and the end, and so is the census, which is taken beside. Throws a Failure leaving nothing
 * open.
 */
export async function openWhole(
  options: Omit<SessionOptions, 'format' | 'folder' | 'globals' | 'jobs' | 'allowEmpty' | 'isPart'>,
  ctx: Context,
): Promise<Session> {
  const watches = new AsyncDisposableStack()
  const begun = ctx.clock.now()
  const server = await survey(options, watches, ctx)
  return {
    concurrency: 1,
    async *artifacts() {
      yield wholeArtifact(server.dumping, server.bytes)
    },
    census: () => census(server, options, ctx),
    finish: async (): Promise<SourceFacts> => ({
      kind: 'logical',
      capturedAt: begun,
      // Nothing holds before the last database was read.
      consistentAt: ctx.clock.now(),
      client: server.client,
      options: server.options,
      warnings: server.warnings,
    }),
    [Symbol.asyncDispose]: () => watches.disposeAsync(),
  }
}

async function survey(
  o: Pick<SessionOptions, 'connection' | 'clients' | 'args' | 'running'>,
  watches: AsyncDisposableStack,
  ctx: Context,
): Promise<Surveyed> {
  await using db = await connectSomewhere(o.connection, [], ctx)
  const { num } = await serverVersion(db)
  const clients = await chooseClients(majorOf(num), `back up ${showServer(db.connection)}`, o.clients, ctx)
  const facts = await databaseFacts(db, num)
  const { names, closed, bytes } = await connectableDatabases(db)
  mustBeNameable(names, db.connection)
  const partial = partialArguments(o.args, true)
  const unseen: string[] = []
  if (partial.length === 0)
    for (const name of names) unseen.push(...(await seen(onDatabase(db.connection, name), num, ctx)))
  const warnings = [...facts.warnings]
  for (const name of closed)
    warnings.push({ what: `the database ${showDatabase(name)} is not in it: it allows no connections` })
  if (partial.length > 0) warnings.push({ what: `only a part of the server is dumped: ${partial.join(' ')}` })
  for (const name of unseen)
    warnings.push({ what: `this role may not see all of it, so that it is not saved whole: ${name}` })
  const { serverVersionNum, globals, roles } = facts.options
  return {
    dumping: {
      ...{ connection: db.connection, num, clients, args: o.args, running: o.running, watches },
      standby: facts.standby,
      rolePasswords: facts.rolePasswords,
    },
    client: await clientVersion(clients.path('pg_dumpall'), ctx),
    ...{ names, bytes, unseen, warnings },
    options: {
      ...{ serverVersionNum, globals, roles, format: 'plain', whole: true, clientMajor: clients.major },
      databases: names.slice(0, 200),
      ...(o.args.length > 0 ? { args: o.args, partial: partial.length > 0 } : {}),
    },
  }
}

/** pg_dumpall starts pg_dump by way of a shell, and refuses names that it cannot quote there. */
function mustBeNameable(names: readonly string[], connection: Connection): void {
  const name = names.find(each => /[\r\n]/.test(each))
  if (name !== undefined)
    throw usage(
      `cannot back up ${showServer(connection)}`,
      `pg_dumpall cannot take ${JSON.stringify(name)}: its name holds a line break`,
      'say "databases: all" instead of "whole", or rename the database',
    )
}

/** Throws when something in the database may not be read; returns what pg_dump would leave out silently. */
async function seen(connection: Connection, num: number, ctx: Context): Promise<string[]> {
  await using db = await connect(connection, 'cairn', ctx)
  await mustReadAll(db)
  return (await unseenBy(db, num)).map(name => `${showDatabase(connection.database)}: ${name}`)
}

/** Of all databases, one after the other; where one cannot be counted there is none, with a warning. */
async function census(
  server: Surveyed,
  { census: level }: { census: CensusLevel },
  ctx: Context,
): Promise<Census> {
  const none: Census = { level: 'none', at: 'near', objects: [], unseen: [] }
  if (level === 'none' || server.options.partial === true) return none
  const taken: Census[] = []
  try {
    for (const name of server.names) {
      await using db = await connect(onDatabase(server.dumping.connection, name), 'cairn', ctx)
      taken.push(named(name, await countIn(db, level, ctx)))
    }
  } catch (error) {
    ctx.signal.throwIfAborted()
    server.warnings.push({ what: `there is no census: ${(error as Error).message}` })
    return none
  }
  return {
    level,
    at: 'near',
    objects: taken.flatMap(each => each.objects),
    unseen: [...taken.flatMap(each => each.unseen), ...server.unseen],
  }
}

async function countIn(db: Database, level: CensusLevel, ctx: Context): Promise<Census> {
  await db.rows('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
  return await takeCensus(db, level, ctx.alive)
}

/** `shop: public.customers` */
function named(database: string, { objects, unseen, ...rest }: Census): Census {
  const prefix = `${showDatabase(database)}: `
  return {
    ...rest,
    objects: objects.map(({ name, rows }) => ({ name: prefix + name, rows })),
    unseen: unseen.map(name => prefix + name),
  }
}

function showDatabase(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`
}
