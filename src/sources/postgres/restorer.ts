import type { Context } from '../../model/context.ts'
import { Failure, usage } from '../../model/failure.ts'
import type { ArtifactRecord, Manifest } from '../../model/manifest.ts'
import type { ArtifactReader, RestorePlan, RestoreReport, Restorer, Selection } from '../../model/restore.ts'
import type { SecretSource } from '../../platform/secret-source.ts'
import { applicationName, watch } from './activity.ts'
import { takeCensus } from './census.ts'
import { type Clients, chooseClients, majorOf } from './clients.ts'
import { connect } from './connect.ts'
import {
  type Connection,
  type ConnectionOptions,
  connectionTo,
  onDatabase,
  placeOf,
  showConnection,
} from './connection.ts'
import { RestoreFacts } from './facts.ts'
import { type MissingRoles, missingRoles } from './globals.ts'
import { createRoles, load } from './load.ts'
import { settingsBlock, settingsName } from './settings.ts'
import { createDatabase, dropCreated, type Survey, showLocale, survey } from './target.ts'

export interface RestorerOptions {
  /** Where it goes: `postgresql://user@host/newname`. What the URL lacks is taken from the source, on the same server. */
  readonly target?: SecretSource | undefined
  /** The source's own options; without a target, the backup goes back to where it came from. */
  readonly source?: ConnectionOptions | undefined
  /** Where the client programs are; undefined: the usual places. */
  readonly clients?: string | undefined
}

/** Everything that a restore decides before it writes. */
interface Prepared {
  readonly connection: Connection
  readonly facts: RestoreFacts
  readonly found: Survey
  readonly clients: Clients
  readonly data: ArtifactRecord | null
  readonly globals: ArtifactRecord | null
  readonly settings: ArtifactRecord | null
  /** The database's name at the source. */
  readonly unit: string
  readonly noOwner: boolean
  readonly noTablespaces: boolean
  readonly warnings: readonly string[]
}

/**
 * Brings a database back in one transaction: whatever goes wrong, the target is as it was, also when we are killed; a
 * database that the restore created is dropped again (it stays, empty, after SIGKILL). Roles that are missing are
 * created in the same transaction; existing ones are never changed. With consent, objects that are in the backup
 * are dropped and made anew; others stay.
 */
export function postgresRestorer(options: RestorerOptions): Restorer {
  return {
    async plan(chain, pick, ctx) {
      return planOf(await prepare(options, chain, pick, ctx))
    },
    async apply(chain, pick, replace, read, ctx) {
      const prepared = await prepare(options, chain, pick, ctx)
      return await apply(prepared, replace, read, ctx)
    },
  }
}

async function prepare(
  options: RestorerOptions,
  chain: readonly Manifest[],
  pick: Selection,
  ctx: Context,
): Promise<Prepared> {
  const manifest = chain.at(-1)
  if (manifest?.source.engine !== 'postgres' || manifest.kind !== 'logical')
    throw usage('cannot restore', 'this is not a backup of one PostgreSQL database', 'choose another backup')
  const { data, globals, settings } = picked(manifest, pick)
  const facts = RestoreFacts.parse(manifest.source.options)
  const connection = await targetOf(options, manifest.unit)
  const found = await survey(connection, ctx)
  const noOwner = pick.allow.has('no-owner')
  const makesRoles = globals !== null && !noOwner
  const warnings = data ? obstacles({ facts, found, connection, makesRoles, noOwner }) : []
  const wanted = Math.max(majorOf(found.versionNum), facts.clientMajor ?? 0)
  const clients = await chooseClients(
    wanted,
    `restore into ${showConnection(connection)}`,
    options.clients,
    ctx,
  )
  const noTablespaces = facts.tablespaces.some(name => !found.tablespaces.has(name))
  return {
    ...{ connection, facts, found, clients, data, settings, noOwner, noTablespaces, warnings },
    unit: manifest.unit,
    globals: makesRoles ? globals : null,
  }
}

