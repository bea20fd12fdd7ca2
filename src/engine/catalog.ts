import type { Context } from '../model/context.ts'
import { asFailure, exitCode, Failure, usage } from '../model/failure.ts'
import {
  idPattern,
  manifestPrefix,
  markPrefix,
  parseManifestKey,
  parseMarkKey,
  startOf,
} from '../model/key.ts'
import { foldMarks } from '../model/mark.ts'
import type { Store } from '../model/store.ts'
import { suggest } from '../model/suggest.ts'
import type { CatalogEntry, Copy } from './entry.ts'
import type { NamedObjects } from './foreign.ts'
import { isCalled, withNamed } from './named.ts'
import { clockToleranceMs } from './retention.ts'

export type { CatalogEntry, Copy }

export interface Catalog {
  /** Newest first. */
  readonly entries: readonly CatalogEntry[]
  /** Stores that could not be asked; what they hold is not known. */
  readonly silent: readonly { readonly store: Store; readonly failure: Failure }[]
}

/**
 * The backups of the stores, under these job names or under all, and those of `named` that have no manifest. Two listings
 * a store and name, however many backups there are. A store that fails is reported in `silent`; throws only when none answers, or none can be listed.
 */
export async function readCatalog(
  stores: readonly Store[],
  jobs: readonly string[] | null,
  ctx: Context,
  named: readonly NamedObjects[] = [],
): Promise<Catalog> {
  const readable = stores.filter(store => store.can.list)
  if (readable.length === 0) {
    const names = stores.map(store => store.name).join(', ')
    throw usage('cannot list backups', `no store can be listed (${names})`, 'use credentials that may read')
  }
  const answers = await Promise.all(
    readable.map(async store => {
      try {
        return { store, found: await readStore(store, jobs, named, ctx) }
      } catch (error) {
        ctx.signal.throwIfAborted()
        return { store, failure: asFailure(error, `cannot list store ${store.name}`) }
      }
    }),
  )
  const silent = answers.flatMap(({ store, failure }) => (failure ? [{ store, failure }] : []))
  if (silent.length === answers.length && silent[0]) throw silent[0].failure
  return { entries: merged(answers.flatMap(({ found }) => found ?? [])), silent }
}

/** Everything of one store, a copy each. */
async function readStore(
  store: Store,
  jobs: readonly string[] | null,
  named: readonly NamedObjects[],
  ctx: Context,
): Promise<CatalogEntry[]> {
  const marks = new Map<string, { at: string; mark: string }[]>()
  const listMarks = async (): Promise<void> => {
    for await (const { key } of store.list(markPrefix, ctx)) {
      const parsed = parseMarkKey(key)
      if (parsed) marks.set(parsed.id, [...(marks.get(parsed.id) ?? []), parsed])
    }
  }
  const found: Omit<CatalogEntry, 'copies'>[] = []
  const keys = new Map<string, string>()
  const listManifests = async (): Promise<void> => {
    const prefixes = jobs?.map(job => `${manifestPrefix}${job}/`) ?? [manifestPrefix]
    for (const prefix of prefixes) {
      for await (const entry of store.list(prefix, ctx)) {
        const parsed = parseManifestKey(entry.key)
        if (!parsed) continue
        found.push({ ...parsed, startedAt: startOf(parsed.id), finishedAt: entry.modified })
        keys.set(parsed.id, entry.key)
      }
    }
  }
  // In this order: a backup whose deletion is under way is then seen with its mark, or not at all.
  await listMarks()
  await listManifests()
  const stated = found.map(backup => ({
    ...backup,
    copies: [
      {
        store,
        manifestKey: keys.get(backup.id) ?? '',
        marks: foldMarks(marks.get(backup.id) ?? []),
        finishedAt: backup.finishedAt,
      },
    ],
  }))
  const wanted = named.filter(({ job }) => jobs?.includes(job) !== false)
  return await withNamed(stated, store, wanted, id => foldMarks(marks.get(id) ?? []), ctx)
}

function merged(found: readonly CatalogEntry[]): CatalogEntry[] {
  const byId = new Map<string, CatalogEntry>()
  for (const entry of found) {
    const known = byId.get(entry.id)
    byId.set(entry.id, known ? withCopy(known, entry) : entry)
  }
  return [...byId.values()].map(liveFirst).sort(newestFirst)
}

/** Readers take the first copy that serves: one that stays before one that is deleted, and last one whose data is being removed. */
function liveFirst(entry: CatalogEntry): CatalogEntry {
  const rank = ({ marks }: Copy): number => Number(marks.deletedAt !== null) + Number(marks.isGoing)
  return { ...entry, copies: entry.copies.toSorted((a, b) => rank(a) - rank(b)) }
}

/** A copy that was made later does not make the backup newer. */
function withCopy(known: CatalogEntry, { copies, finishedAt }: CatalogEntry): CatalogEntry {
  const earlier = finishedAt < known.finishedAt ? finishedAt : known.finishedAt
  return { ...known, finishedAt: earlier, copies: [...known.copies, ...copies] }
}

/** Ids tell seconds only; of two backups of the same second, the one that was finished last is the newer one. */
function newestFirst(a: CatalogEntry, b: CatalogEntry): number {
  const apart =
    b.startedAt.getTime() - a.startedAt.getTime() || b.finishedAt.getTime() - a.finishedAt.getTime()
  return apart || (a.id < b.id ? 1 : -1)
}

