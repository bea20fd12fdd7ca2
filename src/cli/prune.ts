import { type Catalog, type Copy, readCatalog } from '../engine/catalog.ts'
import { applyPrune, type PruneStep, planPrune } from '../engine/prune.ts'
import { sweepMarks, sweepOrphans } from '../engine/sweep.ts'
import { asFailure, type ExitCode, exitCode, Failure, worstExit } from '../model/failure.ts'
import { showBytes } from '../model/quantity.ts'
import type { Store } from '../model/store.ts'
import { takeLock } from '../platform/lock.ts'
import { type Global, out, outJson, say, sayFailure, table } from './io.ts'
import { saySilent, type Work, withApp } from './work.ts'

interface Options extends Global {
  readonly dryRun?: boolean
}

/** `cairn prune [JOB…]`: applies retention; prints every backup with what happens to it and the rule that decided. */
export function run(jobs: readonly string[], options: Options): Promise<ExitCode> {
  return withApp(options, async work => {
    const { steps, failures } = await pruneJobs(jobs, work, options.dryRun === true)
    if (options.json) await outJson({ cairn: 1, dryRun: options.dryRun === true, steps: steps.map(toJson) })
    else if (steps.length > 0) await out(`${toTable(steps)}\n\n${summary(steps)}`)
    else say('there is no backup to prune')
    if (failures.length === 0) return exitCode.ok
    return steps.length > failures.length
      ? exitCode.partial
      : worstExit(failures.map(failure => failure.exit))
  })
}

/** Applies the retention of these jobs; one that fails does not stop the others. What failed has been said. */
export async function pruneJobs(
  jobs: readonly string[],
  work: Work,
  dryRun: boolean,
): Promise<{ steps: (PruneStep & { job: string })[]; failures: Failure[] }> {
  const steps: (PruneStep & { job: string })[] = []
  const failures: Failure[] = []
  for (const name of work.app.jobNames(jobs)) {
    const done = await pruneJob(name, work, dryRun).catch((error: unknown) => {
      work.ctx.signal.throwIfAborted()
      const failure = asFailure(error, `cannot prune ${name}`)
      sayFailure(failure)
      return { steps: [], failures: [failure] }
    })
    steps.push(...done.steps.map(step => ({ ...step, job: name })))
    failures.push(...done.failures)
  }
  return { steps, failures }
}

async function pruneJob(
  name: string,
  { app, ctx }: Work,
  dryRun: boolean,
): Promise<{ steps: PruneStep[]; failures: Failure[] }> {
  const job = await app.job(name)
  using _lock = await takeLock(app.state.lockPath(name), `job ${name}`)
  ctx.emit({ type: 'phase', phase: 'prune', job: name })
  const prunable = job.to.filter(({ store }) => store.can.list && store.can.read && store.can.remove)
  const catalog = await readCatalog(
    prunable.map(to => to.store),
    app.namesOf(name),
    ctx,
    app.named,
  )
  const failures = catalog.silent.map(({ failure }) => failure)
  saySilent(catalog)
  const steps: PruneStep[] = []
  for (const to of prunable) {
    if (catalog.silent.some(({ store }) => store === to.store)) continue
    const planned = await planPrune(job, to, catalog, ctx)
    steps.push(...planned)
    for (const { entry, manifest } of planned)
      if (!manifest) failures.push(refused(name, to.store.name, entry.id))
    if (dryRun) continue
    failures.push(...(await applyPrune(planned, ctx)))
    try {
      for (const each of app.namesOf(name)) await sweepOrphans(to.store, each, app.state.host, ctx)
      await sweepMarks(to.store, ctx, withoutManifest(catalog, to.store))
    } catch (error) {
      ctx.signal.throwIfAborted()
      failures.push(asFailure(error, `cannot clear up in ${to.store.name}`))
    }
  }
  return { steps, failures }
}

/** The backups that the store has by their names alone. */
function withoutManifest({ entries }: Catalog, store: Store): string[] {
  const isIt = ({ store: each, foreign }: Copy): boolean => each === store && foreign !== undefined
  return entries.filter(({ copies }) => copies.some(isIt)).map(({ id }) => id)
}

/** Prune has kept everything then, which must not go unnoticed. */
function refused(job: string, store: string, id: string): Failure {
  const failure = new Failure({
    what: `nothing of ${job} in ${store} is deleted`,
    why: `the manifest of ${id} cannot be read`,
    remedy: `cairn verify ${id} --store ${store} tells more; a newer Cairn may have written it`,
  })
  sayFailure(failure)
  return failure
}

const verbs: Readonly<Record<PruneStep['action'], string>> = {
  keep: 'keep',
  mark: 'delete, can be taken back',
  wait: 'deleted, can be taken back',
  delete: 'delete for good',
}

function toTable(steps: readonly (PruneStep & { job: string })[]): string {
  const rows = steps.map(({ job, store, entry, action, reason }) => [
    entry.id,
    job,
    store,
    verbs[action],
    reason,
  ])
  return table(['ID', 'JOB', 'STORE', 'WHAT', 'WHY'], rows)
}

/** `12 backups: 9 stay (1.2 GB), 2 can be taken back (300 MB), 1 goes for good (150 MB)`. */
function summary(steps: readonly PruneStep[]): string {
  const part = (actions: readonly PruneStep['action'][], verb: string): string[] => {
    const those = steps.filter(({ action }) => actions.includes(action))
    const bytes = those.reduce((sum, { entry }) => sum + entry.bytes, 0)
    return those.length > 0 ? [`${those.length} ${verb} (${showBytes(bytes)})`] : []
  }
  const parts = [
    ...part(['keep'], 'stay'),
    ...part(['mark', 'wait'], 'deleted, and can be taken back'),
    ...part(['delete'], 'deleted for good'),
  ]
  return `${steps.length} copies: ${parts.join(', ')}`
}

function toJson({ job, store, entry, action, reason }: PruneStep & { job: string }) {
  return { id: entry.id, job, store, action, reason, sizeBytes: entry.bytes }
}