function picked(manifest: Manifest, { only }: Selection) {
  const names = manifest.artifacts.map(artifact => artifact.name)
  const unknown = only?.find(name => !names.includes(name))
  if (unknown !== undefined)
    throw usage('cannot restore', `the backup has no ${unknown}`, `it has ${names.join(', ')}`)
  const chosen = manifest.artifacts.filter(artifact => only === undefined || only.includes(artifact.name))
  const data = chosen.find(artifact => artifact.role === 'data') ?? null
  const settings = chosen.find(artifact => artifact.name === settingsName) ?? null
  const globals = chosen.find(artifact => artifact.role === 'globals' && artifact !== settings) ?? null
  if (!data && !globals)
    throw usage('cannot restore', 'nothing of what was named can be restored', 'name the data')
  if (data && data.media !== 'pg_dump-custom')
    throw usage('cannot restore', `${data.name} is ${data.media}, not an archive of pg_dump`)
  return { data, globals, settings }
}

/** A target on the source's own server needs no second password. */
async function targetOf({ target, source }: RestorerOptions, unit: string): Promise<Connection> {
  // On another machine the secret that the job's own options name may not be there; a target can do without.
  const own = source && (await placeOf(source).catch(error => (target ? undefined : Promise.reject(error))))
  if (!target) return onDatabase(connectionTo(own ?? { params: {} }), unit)
  const said = await placeOf({ url: target })
  const place = connectionTo(said)
  const ours = own && connectionTo(own)
  const sameServer = ours !== undefined && ours.host === place.host && ours.port === place.port
  const sameUser = said.user === undefined || said.user === ours?.user
  const merged =
    sameServer && sameUser
      ? connectionTo({ ...own, ...said, params: { ...own?.params, ...said.params } })
      : place
  return onDatabase(merged, said.database ?? unit)
}

/** Throws a Failure for what makes the restore impossible; returns what will only be different. */
function obstacles(o: {
  readonly facts: RestoreFacts
  readonly found: Survey
  readonly connection: Connection
  readonly makesRoles: boolean
  readonly noOwner: boolean
}): string[] {
  const { facts, found } = o
  const what = `cannot restore into ${showConnection(o.connection)}`
  const from = majorOf(facts.serverVersionNum ?? 0)
  const to = majorOf(found.versionNum)
  if (to < from)
    throw usage(
      what,
      `the backup is of PostgreSQL ${from}, and the target is older: ${to}`,
      `use a server of ${from}`,
    )
  if (found.state === 'absent' && !found.mayCreateDatabase)
    throw usage(
      what,
      'there is no such database, and this role may not create one',
      'create it, or use another role',
    )
  const lacking = facts.extensions.filter(name => !found.extensions.has(name))
  if (lacking.length > 0)
    throw usage(
      what,
      `the server lacks the extensions ${lacking.join(', ')}`,
      'install their packages at the server',
    )
  const roles = facts.neededRoles.filter(name => !found.roles.has(name))
  if (roles.length > 0 && !o.noOwner && !(o.makesRoles && found.mayCreateRole)) {
    const why = o.makesRoles ? 'and this role may not create roles' : 'and the globals are left out'
    throw usage(
      what,
      `the roles ${roles.join(', ')} are missing there, ${why}`,
      'create them, or allow "no-owner"',
    )
  }
  const spaces = facts.tablespaces.filter(name => !found.tablespaces.has(name))
  return spaces.length > 0
    ? [`the tablespaces ${spaces.join(', ')} are missing: everything goes into the default one`]
    : []
}

