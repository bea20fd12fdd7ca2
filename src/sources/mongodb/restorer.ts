import type { Context } from '../../model/context.ts'
import { asFailure, usage } from '../../model/failure.ts'
import type { Manifest } from '../../model/manifest.ts'
import type { ArtifactReader, RestorePlan, RestoreReport, Restorer, Selection } from '../../model/restore.ts'
import { isAccounts } from './accounts.ts'
import type { Listed } from './archive.ts'
import { openContents } from './contents.ts'
import { load, type Wanted } from './load.ts'
import type { RestorerOptions } from './options.ts'
import { type AccountsPlan, openAccounts, planAccounts } from './restore-accounts.ts'
import { addressOf, connect, type Server } from './server.ts'
import { dropAll, type Goal, type Loaded, survey, swap } from './target.ts'

/** What was asked for by --only: databases of the backup, with some of their collections or all; null: everything. */
type Picked = ReadonlyMap<string, ReadonlySet<string> | undefined> | null

/** Everything that a restore decides before it writes. */
interface Prepared {
  readonly manifest: Manifest
  readonly server: Server
  readonly goals: readonly Goal[]
  /** Null where nobody has looked into the backup yet. */
  readonly wanted: readonly Wanted[] | null
  /** Null: users and roles are not wanted, or there are none. */
  readonly accounts: AccountsPlan | null
  readonly warnings: readonly string[]
}

/**
 * Brings databases back. Everything is loaded under other names beside what is there, with its indexes, and renamed when all of
 * the backup was read and was right: until then the target is untouched, and what fails while it is renamed is put back. Views
 * are made then; time series, which no server renames, are copied then. Users and roles that are missing come last, unless only a
 * part is wanted; what the server refuses of them is a warning.
 */
export function restorerOf(
  options: RestorerOptions,
  open: (options: RestorerOptions, ctx: Context) => Promise<Server> = reach,
): Pick<Restorer, 'plan' | 'apply'> {
  return {
    async plan(chain, pick, ctx, read) {
      await using server = await open(options, ctx)
      return planOf(await prepare(options, server, chain, pick, read))
    },
    async apply(chain, pick, replace, read, ctx) {
      await using server = await open(options, ctx)
      return await apply(await prepare(options, server, chain, pick, read), replace, read, ctx)
    },
  }
}

async function reach({ target, source }: RestorerOptions, ctx: Context): Promise<Server> {
  const from = target ?? source
  if (!from)
    throw usage(
      'cannot restore',
      'there is no target',
      'say --to mongodb://user:password@host/database, or restore where the job is configured',
    )
  const uri = await from.read()
  const address = addressOf(uri, from.where)
  // A target on the source's own server needs no second password.
  const own = target && source && !address.hasLogin ? await source.read().catch(() => null) : null
  const same = own && addressOf(own, source?.where ?? '').hosts.join() === address.hosts.join()
  return same && own ? await connect(own, source?.where ?? '', ctx) : await connect(uri, from.where, ctx)
}

/** The database that --to names; admin is where users are looked up. */
async function renamedTo({ target }: RestorerOptions): Promise<string | undefined> {
  if (!target) return undefined
  const { database } = addressOf(await target.read(), target.where)
  return database === 'admin' ? undefined : database
}

async function prepare(
  options: RestorerOptions,
  server: Server,
  chain: readonly Manifest[],
  pick: Selection,
  read: ArtifactReader | undefined,
): Promise<Prepared> {
  const manifest = chain.at(-1)
  if (manifest?.source.engine !== 'mongodb' || !['logical', 'foreign'].includes(manifest.kind))
    throw usage('cannot restore', 'this is not a backup of MongoDB', 'choose another backup')
  const listed = read ? await listedIn(manifest, read) : null
  const databases = listed
    ? [...new Set(listed.map(({ database }) => database))].filter(isOrdinary)
    : namesIn(manifest, options.target ? undefined : server.database)
  const picked = pickedFrom(manifest, databases, pick)
  const names = picked ? [...picked.keys()] : databases
  const renamed = await renamedTo(options)
  if (renamed !== undefined && names.length !== 1)
    throw usage(
      'cannot restore',
      `the target names the database ${renamed}, and the backup holds several`,
      'leave the name out of --to, or name one database with --only',
    )
  const goals: Goal[] = []
  for (const name of names) goals.push(await survey(server, name, renamed ?? name, picked?.get(name)))
  const wanted = listed && wantedOf(listed, goals)
  if (listed) demandThere(listed, goals)
  const isRenamed = goals.some(({ from, target }) => from !== target)
  const withAccounts = listed && !picked && pick.options?.noPrivileges !== true
  const accounts = withAccounts ? await planAccounts(server, listed, isRenamed) : null
  return { manifest, server, goals, wanted, accounts, warnings: listed ? leftOut(listed) : [] }
}

