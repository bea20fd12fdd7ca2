import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { ArtifactRecord, Manifest } from '../../model/manifest.ts'
import type { ArtifactReader, RestorePlan, RestoreReport, Restorer } from '../../model/restore.ts'
import { applicationName, watch } from './activity.ts'
import { type Archive, spooled, streamed } from './archive.ts'
import { showConnection } from './connection.ts'
import { type Counted, counted } from './count.ts'
import { type MissingRoles, missingRoles } from './globals.ts'
import { alone, createRoles, type Loading, loadDirectly, loadInTransaction, talksTo } from './load.ts'
import { mayReplace } from './part.ts'
import { showRelation } from './pick.ts'
import { isArchive, type Prepared, prepare, type RestorerOptions } from './prepare.ts'
import { dropRoles } from './roles.ts'
import { clearScratch, openScratch } from './scratch.ts'
import { loadScript } from './script.ts'
import { settingsStatements } from './settings.ts'
import { quoteName } from './sql.ts'
import { showLocale, waysToCreate } from './target.ts'
import { applyWhole, isWhole, planWhole } from './whole-restorer.ts'

/**
 * Brings a database back. One that is not there yet is made under another name and gets its own in the end, so that
 * whatever goes wrong, or if we are killed, there is none of that name; one that is there is written in one
 * transaction, so that it is as it was. Roles that are missing are created; existing ones are never changed. With
 * consent, objects that are in the backup are dropped and made anew; others stay. A backup of a whole server brings all
 * its databases in this way, which get their names at once.
 */
export function restorerOf(options: RestorerOptions): Pick<Restorer, 'plan' | 'apply'> {
  return {
    async plan(chain, pick, ctx, read) {
      const manifest = mine(chain)
      if (isWhole(manifest)) return await planWhole(options, manifest, pick, ctx)
      return planOf(await prepare(options, manifest, pick, ctx, read))
    },
    async apply(chain, pick, replace, read, ctx) {
      const manifest = mine(chain)
      if (isWhole(manifest)) return await applyWhole(options, manifest, pick, replace, read, ctx)
      return await apply(await prepare(options, manifest, pick, ctx, read), replace, read, ctx)
    },
  }
}

/** Dumps of our own, and those that are known by their names alone. */
const kinds: readonly string[] = ['logical', 'foreign']

function mine(chain: readonly Manifest[]): Manifest {
  const manifest = chain.at(-1)
  if (manifest?.source.engine === 'postgres' && kinds.includes(manifest.kind)) return manifest
  throw usage('cannot restore', 'this is not a backup of one PostgreSQL database', 'choose another backup')
}

function planOf(p: Prepared): RestorePlan {
  return {
    target: showConnection(p.connection),
    steps: [...rolesSteps(p), ...(p.data ? dataSteps(p, p.data) : [])],
    replaces: replacedBy(p),
    warnings: p.warnings,
  }
}

function replacedBy({ connection, found, part, options, ...p }: Prepared): string[] {
  // Rows are added to those that are there.
  if (options.dataOnly && p.data) return ['the values of the sequences that come along']
  if (part) return part.replaces.map(showRelation)
  const used = p.data && found.state === 'used' && p.names.length === 0
  const tables = found.tables.map(name => `table ${name}`)
  const all = tables.length > 0 ? tables : [`what is in the database ${connection.database}`]
  return used ? all : []
}

function rolesSteps({ facts, found, globals }: Prepared): string[] {
  const missing = (facts.roles ?? facts.neededRoles).filter(name => !found.roles.has(name))
  const steps: string[] = []
  if (globals && missing.length > 0) steps.push(`creates the roles that are missing: ${missing.join(', ')}`)
  if (globals && !facts.roles) steps.push('creates the other roles of the backup that are missing')
  return steps
}

function dataSteps(p: Prepared, data: ArtifactRecord): string[] {
  const { found, facts, part } = p
  const kind = [facts.encoding, showLocale(facts)].filter(Boolean).join(', ')
  const absent = found.state === 'absent'
  const what = part ? `${part.relations.map(showRelation).join(', ')} of ${data.name}` : data.name
  const tool = `${isArchive(data) ? 'pg_restore' : 'psql'} ${p.clients.major}`
  const jobs = p.options.jobs === undefined ? '' : `, ${p.options.jobs} jobs at once`
  const steps: string[] = []
  if (absent)
    steps.push(
      `creates the database ${p.connection.database} (${kind})${p.tablespace && !part ? ` in the tablespace ${p.tablespace}` : ''}, under another name until it is whole`,
    )
  if (found.state === 'used' && !part && !p.options.dataOnly)
    steps.push('drops what the backup holds too; what it does not hold stays')
  if (p.options.dataOnly) steps.push('adds rows to those that are there; replaces none')
  else if (part && part.before.length > 0)
    steps.push(`makes ${part.before.length} foreign keys anew that other tables have on what is replaced`)
  steps.push(`restores ${what} with ${tool}${absent ? jobs : ', all in one transaction'}`)
  if (p.settings && absent) steps.push('sets what the database was set to')
  steps.push('counts the rows')
  if (found.scratch.length > 0 && absent)
    steps.push(`drops what killed restores left: ${found.scratch.join(', ')}`)
  return steps
}

