import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { ArtifactRecord, Manifest } from '../../model/manifest.ts'
import type { ArtifactReader, RestorePlan, RestoreReport, Selection } from '../../model/restore.ts'
import { suggest } from '../../model/suggest.ts'
import { pour } from '../../platform/flow.ts'
import { applicationName, watch } from './activity.ts'
import { type Clients, chooseClients, clientVersion, majorOf } from './clients.ts'
import { connect } from './connect.ts'
import { type Connection, onDatabase, showConnection } from './connection.ts'
import { counted } from './count.ts'
import { RestoreFacts } from './facts.ts'
import { missingRoles } from './globals.ts'
import { createRoles, type Loading } from './load.ts'
import { lcMonetaryIn, moneyAt } from './money.ts'
import { type RestorerOptions, targetOf } from './prepare.ts'
import { dropRoles } from './roles.ts'
import { clearScratch, connectBeside, openScratch, type Scratch } from './scratch.ts'
import { scriptBytes, scriptProgram } from './script.ts'
import { type Piece, readScript } from './script-reader.ts'
import { isEmpty } from './server.ts'
import { settingsStatements } from './settings.ts'
import { nameOf, sqlOf, statements } from './sql.ts'
import { type Survey, survey } from './target.ts'
import { type DatabaseScript, surveyScript } from './whole-script.ts'

const artifactName = 'postgres/all.sql'

/** Whether a backup is of a whole server, as pg_dumpall writes it. */
export function isWhole(manifest: Manifest): boolean {
  return manifest.artifacts.some(({ name, role }) => name === artifactName && role === 'data')
}

/** What is decided before the script was read. */
interface Server {
  /** To the database that the target names, else `postgres`. */
  readonly connection: Connection
  readonly found: Survey
  readonly clients: Clients
  readonly data: ArtifactRecord
  /** The databases that were named; null: all. */
  readonly only: readonly string[] | null
  /** The name that the one database gets. */
  readonly newName: string | null
  /** The databases of the server: whether each holds something. */
  readonly there: ReadonlyMap<string, boolean>
}

async function look(
  options: RestorerOptions,
  manifest: Manifest,
  pick: Selection,
  ctx: Context,
): Promise<Server> {
  const data = manifest.artifacts.find(({ name }) => name === artifactName)
  if (!data) throw usage('cannot restore', `the backup holds no ${artifactName}`)
  const asked = Object.entries(pick.options ?? {}).find(([, value]) => value)?.[0]
  if (asked)
    throw usage(
      `cannot restore with --${asked.replace(/[A-Z]/, letter => `-${letter.toLowerCase()}`)}`,
      'the backup is a script of pg_dumpall, which is taken as it is',
      'leave it out',
    )
  const { connection: target, hasName } = await targetOf(options, 'postgres')
  const connection = hasName ? target : onDatabase(target, 'postgres')
  const only = pick.only?.filter(name => name !== artifactName) ?? []
  const newName = hasName && only.length > 0 && options.target ? connection.database : null
  if (newName !== null && only.length > 1)
    throw usage(
      'cannot restore several databases as one',
      `${only.join(', ')} are named, and the target ${newName}`,
      'name one of them, or leave the database out of the target',
    )
  if (options.target && hasName && only.length === 0 && connection.database !== 'postgres')
    throw usage(
      `cannot restore into ${showConnection(connection)}`,
      'the backup is of a whole server, and the target is one database',
      `name the database to be taken: --only NAME; or leave /${connection.database} out of the target`,
    )
  const found = await survey(newName === null ? onDatabase(connection, 'postgres') : connection, ctx)
  const facts = RestoreFacts.parse(manifest.source.options)
  refuse(found, facts)
  const wanted = Math.max(majorOf(found.versionNum), facts.clientMajor ?? 0)
  const clients = await chooseClients(
    wanted,
    `restore to ${showConnection(connection)}`,
    options.clients,
    ctx,
  )
  const there = await databases(found.connection, ctx)
  return {
    connection: found.connection,
    found,
    clients,
    data,
    only: only.length > 0 ? only : null,
    newName,
    there,
  }
}

function refuse(found: Survey, facts: RestoreFacts): void {
  const what = `cannot restore to ${showConnection(found.connection)}`
  const [from, to] = [majorOf(facts.serverVersionNum ?? 0), majorOf(found.versionNum)]
  if (to < from)
    throw usage(
      what,
      `the backup is of PostgreSQL ${from}, and the target is older: ${to}`,
      `use a server of ${from}`,
    )
  if (!found.mayCreateDatabase) throw usage(what, 'this role may not create databases', 'use another role')
}

