import type { PruneStep } from '../engine/prune.ts'
import { type Pruned, pruneJob } from '../engine/prune-job.ts'
import { asFailure, type ExitCode, exitCode, type Failure, worstExit } from '../model/failure.ts'
import { showBytes } from '../model/quantity.ts'
import { takeLock } from '../platform/lock.ts'
import { type Global, out, outJson, say, sayFailure, table } from './io.ts'
import { contextFor, saySilent, type Work, withApp } from './work.ts'

interface Options extends Global {
  readonly dryRun?: boolean
}

/** `cairn prune [JOB…]`: applies retention; prints every backup with what happens to it and the rule that decided. */
export function run(jobs: readonly string[], options: Options): Promise<ExitCode> {
  return withApp(options, async work => {
    const steps: (PruneStep & { job: string })[] = []
    const failures: Failure[] = []
    let isWell = false
    for (const name of work.app.jobNames(jobs)) {
      const done = await pruneNamed(name, work, options).catch((error: unknown) => {
        work.ctx.signal.throwIfAborted()
        const failure = asFailure(error, `cannot prune ${name}`)
        sayFailure(failure)
        return { steps: [], failures: [failure], well: [] }
      })
      steps.push(...done.steps.map(step => ({ ...step, job: name })))
      failures.push(...done.failures)
      isWell ||= done.well.length > 0
    }
    if (options.json) await outJson({ cairn: 1, dryRun: options.dryRun === true, steps: steps.map(toJson) })
    else if (steps.length > 0) await out(`${toTable(steps)}\n\n${summary(steps)}`)
    else if (failures.length === 0) say('there is no backup to prune')
    if (failures.length === 0) return exitCode.ok
    return isWell || steps.length > failures.length
      ? exitCode.partial
      : worstExit(failures.map(failure => failure.exit))
  })
}

async function pruneNamed(
  name: string,
  work: Work,
  options: Options,
): Promise<Omit<Pruned, 'catalog' | 'refused'>> {
  const { app } = work
  const ctx = contextFor(name, work, options)
  const job = await app.job(name)
  using _lock = await takeLock(app.state.lockPath(name), `job ${name}`)
  const pruned = await pruneJob(job, app.named, app.state.host, ctx, options.dryRun)
  saySilent(pruned.catalog)
  for (const failure of pruned.refused) sayFailure(failure)
  return pruned
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