/** What the backup holds, read from its beginning. */
async function listedIn(manifest: Manifest, read: ArtifactReader): Promise<readonly Listed[]> {
  const opened = await openContents(manifest, read)
  await opened.close()
  return opened.listed
}

/** What belongs to the server itself is never put back with the data. */
function isOrdinary(database: string): boolean {
  return !['', 'admin', 'config', 'local'].includes(database)
}

/** Without a look into the backup. `own`: what the source's URI names, for a member of an archive, whose name is none of a database. */
function namesIn({ unit, source }: Manifest, own: string | undefined): string[] {
  const { databases } = source.options
  if (!Array.isArray(databases)) return [unit]
  return databases.length > 0 || !own || own === 'admin' ? databases.map(String) : [own]
}

/** Names are of artifacts, else of databases, else of collections: `orders`, `shop.orders`. */
function pickedFrom(manifest: Manifest, databases: readonly string[], { only }: Selection): Picked {
  const inside = only?.filter(name => !manifest.artifacts.some(artifact => artifact.name === name)) ?? []
  if (inside.length === 0) return null
  const picked = new Map<string, Set<string> | undefined>()
  for (const name of inside) {
    const [database, collection] = partsOf(name, databases)
    const before = picked.get(database)
    if (collection === undefined || (picked.has(database) && !before)) picked.set(database, undefined)
    else picked.set(database, (before ?? new Set()).add(collection))
  }
  return picked
}

function partsOf(name: string, databases: readonly string[]): [string, string | undefined] {
  if (databases.includes(name)) return [name, undefined]
  const database = databases.find(each => name.startsWith(`${each}.`))
  if (database !== undefined) return [database, name.slice(database.length + 1)]
  const [one, second] = databases
  if (one !== undefined && second === undefined) return [one, name]
  throw usage(
    `cannot restore only "${name}"`,
    'the backup has no such database',
    `it has: ${databases.slice(0, 20).join(', ')}`,
  )
}

function wantedOf(listed: readonly Listed[], goals: readonly Goal[]): Wanted[] {
  return listed.flatMap(one => {
    const goal = goals.find(({ from }) => from === one.database)
    if (!goal || isAccounts(one.collection, one.database)) return []
    if (goal.only && !goal.only.has(one.collection)) return []
    return [{ listed: { ...one, type: one.type || 'collection' }, goal }]
  })
}

/** Every collection that was asked for must be there. */
function demandThere(listed: readonly Listed[], goals: readonly Goal[]): void {
  for (const { from, only } of goals) {
    const there = listed.filter(({ database }) => database === from).map(({ collection }) => collection)
    for (const name of only ?? []) {
      if (there.includes(name)) continue
      throw usage(
        `cannot restore only "${name}"`,
        `the backup has no such collection in ${from}`,
        `it has: ${there.slice(0, 20).join(', ')}`,
      )
    }
  }
}

function leftOut(listed: readonly Listed[]): string[] {
  const others = listed.filter(
    ({ database, collection }) => !isOrdinary(database) && !isAccounts(collection, database),
  )
  return [
    ...(others.length > 0
      ? [
          `${others
            .slice(0, 10)
            .map(({ database, collection }) => `${database}.${collection}`)
            .join(', ')}: belongs to the server itself, and is not restored`,
        ]
      : []),
  ]
}

function targetOf({ server, goals }: Prepared): string {
  const [one, second] = goals
  return one && !second ? `${server.where}/${one.target}` : server.where
}

