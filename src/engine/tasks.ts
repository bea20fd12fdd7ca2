import type { Context } from '../model/context.ts'
import { asFailure, type Failure, usage } from '../model/failure.ts'
import type { Job } from '../model/job.ts'
import { beforeStall } from '../platform/stall.ts'
import { announce, type BackupOutcome } from './outcome.ts'
import type { Task } from './take.ts'

/** One unit to back up, before anybody holds its source. */
export type Unheld = Omit<Task, 'released'>

/** What there is to back up, of all sources; and those that failed, if others did not. */
export async function inspectAll(
  job: Job,
  ctx: Context,
): Promise<{ tasks: Unheld[]; outcomes: BackupOutcome[] }> {
  const tasks: Unheld[] = []
  const failed: { unit: string; failure: Failure }[] = []
  ctx.emit({ type: 'phase', phase: 'inspect', job: job.name })
  for (const [index, source] of job.sources.entries()) {
    const name = job.sources.length === 1 ? 'the source' : `source ${index + 1} (${source.engine})`
    try {
      const inspection = await beforeStall(source.inspect(ctx), ctx, () => `${name} of ${job.name}`)
      tasks.push(...inspection.units.map(unit => ({ source, inspection, unit })))
    } catch (error) {
      ctx.signal.throwIfAborted()
      failed.push({ unit: name, failure: asFailure(error, `${name} of ${job.name} failed`) })
    }
  }
  const [first] = failed
  if (first && failed.length === job.sources.length) throw first.failure
  refuseTwins(job, tasks)
  for (const { unit, failure } of failed) announce(failure, unit, ctx)
  const outcomes = failed.map(({ unit, failure }) => ({
    ...{ unit, id: null, manifest: null, stores: [] },
    failures: [failure],
  }))
  return { tasks, outcomes }
}

/** Two backups of one thing in one run would count as two when old ones are let go. */
function refuseTwins(job: Job, tasks: readonly Unheld[]): void {
  const seen = new Set<string>()
  for (const { source, inspection, unit } of tasks) {
    const key = JSON.stringify([source.engine, unit.identity ?? inspection.identity, unit.name])
    if (seen.has(key))
      throw usage(
        `job ${job.name} backs up ${unit.name} twice`,
        'two of its sources are the same',
        'remove one of them',
      )
    seen.add(key)
  }
}
