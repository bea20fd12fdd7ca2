import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { CensusLevel, Inspection, Session, Source, Unit } from '../../model/source.ts'
import { listDatabases } from './inventory.ts'
import type { MongodbOptions } from './options.ts'
import { connect, type Server } from './server.ts'
import { missing, openSession, sizeOf } from './session.ts'

const wholeUnit = 'all'

/** The driver is loaded with this file. */
export function sourceOf(options: MongodbOptions): Source {
  return {
    engine: 'mongodb',
    inspect: ctx => inspect(options, ctx),
    open: (unit, _parent, census, ctx) => open(options, unit, census, ctx),
  }
}

async function inspect(options: MongodbOptions, ctx: Context): Promise<Inspection> {
  await using server = await reach(options, ctx)
  const named = namedIn(options, server)
  const there = await listDatabases(server)
  const databases = named ?? allOf(there, options, server)
  const found = databases.filter(name => there.has(name))
  // Of several, one that is missing fails alone, when it is opened.
  if (found.length === 0) throw missing(server, databases[0] ?? '', [...there.keys()])
  const identity = identityOf(server)
  const units = (options.whole ? [wholeUnit] : databases).map(
    (name): Unit => ({ name, identity: `${identity}/${encodeURIComponent(name)}` }),
  )
  return {
    identity: units.length === 1 && units[0]?.identity ? units[0].identity : identity,
    local: server.hosts.some(isLocal),
    version: server.version,
    units,
    estimate: await sizeOf(server, found),
  }
}

async function open(
  options: MongodbOptions,
  unit: Unit,
  census: CensusLevel,
  ctx: Context,
): Promise<Session> {
  ctx.signal.throwIfAborted()
  const server = await reach(options, ctx)
  try {
    const databases = await databasesOf(options, unit, server)
    return await openSession(
      { ...options, snapshot: options.snapshot, server, databases, unit: unit.name, census },
      ctx,
    )
  } catch (error) {
    await server[Symbol.asyncDispose]()
    throw error
  }
}

/** Throws for a unit whose database is not there. */
async function databasesOf(options: MongodbOptions, unit: Unit, server: Server): Promise<string[]> {
  const there = await listDatabases(server)
  if (options.whole) return allOf(there, options, server)
  if (!there.has(unit.name)) throw missing(server, unit.name, [...there.keys()])
  return [unit.name]
}

async function reach(options: MongodbOptions, ctx: Context): Promise<Server> {
  return await connect(await options.uri.read(), options.uri.where, ctx)
}

/** Null: all. A URI with admin says where the user is looked up. */
function namedIn(o: MongodbOptions, { database }: Server): string[] | null {
  if (o.whole || o.databases === 'all') return null
  if (o.databases) return [...new Set(o.databases)]
  const one = o.database ?? (database === 'admin' ? undefined : database)
  return one === undefined ? null : [one]
}

function allOf(there: ReadonlyMap<string, number>, { exclude }: MongodbOptions, server: Server): string[] {
  const names = [...there.keys()].filter(name => !exclude.includes(name))
  if (names.length > 0) return names
  throw usage(
    `cannot back up ${server.where}`,
    'there is no database that this user may see and that is not left out',
    'check the server, the user and "exclude"',
  )
}

/** The hosts of the URI: a server has no name of its own that a backup user may read. */
function identityOf({ hosts }: Server): string {
  return `mongodb:${hosts.toSorted().join(',')}`
}

function isLocal(host: string): boolean {
  return /^(localhost|127\.|\[::1\]|\/)/.test(host)
}