async function apply(
  p: Prepared,
  replace: boolean,
  read: ArtifactReader,
  ctx: Context,
): Promise<RestoreReport> {
  const { found, part, data } = p
  const target = showConnection(p.connection)
  if (part && !p.options.dataOnly) mayReplace(part, replace, target)
  else if (data && found.state === 'used' && !replace)
    throw usage(
      `cannot restore into ${target}`,
      'it is not empty',
      'restore into a new database, or give consent',
    )
  const roles = await rolesOf(p, read)
  const warnings = [...p.warnings, ...roles.warnings]
  if (!data) {
    await createRoles(p.connection, roles.statements, ctx)
    return { target, objects: null, rows: null, warnings }
  }
  const into = found.state === 'absent' ? intoNew : intoExisting
  return { target, ...(await into({ ...p, data }, roles, read, warnings, ctx)), warnings }
}

type WithData = Prepared & { readonly data: ArtifactRecord }

/** Into a database of another name, which gets its own when all was judged right. */
async function intoNew(
  p: WithData,
  roles: MissingRoles,
  read: ArtifactReader,
  warnings: string[],
  ctx: Context,
): Promise<Counted> {
  if (p.found.scratch.length > 0) await clearScratch(p.connection, ctx)
  const name = p.connection.database
  const last = [...ownerOf(p, roles), ...(await settingsOf(p, read))]
  // Roles belong to the whole server: other sessions must see them before there is anything that they own.
  await createRoles(p.connection, roles.statements, ctx)
  try {
    await using archive = await archiveOf(p, read, ctx)
    await using scratch = await openScratch(p.connection, ctx)
    const ways = waysToCreate(p.facts, p.part ? undefined : p.tablespace)
    const { connection, way } = await scratch.create({ name, replace: false, ways, owner: p.firstOwner })
    if (way > 0)
      warnings.push(
        `the locale of the source (${showLocale(p.facts)}) is not there: the order of texts may differ`,
      )
    const loading = loadingOf({ ...p, connection })
    await watching(loading, ctx, async () => {
      warnings.push(
        ...(archive
          ? await loadNew(loading, archive, ctx)
          : await loadScript(loading, p.data, p.psqlVersion, read)),
      )
    })
    const found = await counted(connection, p.part?.relations ?? null, warnings, ctx)
    warnings.push(...(await scratch.publish(last)))
    return found
  } catch (error) {
    await dropRoles(p.connection, roles.roles, ctx)
    throw error
  }
}

/** A pg_restore that is too new to talk to the server itself goes through psql. */
function loadNew(loading: Loading, archive: Archive, ctx: Context): Promise<string[]> {
  if (talksTo(loading.clients.major, loading.versionNum)) return loadDirectly(loading, archive, ctx)
  return loadInTransaction({ ...loading, ...alone }, archive, ctx)
}

/** In one transaction, the roles included. */
async function intoExisting(
  p: WithData,
  roles: MissingRoles,
  read: ArtifactReader,
  warnings: string[],
  ctx: Context,
): Promise<Counted> {
  const { part, found } = p
  const used = found.state === 'used'
  const adds = p.options.dataOnly === true
  const loading = {
    ...loadingOf(p),
    clean: !adds && (part ? part.replaces.length > 0 : used),
    mustBeEmpty: !used,
    before: [...roles.statements, ...(adds ? [] : (part?.before ?? []))],
    after: adds ? [] : (part?.after ?? []),
  }
  await using archive = await archiveOf(p, read, ctx)
  await watching(loading, ctx, async () => {
    warnings.push(
      ...(archive
        ? await loadInTransaction(loading, archive, ctx)
        : await loadScript(loading, p.data, p.psqlVersion, read)),
    )
  })
  return await counted(p.connection, part?.relations ?? null, warnings, ctx)
}

/** Null: it is a script. A folder, and several jobs, take an archive that can be read at any place. */
async function archiveOf(p: WithData, read: ArtifactReader, ctx: Context): Promise<Archive | null> {
  if (!isArchive(p.data)) return null
  const inSpool = p.data.media === 'pg_dump-directory' || p.options.jobs !== undefined
  if (inSpool) return await spooled(p.data, read, ctx)
  return streamed(p.data, p.part !== null || p.options.schemaOnly === true, read)
}

function loadingOf(p: Prepared): Loading {
  return {
    ...{ connection: p.connection, clients: p.clients, options: p.options, noTablespaces: p.noTablespaces },
    ...{ versionNum: p.found.versionNum, lcMonetary: p.lcMonetary },
    list: p.list,
    name: applicationName('restore'),
  }
}

async function watching(
  { connection, name }: Loading,
  ctx: Context,
  work: () => Promise<void>,
): Promise<void> {
  await using _watched = watch(connection, name, 'the restore', ctx)
  await work()
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

/** What belongs to the database and not to what is in it; of a part of it nothing is set. */
async function settingsOf(p: Prepared, read: ArtifactReader): Promise<string[]> {
  if (!p.settings || p.part) return []
  return settingsStatements(await textOf(p.settings, read), p.unit, p.connection.database)
}

/** A database that we create belongs to whom it belonged, if that role is there and we may give it away. */
function ownerOf({ facts, found, options, connection }: Prepared, roles: MissingRoles): string[] {
  const { owner } = facts
  if (owner === undefined || options.noOwner || !found.superuser) return []
  if (!found.roles.has(owner) && !roles.roles.includes(owner)) return []
  return [`ALTER DATABASE ${quoteName(connection.database)} OWNER TO ${quoteName(owner)}`]
}
