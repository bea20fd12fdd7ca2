import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { ArtifactRecord, Manifest } from '../../model/manifest.ts'
import type { ArtifactReader, RestoreOptions, Selection } from '../../model/restore.ts'
import type { SecretSource } from '../../platform/secret-source.ts'
import { type Clients, chooseClients, clientVersion, majorOf } from './clients.ts'
import {
  type Connection,
  type ConnectionOptions,
  connectionTo,
  onDatabase,
  placeOf,
  showConnection,
} from './connection.ts'
import { RestoreFacts } from './facts.ts'
import { talksTo } from './load.ts'
import { moneyAt } from './money.ts'
import { obstacles } from './obstacles.ts'
import { type Part, partOf } from './part.ts'
import { demandRole } from './restoring-role.ts'
import { settingsName } from './settings.ts'
import { listWithout, standingExtensions } from './standing-extensions.ts'
import { type Survey, survey } from './target.ts'
import { readToc } from './toc.ts'

export interface RestorerOptions {
  /** Where it goes: `postgresql://user@host/newname`. What the URL lacks is taken from the source, on the same server. */
  readonly target?: SecretSource | undefined
  /** The source's own options; without a target, the backup goes back to where it came from. */
  readonly source?: ConnectionOptions | undefined
  /** Where the client programs are; undefined: the usual places. */
  readonly clients?: string | undefined
}

/** Everything that a restore of one database decides before it writes. */
export interface Prepared {
  readonly connection: Connection
  readonly facts: RestoreFacts
  readonly found: Survey
  readonly clients: Clients
  readonly data: ArtifactRecord | null
  readonly globals: ArtifactRecord | null
  readonly settings: ArtifactRecord | null
  /** The tables that were named; null: everything. */
  readonly part: Part | null
  /** For pg_restore's --use-list; undefined: everything. */
  readonly list: string | undefined
  /** Tables or schemas were named, whether they could be looked up or not. */
  readonly names: readonly string[]
  /** The database's name at the source. */
  readonly unit: string
  /** psql's, to the minor: newer ones can be forbidden to carry out commands of their own. */
  readonly psqlVersion: string
  readonly options: RestoreOptions
  /** Whose a database that is made is while it is restored; undefined: ours. */
  readonly firstOwner: string | undefined
  readonly noTablespaces: boolean
  /** Where a database that is made lies; undefined: where the server puts it. */
  readonly tablespace: string | undefined
  /** How amounts of money are written; undefined: there are none, or the target cannot read them so. */
  readonly lcMonetary: string | undefined
  readonly warnings: readonly string[]
}

/** Looks at the target, and where tables are named at the beginning of the archive. Throws a Failure for what cannot work. */
export async function prepare(
  options: RestorerOptions,
  manifest: Manifest,
  pick: Selection,
  ctx: Context,
  read: ArtifactReader | undefined,
): Promise<Prepared> {
  const { globals, settings, names, ...chosen } = picked(manifest, pick)
  const data = manifest.kind === 'foreign' && read ? await asItIs(chosen.data, read) : chosen.data
  const facts = RestoreFacts.parse(manifest.source.options)
  const wishes = wishesOf(pick)
  const { connection: wanted, hasName } = await targetOf(options, manifest.unit)
  const found = await survey(wishes.create ? onDatabase(wanted, manifest.unit) : wanted, ctx)
  const { connection } = found
  check(data, names, wishes, found, !hasName && !wishes.create)
  const withoutRoles = wishes.noOwner === true && wishes.noPrivileges === true
  const makesRoles = globals !== null && !withoutRoles
  const warnings = data ? obstacles({ facts, found, connection, makesRoles, withoutRoles }) : []
  const purpose = `restore into ${showConnection(connection)}`
  const major = Math.max(majorOf(found.versionNum), facts.clientMajor ?? 0)
  const clients = await chooseClients(major, purpose, options.clients, ctx)
  if (wishes.jobs !== undefined && !talksTo(clients.major, found.versionNum))
    throw usage(
      `cannot ${purpose} with several jobs`,
      `pg_restore ${clients.major} does not talk to a server of ${majorOf(found.versionNum)} directly`,
      `install postgresql-client-${majorOf(found.versionNum)}, or leave out --jobs`,
    )
  const part = data && names.length > 0 && read ? await partOf(data, names, found, read, ctx) : null
  const money = await moneyAt(found.connection, data ? facts.lcMonetary : undefined, ctx)
  const { role, noOwner = false } = wishes
  const makes = data && isArchive(data) && !wishes.dataOnly && read ? data : null
  const known = makes && part === null && facts.extensions.length > 0
  const standing = known ? await standingExtensions(found, role, ctx) : new Set<string>()
  const stays = facts.extensions.filter(name => standing.has(name))
  const toc =
    makes && read && (role !== undefined || stays.length > 0) ? await readToc(read.open(makes)) : null
  const made = makesRoles ? (facts.roles ?? facts.neededRoles) : []
  const isAs = role !== undefined && data !== null
  const firstOwner = isAs ? await demandRole({ role, found, toc, part, noOwner, made }, ctx) : undefined
  return {
    firstOwner,
    ...{ connection, facts, found, clients, data, settings, part, names },
    options: wishes,
    tablespace: found.usableSpaces.has(facts.tablespace ?? '') ? facts.tablespace : undefined,
    noTablespaces: facts.tablespaces.some(name => !found.tablespaces.has(name)),
    lcMonetary: money.lcMonetary,
    warnings: [...warnings, ...(part?.warnings ?? []), ...money.warnings, ...keptAsTheyAre(stays)],
    list: toc && stays.length > 0 ? listWithout(toc, standing) : part?.list,
    unit: manifest.unit,
    psqlVersion: data && !isArchive(data) ? await clientVersion(clients.path('psql'), ctx) : '',
    globals: makesRoles ? globals : null,
  }
}

