import type { Context } from '../model/context.ts'
import type { Job } from '../model/job.ts'
import { backupUnit } from './backup-unit.ts'
import { type Begun, forgetful, sweepStores } from './begun.ts'
import { guardScope } from './guards.ts'
import { oneByOne, readThenDeliver } from './in-turn.ts'
import { freeMoment, refuseKeys, untilOtherNames } from './moment.ts'
import type { BackupOutcome } from './outcome.ts'
import type { Task } from './take.ts'
import { inspectAll } from './tasks.ts'

/**
 * Backs up every unit of a job's sources, one after the other; one that fails does not stop the others.
 *
 * The caller holds the job's lock. `host` names this host for good: what an earlier run of ours left in the stores is
 * cleared away first. Throws when no source can be inspected; then nothing was touched.
 */
export async function backup(
  job: Job,
  host: string,
  ctx: Context,
  begun: Begun = forgetful,
): Promise<BackupOutcome[]> {
  // What a run that died had stopped is put right first, whatever becomes of this run.
  for (const guard of job.guards) await guard.recover(ctx)
  for (const { warning } of job.stages) if (warning) ctx.emit({ type: 'warning', ...warning })
  const sweeping = sweepStores(job, host, begun, ctx)
  const isSwept = sweeping.catch(() => {})
  // While guards hold something up, no store is waited for, and not for long for one that has just failed.
  const doubtful = new Set(job.guards.length > 0 ? (await sweeping).keys() : [])
  const guards = guardScope(job.guards)
  await guards.enter(ctx)
  try {
    const { tasks, outcomes } = await inspectAll(job, ctx).finally(() => isSwept)
    await sweeping
    const units = tasks.map(({ unit }) => unit.name)
    refuseKeys(job, units, ctx.clock.now())
    const at = await freeMoment(job, units, ctx)
    // In names that people read, all of one run have the same time.
    const run = (task: Task): Promise<BackupOutcome> =>
      backupUnit(job, task, job.pattern ? at : ctx.clock.now(), host, begun, doubtful, ctx)
    const isApart = job.capture === 'spool' && job.guards.length > 0
    const inTurn = isApart ? readThenDeliver : oneByOne
    const { ended, stuck } = await inTurn(tasks, run, () => guards.leave(ctx), ctx)
    outcomes.push(...ended)
    // It has been reported. What was read is none the worse for it.
    const last = outcomes.pop()
    if (last) outcomes.push(stuck ? { ...last, failures: [...last.failures, stuck] } : last)
    await guards.leave(ctx)
    // Where a store did not take the backup either, it is told of that.
    for (const [store, warning] of await sweeping)
      if (outcomes.some(({ stores }) => stores.includes(store))) ctx.emit(warning)
    await untilOtherNames(job, at, ctx)
    return outcomes
  } catch (error) {
    await guards.leave(ctx).catch(() => {})
    throw error
  }
}
