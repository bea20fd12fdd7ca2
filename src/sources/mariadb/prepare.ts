import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { ArtifactRecord, Manifest } from '../../model/manifest.ts'
import type { ArtifactReader, Selection } from '../../model/restore.ts'
import type { SecretSource } from '../../platform/secret-source.ts'
import { type Clients, chooseClients } from './clients.ts'
import {
  type Connection,
  type ConnectionOptions,
  type Flavour,
  flavourNames,
  resolveConnection,
  showConnection,
} from './connection.ts'
import { demandKnown, surveyDump } from './known.ts'
import { leftOver } from './loading-session.ts'
import { type Reached, reach, systemDatabases } from './server.ts'
import { showName } from './sql.ts'
import { besides, type Goal, leftBeside, survey } from './target.ts'

export interface RestorerOptions {
  /** Where it goes: `mysql://user@host/newname`. What the URL lacks is taken from the source, on the same server. */
  readonly target?: SecretSource | undefined
  readonly source?: (ConnectionOptions & { readonly database?: string | undefined }) | undefined
  readonly clients?: string | undefined
}

/** Everything that a restore decides before it writes. */
export interface Prepared {
  readonly server: Reached
  readonly clients: Clients
  /** Where the programs were looked for. */
  readonly folder: string | undefined
  readonly manifest: Manifest
  readonly data: ArtifactRecord | null
  readonly accounts: ArtifactRecord | null
  /** Whether accounts that stand in the dump itself are wanted. */
  readonly hasInside: boolean
  /** Where the tables of the server itself are loaded that are wanted of another tool's dump; null where none are. */
  readonly own: string | null
  /** True for a dump of several databases, which are found when it is read. */
  readonly isWhole: boolean
  readonly wanted: Wanted
  /** The database that a URL named. */
  readonly renamed: string | undefined
  /** Where each database goes; of a whole dump only those that are there or were named. */
  readonly goals: readonly Goal[]
  readonly warnings: readonly string[]
}

/** What was asked for by --only: databases of the backup, with some of their tables or all; null: everything. */
type Wanted = ReadonlyMap<string, ReadonlySet<string> | undefined> | null

/** Looks at the backup and at the target; changes nothing. Throws a Failure for what cannot be restored. */
export async function prepare(
  flavour: Flavour,
  options: RestorerOptions,
  chain: readonly Manifest[],
  pick: Selection,
  ctx: Context,
  read: ArtifactReader | undefined,
): Promise<Prepared> {
  const manifest = chain.at(-1)
  if (manifest?.source.engine !== flavour || !['logical', 'foreign'].includes(manifest.kind))
    throw usage('cannot restore', `this is not a backup of ${flavourNames[flavour]}`, 'choose another backup')
  const isWhole = manifest.source.options.scope === 'whole'
  const { data, accounts, wanted } = picked(manifest, isWhole, pick)
  if (wanted && read) await demandKnown(manifest, wanted, read, ctx)
  const connection = await targetOf(flavour, options)
  const server = await reach(connection, options.clients, ctx)
  const clients = chooseClients(
    server.found,
    server.facts.series,
    `restore into ${showConnection(connection)}`,
  )
  const p = {
    server,
    clients,
    folder: options.clients,
    manifest,
    data,
    accounts,
    hasInside: data !== null && pick.only === undefined && manifest.source.options.globals === 'inside',
    own: null,
    isWhole,
    wanted,
    renamed: connection.database,
  }
  if (!data) return { ...p, goals: [], warnings: [] }
  const { names, left, hasAccounts, hasOwn } = await namesOf(p, data, read, ctx)
  const goals = await goalsOf(p, names, ctx)
  const beside = goals.flatMap(({ target }) => leftBeside(server, target))
  return {
    ...p,
    hasInside: p.hasInside || (pick.only === undefined && hasAccounts),
    own: pick.only === undefined && hasOwn ? besides('mysql') : null,
    goals,
    warnings: [...obstacles(server, manifest), ...left, ...beside],
  }
}

/** The databases to restore; and what is said of those that are not. */
async function namesOf(
  { isWhole, wanted, manifest, server }: Pick<Prepared, 'isWhole' | 'wanted' | 'manifest' | 'server'>,
  data: ArtifactRecord,
  read: ArtifactReader | undefined,
  ctx: Context,
): Promise<{ names: string[]; left: string[]; hasAccounts: boolean; hasOwn: boolean }> {
  const known = (names: string[]) => ({ names, left: [], hasAccounts: false, hasOwn: false })
  if (!isWhole) return known([manifest.unit])
  if (wanted) return known([...wanted.keys()])
  const listed = listedDatabases(manifest)
  if (listed.length > 0 || !read) return known(listed)
  const { databases: found, hasAccounts, hasOwn } = await surveyDump(data, read, ctx)
  const own = (name: string): boolean => systemDatabases.includes(name.toLowerCase())
  const users = hasOwn && server.connection.flavour === 'mariadb'
  const them = users ? ', but for users, privileges and routines' : ', and with them users and privileges'
  const left = found.some(own)
    ? [
        `the server's own databases in the dump${them}, are not restored: mariadb itself brings them, from what cairn cat writes, and FLUSH PRIVILEGES`,
      ]
    : []
  return { names: found.filter(name => !own(name)), left, hasAccounts, hasOwn: users }
}