function keptAsTheyAre(extensions: readonly string[]): string[] {
  if (extensions.length === 0) return []
  return [`another role owns the extensions ${extensions.join(', ')} there: they stay as they are`]
}

function wishesOf({ options = {}, allow }: Selection): RestoreOptions {
  return allow.has('no-owner') ? { ...options, noOwner: true, noPrivileges: true } : options
}

/** Other tools' names do not tell how pg_dump was called (`-Fc`): the first bytes do. */
async function asItIs(data: ArtifactRecord | null, read: ArtifactReader): Promise<ArtifactRecord | null> {
  if (data?.media !== 'sql') return data
  let head = ''
  for await (const chunk of read.open(data)) {
    head += Buffer.from(chunk.subarray(0, magic.length)).toString('latin1')
    if (head.length >= magic.length) break
  }
  return head.startsWith(magic) ? { ...data, media: 'pg_dump-custom' } : data
}

const magic = 'PGDMP'
const archives = new Set(['pg_dump-custom', 'pg_dump-directory'])

export function isArchive(data: ArtifactRecord): boolean {
  return archives.has(data.media)
}

/** The artifacts that are named, and what else is named: tables and schemas. */
function picked(manifest: Manifest, { only }: Selection) {
  const artifacts = manifest.artifacts.map(artifact => artifact.name)
  const names = only?.filter(name => !artifacts.includes(name)) ?? []
  const wanted = names.length > 0 || only === undefined ? null : only
  const chosen = manifest.artifacts.filter(artifact => wanted === null || wanted.includes(artifact.name))
  const data = chosen.find(artifact => artifact.role === 'data') ?? null
  const settings = chosen.find(artifact => artifact.name === settingsName) ?? null
  const globals = chosen.find(artifact => artifact.role === 'globals' && artifact !== settings) ?? null
  if (!data && !globals)
    throw usage('cannot restore', 'nothing of what was named can be restored', 'name the data')
  if (data && data.media !== 'sql' && !isArchive(data))
    throw usage('cannot restore', `${data.name} is ${data.media}, not a dump of PostgreSQL`)
  return { data, globals, settings, names }
}

/** Throws a usage Failure for wishes that cannot be had together, or not with this target. */
function check(
  data: ArtifactRecord | null,
  names: readonly string[],
  o: RestoreOptions,
  found: Survey,
  unnamed: boolean,
): void {
  const what = `cannot restore into ${showConnection(found.connection)}`
  const script = data !== null && !isArchive(data)
  if (script && names.length > 0)
    throw usage(
      `cannot restore only "${names[0]}"`,
      'the backup is plain SQL, of which no parts can be taken',
      'only format: custom and format: directory can do that; restore all of it beside: --to …/newname',
    )
  const asked = (['jobs', 'noOwner', 'noPrivileges', 'schemaOnly', 'dataOnly'] as const).find(name => o[name])
  if (script && asked)
    throw usage(
      `cannot restore with --${asked.replace(/[A-Z]/, letter => `-${letter.toLowerCase()}`)}`,
      'the backup is plain SQL, which is taken as it is',
      'only format: custom and format: directory can do that',
    )
  if (script && found.state === 'used')
    throw usage(
      what,
      'it is not empty, and a backup of plain SQL replaces nothing',
      'restore into a database that is not there yet: --to …/newname',
    )
  if (o.jobs !== undefined && found.state !== 'absent')
    throw usage(
      what,
      'several jobs cannot share a transaction, so that they only write into a new database',
      'leave out --jobs, or restore beside: --to …/newname',
    )
  if (o.create && found.state !== 'absent')
    throw usage(what, 'it is there already', 'leave out --create, or rename the one that is there')
  if (o.dataOnly && found.state !== 'used')
    throw usage(
      what,
      'it has no tables for the rows',
      'leave out --data-only, or restore --schema-only first',
    )
  if (unnamed && found.state === 'used' && names.length === 0 && data)
    throw usage(
      what,
      'the target names no database, and the one that the backup is of is not empty',
      'name the database: --to …/newname',
    )
}

/** A target on the source's own server needs no second password. */
export async function targetOf(
  { target, source }: RestorerOptions,
  unit: string,
): Promise<{ connection: Connection; hasName: boolean }> {
  // On another machine the secret that the job's own options name may not be there; a target can do without.
  const own = source && (await placeOf(source).catch(error => (target ? undefined : Promise.reject(error))))
  if (!target) return { connection: onDatabase(connectionTo(own ?? { params: {} }), unit), hasName: true }
  const said = await placeOf({ url: target })
  const place = connectionTo(said)
  const ours = own && connectionTo(own)
  const sameServer = ours !== undefined && ours.host === place.host && ours.port === place.port
  const sameUser = said.user === undefined || said.user === ours?.user
  const merged =
    sameServer && sameUser
      ? connectionTo({ ...own, ...said, params: { ...own?.params, ...said.params } })
      : place
  return { connection: onDatabase(merged, said.database ?? unit), hasName: said.database !== undefined }
}
