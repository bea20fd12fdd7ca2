import type { Context } from '../../model/context.ts'
import { Failure, usage } from '../../model/failure.ts'
import type { Inspection, Source, Unit } from '../../model/source.ts'
import { whySilent } from './activity.ts'
import { ask } from './ask.ts'
import { chooseClients } from './clients.ts'
import {
  type Connection,
  type Flavour,
  flavourNames,
  resolveConnection,
  showConnection,
} from './connection.ts'
import type { Scope } from './dump.ts'
import type { MariadbOptions } from './options.ts'
import { lackingPrivileges, type Reached, reach, sizeOf } from './server.ts'
import { openSession } from './session.ts'
import { quoteName } from './sql.ts'

const wholeUnit = 'all'

/** Databases of a MariaDB or MySQL server and the server's accounts, dumped by that product's own programs. */
export function sourceOf(flavour: Flavour, options: MariadbOptions): Source {
  const server = async (ctx: Context): Promise<Reached> => {
    const connection = await resolveConnection(flavour, options)
    return await reach(connection, options.clients, ctx, namedIn(connection, options) ?? [])
  }
  let reached: Reached | null = null
  return {
    engine: flavour,
    async inspect(ctx) {
      reached = await server(ctx)
      return await inspect(reached, options, ctx)
    },
    async open(unit, _parent, census, ctx) {
      ctx.signal.throwIfAborted()
      // What inspect found a moment ago need not be asked again.
      reached ??= await server(ctx)
      const scope = scopeOf(unit, reached, options)
      const { args, globals } = options
      return await openSession({ server: reached, scope, unit: unit.name, census, args, globals }, ctx)
    },
    whySilent: async ctx => (reached ? await whySilent(reached, ctx) : ''),
  }
}

async function inspect(server: Reached, options: MariadbOptions, ctx: Context): Promise<Inspection> {
  const { facts, connection } = server
  chooseClients(server.found, facts.series, `back up ${showConnection(connection)}`)
  const names = unitNames(server, options)
  const databases = options.whole ? wholeDatabases(server, options) : names
  const there = databases.filter(name => facts.databases.has(name))
  // Of several, one that is missing fails alone, when it is opened.
  if (there.length === 0) throw missing(server, databases[0] ?? '')
  for (const name of there) demandPrivileges(server, name)
  const isNamed = namedIn(connection, options) !== null
  const units = names.map(
    (name): Unit => ({ name, identity: `${facts.identity}/${encodeURIComponent(name)}` }),
  )
  return {
    identity: units.length === 1 && units[0]?.identity ? units[0].identity : facts.identity,
    version: facts.version,
    units,
    estimate: isNamed ? server.namedBytes : await bytesOf(there, server, ctx),
  }
}

async function bytesOf(databases: readonly string[], server: Reached, ctx: Context): Promise<number> {
  const [[size] = []] = await ask(server, [sizeOf(databases)], ctx)
  return Number(size?.[0] ?? 0)
}

/** The databases that the options or the URL name; null where the server says which there are. */
function namedIn(connection: Connection, options: MariadbOptions): string[] | null {
  if (options.whole || options.databases === 'all') return null
  const one = options.database ?? connection.database
  return [...new Set(options.databases ?? (one === undefined ? [] : [one]))]
}

function unitNames(server: Reached, options: MariadbOptions): string[] {
  if (options.whole) return [wholeUnit]
  const named = namedIn(server.connection, options)
  if (named === null) return wholeDatabases(server, options)
  if (named.length > 0) return named
  throw usage(
    `cannot back up ${showConnection(server.connection)}`,
    'no database was named',
    'say database: NAME, databases: all, or whole: true',
  )
}

function wholeDatabases({ facts, connection }: Reached, { exclude }: MariadbOptions): string[] {
  const names = [...facts.databases.keys()].filter(name => !exclude.includes(name)).sort()
  if (names.length > 0) return names
  throw usage(
    `cannot back up ${showConnection(connection)}`,
    'there is no database that this user may see and that is not left out',
    'check the server, the user and "exclude"',
  )
}

/** Throws for a unit whose database is not there. */
function scopeOf(unit: Unit, server: Reached, options: MariadbOptions): Scope {
  if (options.whole) return { databases: wholeDatabases(server, options), named: true }
  if (!server.facts.databases.has(unit.name)) throw missing(server, unit.name)
  return { databases: [unit.name], named: options.createDatabase }
}

function missing({ connection, facts }: Reached, name: string): Failure {
  const there = [...facts.databases.keys()].slice(0, 20).join(', ')
  return new Failure({
    what: `cannot back up ${showConnection(connection, name)}`,
    why: `there is no database ${JSON.stringify(name)} that this user may see`,
    remedy:
      there === '' ? 'check its name, and GRANT the user its rights' : `check its name; there are ${there}`,
  })
}

function demandPrivileges({ connection, facts }: Reached, database: string): void {
  const lacking = lackingPrivileges(facts.grants, database)
  if (lacking.length === 0) return
  throw new Failure({
    what: `cannot back up ${showConnection(connection, database)}`,
    why: `the user has not all that a whole dump takes: ${lacking.join(', ')} on ${quoteName(database)}`,
    remedy: `GRANT ${lacking.join(', ')} ON ${quoteName(database)}.* TO the user; at ${flavourNames[connection.flavour]} what may not be seen is left out of dumps without a word`,
  })
}