/** What of the backup is wanted. Names are of artifacts, else of databases, else of tables (`orders`, `shop.orders`). */
function picked(manifest: Manifest, isWhole: boolean, { only }: Selection) {
  const data = manifest.artifacts.find(artifact => artifact.role === 'data') ?? null
  const accounts = manifest.artifacts.find(artifact => artifact.role === 'globals') ?? null
  if (only === undefined) return { data, accounts, wanted: null }
  const artifacts = only.filter(name => manifest.artifacts.some(artifact => artifact.name === name))
  const inside = only.filter(name => !artifacts.includes(name))
  if (inside.length === 0) {
    const chosen = {
      data: data && artifacts.includes(data.name) ? data : null,
      accounts: accounts && artifacts.includes(accounts.name) ? accounts : null,
    }
    if (!chosen.data && !chosen.accounts)
      throw usage('cannot restore', 'nothing of what was named can be restored', 'name the data')
    return { ...chosen, wanted: null }
  }
  const wanted = new Map<string, Set<string> | undefined>()
  for (const name of inside) {
    const [database, table] = isWhole ? partsOf(name) : tableOf(name, manifest.unit)
    const before = wanted.get(database)
    if (table === undefined || (wanted.has(database) && !before)) wanted.set(database, undefined)
    else wanted.set(database, (before ?? new Set()).add(table))
  }
  return { data, accounts: accounts && artifacts.includes(accounts.name) ? accounts : null, wanted }
}

function partsOf(name: string): [string, string | undefined] {
  const dot = name.indexOf('.')
  return dot < 0 ? [name, undefined] : [name.slice(0, dot), name.slice(dot + 1)]
}

function tableOf(name: string, unit: string): [string, string | undefined] {
  if (name === unit) return [unit, undefined]
  return [unit, name.startsWith(`${unit}.`) ? name.slice(unit.length + 1) : name]
}

/** A target on the source's own server needs no second password. */
async function targetOf(flavour: Flavour, { target, source }: RestorerOptions): Promise<Connection> {
  // On another machine the secret that the job's own options name may not be there; a target can do without.
  const own =
    source &&
    (await resolveConnection(flavour, source).catch(error => (target ? undefined : Promise.reject(error))))
  if (!target) return { ...(own ?? (await resolveConnection(flavour, {}))), database: undefined }
  const said = await resolveConnection(flavour, { url: target })
  if (!own) return said
  const port = (connection: Connection): number => connection.port ?? 3306
  const isNoPlace = said.host === undefined && said.socket === undefined
  const isSameServer =
    isNoPlace ||
    (said.host === (own.host ?? own.fallbackHost) && port(said) === port(own) && said.socket === own.socket)
  if (!isSameServer || (said.user !== undefined && said.user !== own.user)) return said
  return {
    ...own,
    password: said.password ?? own.password,
    ssl: said.ssl ?? own.ssl,
    database: said.database,
  }
}

function obstacles(server: Reached, manifest: Manifest): string[] {
  const packet = Number(manifest.source.options.maxAllowedPacket ?? 0)
  const { maxAllowedPacket } = server.facts
  const left = leftOver(server)
  if (packet <= maxAllowedPacket) return left
  return [
    ...left,
    `max_allowed_packet is ${maxAllowedPacket} at the target and was ${packet} at the source: rows larger than that fail (SET GLOBAL max_allowed_packet = ${packet})`,
  ]
}

/** The targets that are known before the dump is read. */
async function goalsOf(
  p: Omit<Prepared, 'goals' | 'warnings'>,
  named: readonly string[],
  ctx: Context,
): Promise<Goal[]> {
  const { server, wanted, renamed } = p
  if (renamed !== undefined && named.length !== 1)
    throw usage(
      'cannot restore',
      `the target names the database ${renamed}, and the backup holds several`,
      'leave the name out of --to, or name one database with --only',
    )
  const goals: Goal[] = []
  for (const name of named) goals.push(await survey(server, name, renamed ?? name, wanted?.get(name), ctx))
  const twice = goals.find((goal, index) => goals.findIndex(each => each.target === goal.target) < index)
  if (twice)
    throw usage(
      'cannot restore',
      `to the target's server, ${goals.flatMap(each => (each.target === twice.target ? [showName(each.from)] : [])).join(' and ')} are one database`,
      'restore each by itself, with --only, under another name',
    )
  return goals
}

function listedDatabases(manifest: Manifest): string[] {
  const { databases } = manifest.source.options
  return Array.isArray(databases) ? databases.map(String) : []
}