/** The databases that a server has, and whether each of them holds something; one that cannot be looked into counts as used. */
async function databases(connection: Connection, ctx: Context): Promise<Map<string, boolean>> {
  await using db = await connectBeside(connection, ctx)
  const rows = await db.rows<{ name: string }>('SELECT datname::text AS name FROM pg_catalog.pg_database')
  const found = new Map<string, boolean>()
  for (const { name } of rows) {
    try {
      await using own = await connect(onDatabase(connection, name), 'cairn', ctx)
      found.set(name, !(await isEmpty(own)))
    } catch {
      ctx.signal.throwIfAborted()
      found.set(name, true)
    }
  }
  return found
}

/** By what the manifest says: the script itself is only read when the work begins. */
export async function planWhole(
  options: RestorerOptions,
  manifest: Manifest,
  pick: Selection,
  ctx: Context,
): Promise<RestorePlan> {
  const server = await look(options, manifest, pick, ctx)
  const listed = manifest.source.options.databases
  const known = Array.isArray(listed) ? listed.map(String).filter(name => !isTemplate(name)) : []
  if (known.length > 0) mustBeKnown(server.only, known)
  const chosen = server.only ?? known
  const used = chosen.map(name => server.newName ?? name).filter(name => server.there.get(name))
  const scratch = server.found.scratch
  return {
    target: showConnection(server.connection),
    steps: [
      'reads the script once, to see that it is whole and what is in it',
      ...(server.only ? [] : ['creates the roles that are missing; those that are there stay as they are']),
      `restores ${chosen.length > 0 ? chosen.join(', ') : 'its databases'} with psql ${server.clients.major}, each under another name`,
      'gives all of them their names at once; roles stay when that fails or is killed before',
      ...(scratch.length > 0 ? [`drops what killed restores left: ${scratch.join(', ')}`] : []),
    ],
    replaces: used.map(name => `database ${name}`),
    warnings: [],
  }
}

function isTemplate(name: string): boolean {
  return name === 'template0' || name === 'template1'
}

function mustBeKnown(only: readonly string[] | null, known: readonly string[]): void {
  const unknown = only?.find(name => !known.includes(name) && !isTemplate(name))
  if (unknown === undefined) return
  const meant = suggest(unknown, known)
  throw usage(
    `cannot restore only "${unknown}"`,
    'the backup has no such database',
    meant ? `did you mean ${meant}?` : `it has ${known.join(', ')}`,
  )
}

export async function applyWhole(
  options: RestorerOptions,
  manifest: Manifest,
  pick: Selection,
  replace: boolean,
  read: ArtifactReader,
  ctx: Context,
): Promise<RestoreReport> {
  const server = await look(options, manifest, pick, ctx)
  const target = showConnection(server.connection)
  const { globals, databases: scripts } = await surveyScript(
    readScript(read.open(server.data), server.data.name),
  )
  mustBeKnown(server.only, [...scripts.keys()])
  const warnings: string[] = []
  const goals = goalsOf(server, scripts, warnings)
  const used = [...goals.values()].filter(({ name }) => server.there.get(name)).map(({ name }) => name)
  if (used.length > 0 && !replace)
    throw usage(
      `cannot restore to ${target}`,
      `the databases ${used.join(', ')} are there, and not empty`,
      'give consent to replace them, or take one: --only NAME --to …/newname',
    )
  if (server.found.scratch.length > 0) await clearScratch(server.connection, ctx)
  const roles = missingRoles(globals, server.found)
  warnings.push(...roles.warnings, ...already(globals, server.found))
  await createRoles(server.connection, roles.statements, ctx)
  try {
    const counts = await bringBack(server, goals, read, warnings, ctx)
    return { target, ...counts, warnings }
  } catch (error) {
    await dropRoles(server.connection, roles.roles, ctx)
    throw error
  }
}

/** The roles that the script makes and the server has: they keep their passwords and rights. */
function already(globals: string, found: Survey): string[] {
  const names = [...statements(globals)].flatMap(tokens => {
    const [first, second] = tokens.map(token => token.value)
    return first === 'CREATE' && second === 'ROLE' ? (nameOf(tokens[2]) ?? []) : []
  })
  const kept = names.filter(name => found.roles.has(name))
  return kept.length > 0 ? [`the roles ${kept.join(', ')} were there already, and are as they were`] : []
}

interface Goal extends DatabaseScript {
  /** The name that it gets. */
  readonly name: string
}

