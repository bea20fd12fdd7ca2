import { createReadStream, createWriteStream, type WriteStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import type { Context } from '../../model/context.ts'
import { asFailure, usage } from '../../model/failure.ts'
import type { ArtifactRecord, Manifest } from '../../model/manifest.ts'
import type { ArtifactReader, RestorePlan, RestoreReport, Restorer, Selection } from '../../model/restore.ts'
import type { Program } from '../../model/step.ts'
import { flow, pour } from '../../platform/flow.ts'
import type { SecretSource } from '../../platform/secret-source.ts'
import { type Account, parseAccounts } from './accounts.ts'
import { ask, askEach, clientProgram } from './ask.ts'
import { takeCensus } from './census.ts'
import { type Clients, chooseClients } from './clients.ts'
import {
  type Connection,
  type ConnectionOptions,
  type Flavour,
  flavourNames,
  resolveConnection,
  showConnection,
} from './connection.ts'
import { dumpProgram } from './dump.ts'
import { judged } from './explain.ts'
import { takeInventory } from './inventory.ts'
import { type Met, nothingMet, type Redirection, redirect } from './redirect.ts'
import { type Reached, reach } from './server.ts'
import { quoteName, showName } from './sql.ts'
import { clearAway, type Goal, moveIn, putBack, survey } from './target.ts'

export interface RestorerOptions {
  /** Where it goes: `mysql://user@host/newname`. What the URL lacks is taken from the source, on the same server. */
  readonly target?: SecretSource | undefined
  readonly source?: (ConnectionOptions & { readonly database?: string | undefined }) | undefined
  readonly clients?: string | undefined
}

/** Everything that a restore decides before it writes. */
interface Prepared {
  readonly server: Reached
  readonly clients: Clients
  /** Where the programs were looked for. */
  readonly folder: string | undefined
  readonly manifest: Manifest
  readonly data: ArtifactRecord | null
  readonly accounts: ArtifactRecord | null
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

/**
 * Brings databases back. MariaDB and MySQL commit every definition by itself, so the tables are loaded into a scratch database
 * beside the target, and moved in by one RENAME TABLE when everything was read whole and right; views, triggers, routines and
 * events are made then. What goes wrong before that leaves the target untouched; what goes wrong after is undone: what was
 * replaced lies in another database until the restore stands. Killed in between, it stays there, under its telling name.
 */
export function restorerOf(flavour: Flavour, options: RestorerOptions): Pick<Restorer, 'plan' | 'apply'> {
  return {
    async plan(chain, pick, ctx) {
      return planOf(await prepare(flavour, options, chain, pick, ctx))
    },
    async apply(chain, pick, replace, read, ctx) {
      return await apply(await prepare(flavour, options, chain, pick, ctx), replace, read, ctx)
    },
  }
}

async function prepare(
  flavour: Flavour,
  options: RestorerOptions,
  chain: readonly Manifest[],
  pick: Selection,
  ctx: Context,
): Promise<Prepared> {
  const manifest = chain.at(-1)
  if (manifest?.source.engine !== flavour || !['logical', 'foreign'].includes(manifest.kind))
    throw usage('cannot restore', `this is not a backup of ${flavourNames[flavour]}`, 'choose another backup')
  const isWhole = manifest.source.options.scope === 'whole'
  const { data, accounts, wanted } = picked(manifest, isWhole, pick)
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
    isWhole,
    wanted,
    renamed: connection.database,
  }
  return { ...p, goals: data ? await goalsOf(p, ctx) : [], warnings: data ? obstacles(server, manifest) : [] }
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
    isNoPlace || (said.host === own.host && port(said) === port(own) && said.socket === own.socket)
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
  if (packet <= maxAllowedPacket) return []
  return [
    `max_allowed_packet is ${maxAllowedPacket} at the target and was ${packet} at the source: rows larger than that fail (SET GLOBAL max_allowed_packet = ${packet})`,
  ]
}

/** The targets that are known before the dump is read. */
async function goalsOf(p: Omit<Prepared, 'goals' | 'warnings'>, ctx: Context): Promise<Goal[]> {
  const { server, manifest, wanted, renamed, isWhole } = p
  const named = isWhole ? (wanted ? [...wanted.keys()] : listedDatabases(manifest)) : [manifest.unit]
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

function planOf(p: Prepared): RestorePlan {
  const { server, goals, data, accounts, clients, wanted } = p
  const steps: string[] = []
  const replaces = goals.flatMap(goal => goal.replaces)
  if (data) {
    steps.push(
      `loads ${data.name} with ${clients.version.replace(/-dump|dump/, '')}, into ${goals.map(goal => showName(goal.scratch)).join(', ')}`,
    )
    for (const goal of goals) {
      if (goal.state === 'absent') steps.push(`creates the database ${showName(goal.target)}`)
      if (goal.replaces.length > 0)
        steps.push(
          goal.tables
            ? `replaces the tables of ${showName(goal.target)} that were named`
            : `drops all that is in ${showName(goal.target)}, also what the backup does not hold`,
        )
    }
    steps.push(
      `when all of it was read right, moves the tables in at once, then makes ${wanted && [...wanted.values()].every(Boolean) ? 'their triggers' : 'views, triggers, routines and events'}`,
    )
    if (replaces.length > 0)
      steps.push(
        'this last part is not atomic: if it is killed, what was there is in a database named ..._cairn_before_...',
      )
    steps.push('counts the rows')
  }
  if (accounts)
    steps.push('creates the accounts that are missing, with their privileges; existing ones stay as they are')
  return {
    target: showConnection(server.connection, goals.length === 1 ? goals[0]?.target : undefined),
    steps,
    replaces,
    warnings: p.warnings,
  }
}

async function apply(
  p: Prepared,
  replace: boolean,
  read: ArtifactReader,
  ctx: Context,
): Promise<RestoreReport> {
  const { server, goals } = p
  const target = planOf(p).target
  const used = goals.find(goal => goal.replaces.length > 0)
  if (used && !replace)
    throw usage(
      `cannot restore into ${target}`,
      'it is not empty',
      'restore into a new database, or give consent',
    )
  const accounts = p.accounts ? await missingAccounts(p.accounts, server, read, ctx) : null
  const warnings = [...p.warnings, ...(accounts?.warnings ?? [])]
  if (!p.data) {
    if (accounts) warnings.push(...(await createAccounts(server, accounts.missing, ctx)))
    return { target, objects: null, rows: null, warnings }
  }
  warnings.push(...(await bring({ ...p, data: p.data }, read, ctx)))
  if (accounts) warnings.push(...(await createAccounts(server, accounts.missing, ctx)))
  return { target, ...(await counted(p, warnings, ctx)), warnings }
}

/** Loads, moves in, defines. Returns warnings; whatever it throws, the target is as it was. */
async function bring(
  p: Prepared & { readonly data: ArtifactRecord },
  read: ArtifactReader,
  ctx: Context,
): Promise<string[]> {
  const { server, goals } = p
  const folder = await mkdtemp(join(ctx.spool, 'definitions-'))
  const met = nothingMet()
  /** What is in the database aside, and in the folder, is all there is left when putting it back failed. */
  let isLost = false
  try {
    const late = join(folder, 'new.sql')
    await load(p, met, late, read, ctx)
    demandFound(p, met)
    await recheck(p, ctx)
    const before = await saveDefinitions(p, folder, ctx)
    const tables = new Map([...met.databases].map(([name, { tables: loaded }]) => [name, loaded]))
    const made = new Set<Goal>()
    try {
      await moveIn(server, goals, tables, goal => charsetOf(p, goal, met), made, ctx)
      await define(p, late, ctx)
    } catch (error) {
      const redefine =
        before === null ? null : { script: before, run: (inner: Context) => define(p, before, inner) }
      isLost = true
      await putBack(server, goals, tables, redefine, made, ctx)
      isLost = false
      throw error
    }
    return met.naming.size === 0
      ? []
      : [`${[...met.naming].join(', ')}: names the database ${p.manifest.unit} itself, and was left as it is`]
  } finally {
    if (!isLost) await rm(folder, { recursive: true, force: true })
    await clearAway(
      server,
      goals.flatMap(goal => (isLost ? [goal.scratch] : [goal.scratch, goal.aside])),
      ctx,
    ).catch(error => {
      const { why } = asFailure(error, '')
      const names = goals.map(goal => goal.scratch).join(', ')
      ctx.emit({ type: 'warning', what: `cannot drop ${names}`, why, remedy: 'drop it by hand' })
    })
  }
}

async function load(
  p: Prepared & { readonly data: ArtifactRecord },
  met: Met,
  late: string,
  read: ArtifactReader,
  ctx: Context,
): Promise<void> {
  const { server, goals, isWhole, manifest, data } = p
  const [first] = goals
  if (!first) throw usage('cannot restore', 'the backup names no database', 'name them with --only')
  if (!isWhole)
    await ask(server, [`CREATE DATABASE ${quoteName(first.scratch)}${charsetOf(p, first, met)}`], ctx)
  const file = spoolFile(late)
  const filter = redirect(redirection(goals, manifest.unit, isWhole, file), met)
  await read.into(data, loader(p, isWhole ? '' : first.scratch), { prologue: prologue() }, [filter])
  await finished(file.end())
}

/** Its errors show where it is waited for. */
function spoolFile(path: string): WriteStream {
  return createWriteStream(path, { mode: 0o600, flags: 'wx' }).on('error', () => {})
}

function redirection(
  goals: readonly Goal[],
  unit: string,
  isWhole: boolean,
  late: Redirection['late'],
): Redirection {
  const routes = new Map(goals.map(goal => [goal.from, goal]))
  return { unit: isWhole ? '' : unit, route: name => routes.get(name), late, makesDatabases: isWhole }
}

/** The server's client, which reads statements; it ends with the first that fails. */
function loader({ server, clients }: Prepared, database: string): Program {
  const more = ['--max-allowed-packet=1G', ...(database === '' ? [] : [`--database=${database}`])]
  return {
    ...clientProgram({ ...server, clients }, more),
    judge: judged(clients.flavour),
  }
}

async function* prologue() {
  yield Buffer.from('SET NAMES utf8mb4;\nSET SESSION foreign_key_checks = 0, unique_checks = 0;\n')
}

/** Every database and table that was asked for must have been there. */
function demandFound({ wanted, goals, isWhole }: Prepared, met: Met): void {
  for (const { from, tables } of goals) {
    const found = met.databases.get(from)
    const missing = !found ? [from] : [...(tables ?? [])].filter(name => !found.tables.has(name))
    const [name] = missing
    if (name === undefined) continue
    const isView = met.views.get(from)?.has(name) === true
    throw usage(
      `cannot restore only ${showName(name)}`,
      isView
        ? 'it is a view'
        : isWhole && !found
          ? 'the backup has no such database'
          : 'the backup has no such table',
      isView || wanted === null
        ? 'restore the whole database'
        : 'cairn cat ... census.json lists what it has',
    )
  }
}

/** What the plan found may be otherwise by now. */
async function recheck({ server, goals, folder }: Prepared, ctx: Context): Promise<void> {
  const now = await reach(server.connection, folder, ctx)
  for (const goal of goals) {
    const { state, replaces } = await survey(now, goal.from, goal.target, goal.tables, ctx)
    if (state === goal.state && replaces.join() === goal.replaces.join()) continue
    throw usage(
      `cannot restore into ${showConnection(server.connection, goal.target)}`,
      'it was changed while the backup was read',
      'run the restore again',
    )
  }
}

/** The views, triggers, routines and events that are replaced, as a script; null where there are none. */
async function saveDefinitions(
  { server, goals, clients }: Prepared,
  folder: string,
  ctx: Context,
): Promise<string | null> {
  const used = goals.filter(goal => goal.replaces.length > 0)
  if (used.length === 0) return null
  const path = join(folder, 'old.sql')
  const file = spoolFile(path)
  for (const goal of used) {
    const scope = { databases: [goal.target], named: false }
    const dumper = dumpProgram(server.connection, clients, server.facts.series, scope, [
      '--no-data',
      '--add-drop-trigger',
    ])
    const route = { scratch: goal.target, target: goal.target, tables: goal.tables }
    const filter = redirect(
      { unit: goal.target, route: () => route, late: file, makesDatabases: false },
      nothingMet(),
    )
    for await (const _ of flow(dumper, [filter], ctx));
  }
  await finished(file.end())
  return path
}

async function define(p: Prepared, script: string, ctx: Context): Promise<void> {
  const { judge: _judge, ...program } = loader(p, '')
  await pour(
    createReadStream(script),
    [],
    { ...program, judge: judged(`${p.clients.flavour}, which made the definitions,`) },
    ctx,
    {
      prologue: prologue(),
    },
  )
}

/** How a database is made: as the backup's was. */
function charsetOf({ manifest, isWhole }: Prepared, goal: Goal, met: Met): string {
  if (goal.tables && goal.charset !== '') return goal.charset
  if (isWhole) return (met.databases.get(goal.from)?.create ?? '').replace(/;\s*$/, '')
  const { charset, collation } = manifest.source.options
  const isName = (value: unknown): value is string => typeof value === 'string' && /^\w+$/.test(value)
  return isName(charset) && isName(collation) ? ` CHARACTER SET ${charset} COLLATE ${collation}` : ''
}

async function missingAccounts(
  artifact: ArtifactRecord,
  server: Reached,
  read: ArtifactReader,
  ctx: Context,
): Promise<{ missing: Account[]; warnings: string[] }> {
  const chunks: Uint8Array[] = []
  for await (const chunk of read.open(artifact)) chunks.push(chunk)
  const accounts = parseAccounts(Buffer.concat(chunks).toString('utf8'))
  try {
    const [rows = []] = await ask(server, ['SELECT User, Host FROM mysql.user'], ctx)
    const there = new Set(rows.map(row => row.join('\0')))
    return { missing: accounts.filter(({ user, host }) => !there.has(`${user}\0${host}`)), warnings: [] }
  } catch (error) {
    ctx.signal.throwIfAborted()
    const { why } = asFailure(error, '')
    return { missing: [], warnings: [`no account is created: the target's may not be read (${why})`] }
  }
}

/** What the server refuses of them is a warning: the data stands. */
async function createAccounts(server: Reached, missing: readonly Account[], ctx: Context): Promise<string[]> {
  if (missing.length === 0) return []
  const statements = [...missing.flatMap(each => each.create), ...missing.flatMap(each => each.grants)]
  const { errors } = await askEach(server, statements, ctx)
  return errors.map(error => `an account or a privilege was refused: ${error}`)
}

/** The restore stands, whatever becomes of the counting. */
async function counted({ server, goals }: Prepared, warnings: string[], ctx: Context) {
  try {
    const inventory = await takeInventory(
      server,
      goals.map(goal => goal.target),
      ctx,
    )
    const { objects } = await takeCensus(server, inventory, 'counts', ctx)
    return { objects: objects.length, rows: objects.reduce((sum, { rows }) => sum + (rows ?? 0), 0) }
  } catch (error) {
    ctx.signal.throwIfAborted()
    warnings.push(`the rows were not counted: ${asFailure(error, '').why}`)
    return { objects: null, rows: null }
  }
}
