import type { Context } from '../../model/context.ts'
import { asFailure } from '../../model/failure.ts'
import type { CensusLevel, Inspection, Session, Source, Unit } from '../../model/source.ts'
import type { Advice } from '../../model/step.ts'
import { whySilent } from './activity.ts'
import { aheadAdvice, chooseClients, isAheadOf, majorOf } from './clients.ts'
import { connect } from './connect.ts'
import { type Connection, onDatabase, resolveConnection } from './connection.ts'
import { inspectDatabases } from './databases.ts'
import type { PostgresOptions } from './options.ts'
import { identityOf, serverVersion } from './server.ts'
import { mustHoldSomething, openSession } from './session.ts'
import { inspectWhole, openWhole } from './whole.ts'

/** Databases of a PostgreSQL server and the server's globals, dumped by PostgreSQL's own programs. */
export function sourceOf(options: PostgresOptions, isPart = false): Source {
  const running = new Map<string, Connection>()
  const open = async (unit: Unit, census: CensusLevel, ctx: Context): Promise<Session> => {
    const { clients, args, format, globals, jobs = 1 } = options
    const connection = await resolveConnection(options)
    const common = { census, clients, args, running }
    if (options.whole) return await openWhole({ connection, ...common }, ctx)
    const allowEmpty = mayBeEmpty(options, unit)
    return await openSession(
      { connection: onDatabase(connection, unit.name), ...common, format, globals, jobs, allowEmpty, isPart },
      ctx,
    )
  }
  return {
    engine: 'postgres',
    async inspect(ctx) {
      const connection = await resolveConnection(options)
      if (options.whole) return await inspectWhole(connection, ctx)
      if (options.databases === undefined) return await inspectOne(connection, options, isPart, ctx)
      const all = options.databases === 'all'
      const wanted = all ? { exclude: options.exclude ?? [] } : { names: options.databases as string[] }
      return await inspectDatabases(connection, wanted, ctx)
    },
    /** Missing client programs, databases and privileges show when the moment of the backup is taken. */
    async check(unit, ctx) {
      try {
        // What it has to say, `inspect` has said as advice.
        await using _session = await open(unit, 'none', { ...ctx, emit: () => {} })
        return []
      } catch (error) {
        ctx.signal.throwIfAborted()
        return [asFailure(error, `cannot back up the database ${unit.name}`)]
      }
    },
    open: (unit, _parent, census, ctx) => open(unit, census, ctx),
    async whySilent(ctx) {
      const [connection] = running.values()
      return connection ? await whySilent(connection, [...running.keys()], ctx) : ''
    },
  }
}

/** Every server comes with an empty database `postgres`: among all of them it is no mistake. */
function mayBeEmpty({ allowEmpty, databases }: PostgresOptions, unit: Unit): boolean {
  return allowEmpty || (databases === 'all' && unit.name === 'postgres')
}

async function inspectOne(
  connection: Connection,
  options: PostgresOptions,
  isPart: boolean,
  ctx: Context,
): Promise<Inspection> {
  await using db = await connect(connection, 'cairn', ctx)
  const version = await serverVersion(db)
  if (!options.allowEmpty) await mustHoldSomething(db)
  const { bytes } = await db.one<{ bytes: number }>(
    'SELECT pg_database_size(current_database())::float8 AS bytes',
  )
  return {
    identity: await identityOf(db, connection),
    version: version.text,
    units: [{ name: connection.database }],
    estimate: bytes,
    ...(isPart ? { advice: await adviceFor(majorOf(version.num), options, ctx) } : {}),
  }
}

/** Where there are no clients at all, the dump says so. */
async function adviceFor(
  major: number,
  { clients, globals }: PostgresOptions,
  ctx: Context,
): Promise<Advice[]> {
  if (globals === 'only') return []
  const chosen = await chooseClients(major, '', clients, ctx).catch(() => null)
  return chosen && isAheadOf(major, chosen) ? [aheadAdvice(major, chosen)] : []
}
