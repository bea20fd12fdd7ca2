import type { Context } from '../model/context.ts'
import { asFailure, Failure } from '../model/failure.ts'
import type { Job } from '../model/job.ts'
import type { Store } from '../model/store.ts'
import { type Catalog, type Copy, isSilent, readCatalog } from './catalog.ts'
import type { NamedObjects } from './foreign.ts'
import { announce } from './outcome.ts'
import { applyPrune, type PruneStep, planPrune } from './prune.ts'
import { sweepMarks, sweepOrphans } from './sweep.ts'

/** What retention did to a job. */
export interface Pruned {
  readonly catalog: Catalog
  readonly steps: readonly PruneStep[]
  /** Everything that went wrong, what was refused among it. */
  readonly failures: readonly Failure[]
  /** Manifests that could not be read: their stores kept everything. */
  readonly refused: readonly Failure[]
  /** The stores where nothing went wrong. */
  readonly well: readonly string[]
}

/**
 * Applies a job's retention in every store that can be pruned, and clears away what interrupted runs left there. The
 * caller holds the job's lock. One store that fails does not stop the others; throws when none can be listed.
 */
export async function pruneJob(
  job: Job,
  named: readonly NamedObjects[],
  host: string,
  ctx: Context,
  dryRun = false,
): Promise<Pruned> {
  const names = [job.name, ...job.formerly]
  ctx.emit({ type: 'phase', phase: 'prune', job: job.name })
  const prunable = job.to.filter(({ store }) => store.can.list && store.can.read && store.can.remove)
  const catalog = await readCatalog(
    prunable.map(to => to.store),
    names,
    ctx,
    named,
  )
  const failures = catalog.silent.map(({ failure }) => failure)
  const refused: Failure[] = []
  const steps: PruneStep[] = []
  const well: string[] = []
  for (const to of prunable) {
    if (isSilent(to.store.name, catalog)) continue
    const before = failures.length + refused.length
    try {
      const planned = await planPrune(job, to, catalog, ctx)
      steps.push(...planned)
      for (const { entry, manifest } of planned)
        if (!manifest) refused.push(unread(job.name, to.store.name, entry.id))
      if (!dryRun) {
        failures.push(...(await applyPrune(planned, ctx)))
        await clearUp(to.store, names, host, catalog, ctx)
      }
    } catch (error) {
      ctx.signal.throwIfAborted()
      const failure = asFailure(error, `cannot prune ${job.name} in ${to.store.name}`)
      announce(failure, undefined, ctx, to.store.name)
      failures.push(failure)
    }
    if (failures.length + refused.length === before) well.push(to.store.name)
  }
  return { catalog, steps, failures: [...failures, ...refused], refused, well }
}

async function clearUp(
  store: Store,
  names: readonly string[],
  host: string,
  catalog: Catalog,
  ctx: Context,
): Promise<void> {
  try {
    for (const name of names) await sweepOrphans(store, name, host, ctx)
    await sweepMarks(store, ctx, withoutManifest(catalog, store))
  } catch (error) {
    ctx.signal.throwIfAborted()
    throw asFailure(error, `cannot clear up in ${store.name}`)
  }
}

/** The backups that the store has by their names alone. */
function withoutManifest({ entries }: Catalog, store: Store): string[] {
  const isIt = ({ store: each, foreign }: Copy): boolean => each === store && foreign !== undefined
  return entries.filter(({ copies }) => copies.some(isIt)).map(({ id }) => id)
}

/** Prune has kept everything then, which must not go unnoticed. */
function unread(job: string, store: string, id: string): Failure {
  return new Failure({
    what: `nothing of ${job} in ${store} is deleted`,
    why: `the manifest of ${id} cannot be read`,
    remedy: `cairn verify ${id} --store ${store} tells more; a newer Cairn may have written it`,
  })
}