/** Whether a store could not be asked. */
export function isSilent(name: string, { silent }: Pick<Catalog, 'silent'>): boolean {
  return silent.some(({ store }) => store.name === name)
}

/** True where some store still means to keep it: no deletion is pending there. */
export function isLive(entry: CatalogEntry): boolean {
  return entry.copies.some(copy => !copy.marks.deletedAt)
}

/** True where a part of its unit is not in it. */
export function isIncomplete(entry: CatalogEntry): boolean {
  return entry.copies.some(copy => copy.marks.isIncomplete)
}

/**
 * The backup that a person means: an id, an unambiguous beginning of one, `latest`, `JOB@latest`, or, where a job backs
 * up several units, `JOB/UNIT@latest`; where a job names its objects also such a name, or the time in it. `namesOf` gives
 * all names under which a job's backups were made. Throws a Failure with exit 10 when there is none, and with exit 2 when there are several,
 * or when it is not certain which is the latest.
 */
export function resolve(
  catalog: Catalog,
  handle: string,
  namesOf: (job: string) => readonly string[] = job => [job],
  named: readonly NamedObjects[] = [],
  now = new Date(),
): CatalogEntry {
  const newest = newestNamed(handle)
  if (newest) return newestOf(catalog, newest, namesOf, now)
  const byId = catalog.entries.filter(entry =>
    idPattern.test(handle) ? entry.id === handle : entry.id.startsWith(handle),
  )
  const matches = byId.length > 0 ? byId : catalog.entries.filter(entry => isCalled(entry, handle, named))
  const [only, second] = matches
  if (only && second) {
    const ids = matches.slice(0, 3).map(entry => entry.id)
    throw usage(
      `"${handle}" is ambiguous`,
      `it begins ${ids.join(', ')}${matches.length > 3 ? ', …' : ''}`,
      'type more of it',
    )
  }
  if (only && handle !== '') return only
  throw noSuch(`no backup is called "${handle}"`, catalog, handle)
}

/** What `JOB/UNIT@latest` says; null for other handles. */
export function newestNamed(handle: string): { job: string | null; unit: string | null } | null {
  if (handle === 'latest') return { job: null, unit: null }
  const [, job, unit] = /^([^/]+)(?:\/(.+))?@latest$/s.exec(handle) ?? []
  return job === undefined ? null : { job, unit: unit ?? null }
}

function newestOf(
  catalog: Catalog,
  { job, unit }: { job: string | null; unit: string | null },
  namesOf: (job: string) => readonly string[],
  now: Date,
): CatalogEntry {
  const names = job === null ? null : namesOf(job)
  const live = catalog.entries.filter(entry => isLive(entry) && names?.includes(entry.job) !== false)
  const wanted = unit === null ? live : live.filter(entry => entry.unit === unit)
  const [newest] = wanted
  if (!newest && job === null) throw noSuch('there is no backup yet', catalog)
  if (!newest) {
    const of = unit === null ? '' : ` of ${unit}`
    throw noSuch(`job ${job} has no backup${of}`, catalog, unit === null ? `${job}` : `${job}/${unit}`)
  }
  mustBeOfNow(newest, wanted, now)
  if (unit === null)
    mustBeAlone(
      newest,
      live.filter(entry => job !== null || entry.job === newest.job),
      job ?? newest.job,
    )
  return newest
}

/** Of several, one from the future was made by a clock that was wrong: newer ones may have come since. */
function mustBeOfNow(newest: CatalogEntry, wanted: readonly CatalogEntry[], now: Date): void {
  const isFuture = ({ startedAt }: CatalogEntry): boolean =>
    startedAt.getTime() > now.getTime() + clockToleranceMs
  const other = wanted.find(entry => !isFuture(entry))
  if (!other || !isFuture(newest)) return
  throw usage(
    'which backup is the latest is not certain',
    `${newest.id} is from the future: a clock was wrong, or this one is`,
    `name the one that is meant: ${other.id} is the latest that is not`,
  )
}

/** Of a run that backed up several units, the one that happened to be the last is not what anybody means. */
function mustBeAlone(newest: CatalogEntry, live: readonly CatalogEntry[], job: string): void {
  const before = live.findIndex((entry, index) => index > 0 && entry.unit === newest.unit)
  const run = live.slice(0, before < 0 ? live.length : before)
  const units = [...new Set(run.map(entry => entry.unit))].filter(unit => unit !== null)
  if (units.length < 2) return
  throw usage(
    `the latest of job ${job} is ambiguous`,
    `the job backs up ${units.length} units`,
    `write one of ${units.map(unit => `${job}/${unit}@latest`).join(', ')}`,
  )
}

/** `wanted`: what may be the name of a job, or of a unit of one. */
function noSuch(why: string, catalog: Catalog, wanted = ''): Failure {
  const unheard = catalog.silent.map(({ store }) => store.name)
  const names = catalog.entries
    .filter(isLive)
    .flatMap(({ job, unit }) => (unit === null ? [job] : [job, `${job}/${unit}`]))
  const meant = wanted === '' ? null : suggest(wanted, new Set(names))
  return new Failure({
    what: 'no such backup',
    why: unheard.length > 0 ? `${why} in the stores that answer (${unheard.join(', ')} did not)` : why,
    remedy: `${meant ? `did you mean ${meant}@latest? ` : ''}cairn list shows what there is`,
    exit: exitCode.noSuchBackup,
  })
}
