import type { App } from '../app.ts'
import { type CatalogEntry, isIncomplete, readCatalog } from '../engine/catalog.ts'
import { clockToleranceMs } from '../engine/retention.ts'
import { readManifest } from '../engine/stated.ts'
import type { Context } from '../model/context.ts'
import { asFailure, isDamage } from '../model/failure.ts'
import { unitInKeys } from '../model/key.ts'
import { showDuration } from '../model/quantity.ts'
import type { Store } from '../model/store.ts'
import { eachOf } from '../platform/each-of.ts'
import { knownUnits, lastGoodRun } from './run-record.ts'

/** When something good of a job, which is a complete backup, last arrived in one of its stores: of a unit, where it has several. */
export interface Arrival {
  readonly store: string
  /** Null where the job has one, or where this host does not know them. */
  readonly unit: string | null
  /** When this host first came upon the unit; null where it has none. */
  readonly known: Date | null
  /** Null when nothing ever did. */
  readonly at: Date | null
  /** Why it was not the store that was asked, but the records of this host's own runs; null when it was. */
  readonly unasked: string | null
}

/** What tells an arrival from the others of its job, also across restarts. */
export function placeOf({ store, unit }: Pick<Arrival, 'store' | 'unit'>): string {
  return unit === null ? store : `${store}/${unit}`
}

/** `in disk`, `of customers in disk`. */
export function describePlace(place: string): string {
  const unit = unitIn(place)
  return unit === null ? `in ${place}` : `of ${unit} in ${storeIn(place)}`
}

/** Null where it is of the whole job. */
export function unitIn(place: string): string | null {
  const store = storeIn(place)
  return place === store ? null : place.slice(store.length + 1)
}

/** The store of a place: no name of one has a slash. */
export function storeIn(place: string): string {
  const [store = place] = place.split('/', 1)
  return store
}

/** A store that has not answered by then is gone by the records. */
const answerMs = 5 * 60_000
/** So many manifests are read at once. */
const readAtOnce = 8

/**
 * Asks every store of a job, by its catalog, for its newest complete backup that is not about to be deleted, of each unit that the
 * last run of this host has found: whoever made it, and
 * whether anything was running here or not. A copy made later does not count as newer than its backup; what is from the
 * future, by a clock that was wrong, does not count at all. Throws only when the context is aborted.
 */
export async function arrivalsOf(job: string, app: App, ctx: Context): Promise<Arrival[]> {
  const until = new Date(ctx.clock.now().getTime() + clockToleranceMs)
  const units = [...(knownUnits(app.state, app.namesOf(job), until) ?? [])]
  const wanted = units.length > 1 ? units.map(([unit, known]) => ({ unit, known })) : [whole]
  const arrivals = app.storesOf(job).map(store => arrivalsIn(store, job, wanted, until, app, ctx))
  return (await Promise.all(arrivals)).flat()
}

type Wanted = Pick<Arrival, 'unit' | 'known'>

const whole: Wanted = { unit: null, known: null }

async function arrivalsIn(
  store: Store,
  job: string,
  wanted: readonly Wanted[],
  until: Date,
  app: App,
  ctx: Context,
): Promise<Arrival[]> {
  const names = app.namesOf(job)
  try {
    const signal = AbortSignal.any([ctx.signal, AbortSignal.timeout(answerMs)])
    const asking = { ...ctx, signal }
    const { entries } = await readCatalog([store], names, asking, app.named)
    const good = entries.filter(
      entry =>
        !isIncomplete(entry) &&
        entry.copies.some(({ marks }) => !marks.deletedAt) &&
        entry.startedAt <= until,
    )
    return await eachOf(wanted, readAtOnce, async each => ({
      store: store.name,
      ...each,
      at: await newestEnd(
        good.filter(entry => isOf(entry, each)),
        until,
        asking,
      ),
      unasked: null,
    }))
  } catch (error) {
    ctx.signal.throwIfAborted()
    const unasked = asFailure(error, `cannot list ${store.name}`).message
    const at = ({ unit }: Wanted): Date | null => lastGoodRun(app.state, names, store.name, until, unit)
    return wanted.map(each => ({ store: store.name, ...each, at: at(each), unasked }))
  }
}

/** What does not tell its unit may be of any. */
function isOf(entry: CatalogEntry, { unit }: Wanted): boolean {
  return unit === null || entry.unit === null || entry.unit === unit || entry.unit === unitInKeys(unit)
}

/** Of the newest whose manifest is not damaged. */
async function newestEnd(entries: readonly CatalogEntry[], until: Date, ctx: Context): Promise<Date | null> {
  for (const entry of entries) {
    const end = await endOf(entry, ctx)
    if (end) return end <= until ? end : entry.startedAt
  }
  return null
}

/**
 * The store tells when it was put there, which may have been later, by a copy; the manifest, where it may be read, when it was
 * made. Null when it is damaged.
 */
async function endOf({ copies: [copy], finishedAt }: CatalogEntry, ctx: Context): Promise<Date | null> {
  if (!copy || copy.foreign) return finishedAt
  try {
    const made = new Date((await readManifest(copy, ctx)).manifest.finishedAt)
    return made < finishedAt ? made : finishedAt
  } catch (error) {
    ctx.signal.throwIfAborted()
    return isDamage(error) ? null : finishedAt
  }
}

/** What is overdue, given when the job was first seen: that is where a store counts from that never got anything, or of a unit from when that was. */
export function isOverdue(arrival: Arrival, expectMs: number, since: Date, now: Date): boolean {
  return now.getTime() - countedFrom(arrival, since).getTime() > expectMs
}

export function countedFrom({ at, known }: Arrival, since: Date): Date {
  return at ?? (known && known > since ? known : since)
}

/** `nothing good has arrived in disk since 2026-11-20T02:00:00Z (26 h 5 min)`; `nothing good of customers has …`. */
export function describeArrival({ store, unit, at, unasked }: Arrival, now: Date): string {
  const how = unasked ? `, as far as runs of this host go (${unasked})` : ''
  const good = unit === null ? 'nothing good' : `nothing good of ${unit}`
  if (!at) return `${good} has ever arrived in ${store}${how}`
  const ago = showDuration(Math.max(0, now.getTime() - at.getTime()))
  return `${good} has arrived in ${store} since ${at.toISOString().slice(0, 19)}Z (${ago})${how}`
}

/** When something good last arrived in each store; of several units, of the one that has waited for longest. Null: never. */
export function oldestIn(arrivals: readonly Arrival[]): Record<string, string | null> {
  const oldest: Record<string, string | null> = {}
  for (const { store, at } of arrivals) {
    const known = oldest[store]
    const time = at?.toISOString() ?? null
    if (known === undefined || time === null || (known !== null && time < known)) oldest[store] = time
  }
  return oldest
}