/** The databases to be made, by their names in the script. */
function goalsOf(
  { only, newName }: Server,
  scripts: ReadonlyMap<string, DatabaseScript>,
  warnings: string[],
): Map<string, Goal> {
  const goals = new Map<string, Goal>()
  for (const [name, script] of scripts) {
    if (only ? !only.includes(name) : script.create === null && !script.holdsSomething) continue
    if (!only && name === 'template1') {
      warnings.push(
        'template1 holds something, and is left out: take it with --only template1 --to …/newname',
      )
      continue
    }
    goals.set(name, { ...script, name: newName ?? name })
  }
  return goals
}

async function bringBack(
  server: Server,
  goals: ReadonlyMap<string, Goal>,
  read: ArtifactReader,
  warnings: string[],
  ctx: Context,
) {
  const replaced = new Set([...goals.values()].map(({ name }) => name))
  // We must not be connected to what is to be replaced.
  const away = replaced.has('postgres') ? onDatabase(server.connection, 'postgres') : server.connection
  await using scratch = await openScratch(away, ctx)
  const made = await createAll(server, goals, scratch, warnings)
  const version = await clientVersion(server.clients.path('psql'), ctx)
  const pieces = readScript(read.open(server.data), server.data.name)
  try {
    for await (const [name, part] of byDatabase(pieces)) {
      const connection = made.get(name)
      const money = await moneyAt(server.connection, lcMonetaryIn(goals.get(name)?.about ?? ''), ctx)
      warnings.push(...money.warnings)
      const at = connection && { connection, lcMonetary: money.lcMonetary }
      if (at) await fill(server, at, part, version, warnings, ctx)
      else for await (const _ of part);
    }
  } finally {
    await pieces.return()
  }
  let [objects, rows] = [0, 0]
  for (const connection of made.values()) {
    const found = await counted(connection, null, warnings, ctx)
    objects += found.objects ?? 0
    rows += found.rows ?? 0
  }
  const last = [...goals].flatMap(([from, { name, about }]) => settingsStatements(about, from, name))
  warnings.push(...(await scratch.publish(last)))
  return { objects, rows }
}

async function createAll(
  server: Server,
  goals: ReadonlyMap<string, Goal>,
  scratch: Scratch,
  warnings: string[],
): Promise<Map<string, Connection>> {
  const made = new Map<string, Connection>()
  for (const [from, { name, create: said }] of goals) {
    const { create, lacking } = placed(said, server.found)
    if (lacking !== null)
      warnings.push(
        `the database ${name} does not go into the tablespace ${lacking}, which is missing or not for this role`,
      )
    const ways = [
      ...(create ? [create] : []),
      'TEMPLATE template0',
      `TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'`,
    ]
    const { connection, way } = await scratch.create({ name, replace: server.there.has(name), ways })
    if (create && way > 0)
      warnings.push(
        `the locale of the database ${name} is not there (${create}): the order of texts may differ`,
      )
    made.set(from, connection)
  }
  return made
}

/** What stands after `CREATE DATABASE name`, without a tablespace that cannot be used here. */
function placed(create: string | null, { usableSpaces }: Survey) {
  const [tokens = []] = create === null ? [] : [...statements(`${create};`)]
  const at = tokens.findIndex(token => token.kind === 'word' && token.value === 'TABLESPACE')
  const end = tokens[at + 1]?.text === '=' ? at + 2 : at + 1
  const space = nameOf(tokens[end])
  if (at < 0 || space === null || usableSpaces.has(space)) return { create, lacking: null }
  return { create: sqlOf([...tokens.slice(0, at), ...tokens.slice(end + 1)]), lacking: space }
}

/** One database, in one transaction. */
async function fill(
  server: Server,
  at: Pick<Loading, 'connection' | 'lcMonetary'>,
  part: AsyncIterable<Piece>,
  version: string,
  warnings: string[],
  ctx: Context,
): Promise<void> {
  const { clients, found } = server
  const loading: Loading = {
    ...{ ...at, clients, versionNum: found.versionNum, options: {}, noTablespaces: false },
    name: applicationName('restore'),
  }
  const { program, framing } = scriptProgram(loading, version, warnings)
  await using _watched = watch(at.connection, loading.name, 'the restore', ctx)
  await pour(scriptBytes(part, found.versionNum), [], program, ctx, framing)
}

/** The pieces after each `\connect`; each part must be read before the next is asked for. */
async function* byDatabase(
  pieces: AsyncIterator<Piece>,
): AsyncGenerator<readonly [string, AsyncGenerator<Piece, void, undefined>], void, undefined> {
  let next = await pieces.next()
  async function* part(): AsyncGenerator<Piece, void, undefined> {
    for (; !next.done && next.value.kind !== 'connect'; next = await pieces.next()) yield next.value
  }
  while (!next.done) {
    const { value } = next
    if (value.kind !== 'connect') {
      next = await pieces.next()
      continue
    }
    next = await pieces.next()
    yield [value.database, part()]
  }
}
