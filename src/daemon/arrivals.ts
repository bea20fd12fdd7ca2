import type { App } from '../app.ts'
import { type CatalogEntry, isIncomplete, readCatalog } from '../engine/catalog.ts'
import { clockToleranceMs } from '../engine/retention.ts'
import { readManifest } from '../engine/stated.ts'
import type { Context } from '../model/context.ts'
import { asFailure, isDamage } from '../model/failure.ts'
import { showDuration } from '../model/quantity.ts'
import type { Store } from '../model/store.ts'
import { lastGoodRun } from './run-record.ts'

/** When something good of a job, which is a complete backup, last arrived in one of its stores. */
export interface Arrival {
  readonly store: string
  /** Null when nothing ever did. */
  readonly at: Date | null
  /** Why it was not the store that was asked, but the records of this host's own runs; null when it was. */
  readonly unasked: string | null
}

/** A store that has not answered by then is gone by the records. */
const answerMs = 5 * 60_000

/**
 * Asks every store of a job, by its catalog, for its newest complete backup that is not about to be deleted: whoever made it, and
 * whether anything was running here or not. A copy made later does not count as newer than its backup; what is from the
 * future, by a clock that was wrong, does not count at all. Throws only when the context is aborted.
 */
export function arrivalsOf(job: string, app: App, ctx: Context): Promise<Arrival[]> {
  return Promise.all(app.storesOf(job).map(store => arrivalIn(store, job, app, ctx)))
}

async function arrivalIn(store: Store, job: string, app: App, ctx: Context): Promise<Arrival> {
  const names = app.namesOf(job)
  const until = new Date(ctx.clock.now().getTime() + clockToleranceMs)
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
    return { store: store.name, at: await newestEnd(good, until, asking), unasked: null }
  } catch (error) {
    ctx.signal.throwIfAborted()
    const at = lastGoodRun(app.state, names, store.name, until)
    return { store: store.name, at, unasked: asFailure(error, `cannot list ${store.name}`).message }
  }
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

/** What is overdue, given when the job was first seen: that is where a store counts from that never got anything. */
export function isOverdue({ at }: Arrival, expectMs: number, since: Date, now: Date): boolean {
  return now.getTime() - (at ?? since).getTime() > expectMs
}

/** `nothing good has arrived in disk since 2026-11-20T02:00:00Z (26 h 5 min)`. */
export function describeArrival({ store, at, unasked }: Arrival, now: Date): string {
  const how = unasked ? `, as far as runs of this host go (${unasked})` : ''
  if (!at) return `nothing good has ever arrived in ${store}${how}`
  const ago = showDuration(Math.max(0, now.getTime() - at.getTime()))
  return `nothing good has arrived in ${store} since ${at.toISOString().slice(0, 19)}Z (${ago})${how}`
}
