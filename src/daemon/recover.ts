import type { App } from '../app.ts'
import type { Context } from '../model/context.ts'
import { asFailure, exitCode } from '../model/failure.ts'
import { takeLock } from '../platform/lock.ts'

/**
 * Puts right what runs that died had entered and not left (containers that stand still), of every job that no process is
 * running now. What cannot be put right is reported, and tried again the next time. Returns whether nothing of that kind is left.
 */
export async function recoverJobs(app: App, ctx: Context): Promise<boolean> {
  let isClear = true
  for (const { job, guard } of app.entered()) {
    try {
      using _lock = await takeLock(app.state.lockPath(job), `job ${job}`)
      await guard.recover(ctx)
      isClear &&= !guard.isLeft?.()
    } catch (error) {
      ctx.signal.throwIfAborted()
      const { what, why, remedy, exit } = asFailure(error, `what a run of ${job} had entered is not left`)
      if (exit === exitCode.locked) continue
      isClear = false
      ctx.emit({ type: 'warning', what, why, remedy })
    }
  }
  return isClear
}