function planOf(p: Prepared): RestorePlan {
  const { connection, facts, found } = p
  const missing = (facts.roles ?? facts.neededRoles).filter(name => !found.roles.has(name))
  const steps: string[] = []
  if (p.globals && missing.length > 0) steps.push(`creates the roles that are missing: ${missing.join(', ')}`)
  if (p.globals && !facts.roles) steps.push('creates the other roles of the backup that are missing')
  if (p.data) {
    const kind = [facts.encoding, showLocale(facts)].filter(Boolean).join(', ')
    if (found.state === 'absent') steps.unshift(`creates the database ${connection.database} (${kind})`)
    if (found.state === 'used') steps.push('drops what the backup holds too; what it does not hold stays')
    steps.push(`restores ${p.data.name} with pg_restore ${p.clients.major}, all in one transaction`)
    if (p.settings && found.state === 'absent') steps.push('sets what the database was set to')
    steps.push('counts the rows')
  }
  const used = p.data && found.state === 'used'
  const tables = found.tables.map(name => `table ${name}`)
  return {
    target: showConnection(connection),
    steps,
    replaces: !used ? [] : tables.length > 0 ? tables : [`what is in the database ${connection.database}`],
    warnings: p.warnings,
  }
}

async function apply(
  p: Prepared,
  replace: boolean,
  read: ArtifactReader,
  ctx: Context,
): Promise<RestoreReport> {
  const { connection, found } = p
  const target = showConnection(connection)
  if (p.data && found.state === 'used' && !replace)
    throw usage(
      `cannot restore into ${target}`,
      'it is not empty',
      'restore into a new database, or give consent',
    )
  const roles = await rolesOf(p, read)
  const warnings = [...p.warnings, ...roles.warnings]
  if (!p.data) {
    await createRoles(connection, roles.statements, ctx)
    return { target, objects: null, rows: null, warnings }
  }
  const created = found.state === 'absent'
  if (created) warnings.push(...(await createDatabase(connection, p.facts, ctx)))
  const name = applicationName('restore')
  try {
    await using _watched = watch(connection, name, 'the restore', ctx)
    const owner = created ? ownerOf(p, roles) : undefined
    const clean = found.state === 'used'
    // A database that was there keeps its own.
    const settings = created ? await settingsOf(p, read) : ''
    warnings.push(
      ...(await load({ ...p, data: p.data, clean, owner, settings, roles: roles.statements, name }, read)),
    )
  } catch (error) {
    if (created) await dropCreated(connection, name, ctx)
    throw error
  }
  return { target, ...(await counted(connection, warnings, ctx)), warnings }
}

async function rolesOf({ globals, found }: Prepared, read: ArtifactReader): Promise<MissingRoles> {
  if (!globals) return { roles: [], statements: [], warnings: [] }
  const missing = missingRoles(await textOf(globals, read), found)
  if (missing.roles.length > 0 && !found.mayCreateRole)
    return {
      roles: [],
      statements: [],
      warnings: [`the roles ${missing.roles.join(', ')} are not created: this role may not create roles`],
    }
  return missing
}

async function textOf(artifact: ArtifactRecord, read: ArtifactReader): Promise<string> {
  const chunks: Uint8Array[] = []
  for await (const chunk of read.open(artifact)) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

async function settingsOf({ settings, unit, connection }: Prepared, read: ArtifactReader): Promise<string> {
  return settings ? settingsBlock(await textOf(settings, read), unit, connection.database) : ''
}

/** A database that we create belongs to whom it belonged, if that role is there and we may give it away. */
function ownerOf({ facts, found, noOwner }: Prepared, roles: MissingRoles): string | undefined {
  const there =
    facts.owner !== undefined && (found.roles.has(facts.owner) || roles.roles.includes(facts.owner))
  return there && found.superuser && !noOwner ? facts.owner : undefined
}

/** The restore stands, whatever becomes of the counting. */
async function counted(connection: Connection, warnings: string[], ctx: Context) {
  try {
    const name = applicationName('census')
    await using db = await connect(connection, name, ctx)
    await using _watched = watch(connection, name, 'the count', ctx)
    await db.rows('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
    const { objects } = await takeCensus(db, 'counts', ctx.alive)
    return { objects: objects.length, rows: objects.reduce((sum, { rows }) => sum + (rows ?? 0), 0) }
  } catch (error) {
    ctx.signal.throwIfAborted()
    warnings.push(`the rows were not counted: ${error instanceof Failure ? error.why : String(error)}`)
    return { objects: null, rows: null }
  }
}