function planOf(p: Prepared): RestorePlan {
  const { goals, wanted } = p
  const names = goals.map(({ target }) => target).join(', ') || 'the databases of the backup'
  const replaces = goals.flatMap(({ target, replaced }) =>
    replaced.map(({ name, type }) => `${type === 'timeseries' ? 'time series' : type} ${target}.${name}`),
  )
  const steps = [
    `loads ${wanted ? `${wanted.length} collections` : 'the collections'} into ${names}, under names that begin with cairn_restore_, and builds their indexes`,
  ]
  for (const { target, only, replaced } of goals)
    if (replaced.length > 0)
      steps.push(
        only
          ? `replaces the collections of ${target} that were named`
          : `drops all that is in ${target}, also what the backup does not hold`,
      )
  steps.push('when all of it was read right, gives them their names, and makes the views')
  if (wanted?.some(({ listed }) => listed.type === 'timeseries'))
    steps.push(
      'copies the time series into their place; this is not atomic: a time series that is replaced is dropped before',
    )
  const obstacle = p.accounts?.obstacle
  if (p.accounts && !obstacle)
    steps.push('creates the users and roles that are missing; those that are there stay as they are')
  const warnings = obstacle ? [...p.warnings, `users and roles are not restored: ${obstacle}`] : p.warnings
  return { target: targetOf(p), steps, replaces, warnings }
}

async function apply(
  p: Prepared,
  replace: boolean,
  read: ArtifactReader,
  ctx: Context,
): Promise<RestoreReport> {
  const target = targetOf(p)
  demandConsent(p.goals, target, replace)
  let made: Loaded[] = []
  const contents = await openContents(p.manifest, read)
  const accounts = p.accounts && openAccounts(p.server, p.accounts, ctx)
  const take = accounts?.take ?? (async () => {})
  try {
    const { loaded, rows, warnings } = await load(
      p.server,
      p.wanted ?? [],
      contents.contents(),
      made,
      take,
      ctx,
    )
    const goals = await again(p, target, replace)
    const current = loaded.map(one => ({
      ...one,
      goal: goals.find(({ from }) => from === one.goal.from) ?? one.goal,
    }))
    const left = await swap(p.server, goals, current)
    // They have their own names now.
    made = []
    return {
      target,
      objects: loaded.length,
      rows,
      warnings: [
        ...p.warnings,
        ...warnings,
        ...left.map(name => `${name} could not be dropped: drop it by hand`),
        ...((await accounts?.merge()) ?? []),
      ],
    }
  } finally {
    await contents.close()
    await accounts?.clear()
    await clear(p.server, made, ctx)
  }
}

function demandConsent(goals: readonly Goal[], target: string, replace: boolean): void {
  if (replace || goals.every(({ replaced }) => replaced.length === 0)) return
  throw usage(
    `cannot restore into ${target}`,
    'it is not empty',
    'restore into a new database, or give consent',
  )
}

/** What is there now, after hours perhaps: what was empty must still be. */
async function again({ server, goals }: Prepared, target: string, replace: boolean): Promise<Goal[]> {
  const now: Goal[] = []
  for (const { from, target: to, only } of goals) now.push(await survey(server, from, to, only))
  const grown = now.find(({ replaced }, index) => goals[index]?.replaced.length === 0 && replaced.length > 0)
  if (grown)
    throw usage(
      `cannot restore into ${target}`,
      `${grown.target} was empty, and no longer is`,
      'restore into a database that nobody else writes to',
    )
  demandConsent(now, target, replace)
  return now
}

async function clear(server: Server, made: readonly Loaded[], ctx: Context): Promise<void> {
  const names = made
    .filter(({ type }) => type !== 'view')
    .map(({ goal, scratch }) => ({ database: goal.target, name: scratch }))
  const left = await dropAll(server, names).catch(error => [asFailure(error, '').why])
  if (left.length === 0) return
  ctx.emit({
    type: 'warning',
    what: `cannot drop ${left.slice(0, 5).join(', ')}`,
    why: 'the server refused, or is gone',
    remedy: 'drop collections named cairn_restore_... by hand',
  })
}
