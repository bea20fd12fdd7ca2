import type { Context } from '../model/context.ts'
import { asFailure } from '../model/failure.ts'
import type { Guard } from '../model/source.ts'
import { cleanupContext } from '../platform/run-context.ts'

/** How long all that a guard undoes may take after an abort. */
const leaveMs = 120_000

/** The guards of one run: entered before its source is looked at, left when the last of it was read, whatever happened. */
export interface GuardScope {
  /** In their order. One that cannot be entered throws, and it and all before it are left. */
  enter(ctx: Context): Promise<void>
  /**
   * In the opposite order; may be called again. One that cannot be left is a failure, reported and thrown, because
   * something of the user's may still be standing still; the others are left all the same.
   */
  leave(ctx: Context): Promise<void>
}

export function guardScope(guards: readonly Guard[]): GuardScope {
  const entered: Guard[] = []
  const leave = async (ctx: Context): Promise<void> => {
    let failure: { error: unknown } | null = null
    for (let guard = entered.pop(); guard; guard = entered.pop()) {
      try {
        await guard.leave(cleanupContext(ctx, guard.leaveMs ?? leaveMs))
      } catch (error) {
        const left = asFailure(error, `${guard.name} could not be undone`)
        ctx.emit({ type: 'failure', what: left.what, why: left.why, remedy: left.remedy })
        failure ??= { error: left }
      }
    }
    if (failure) throw failure.error
  }
  return {
    leave,
    async enter(ctx) {
      try {
        for (const guard of guards) {
          entered.push(guard)
          await guard.enter(ctx)
        }
      } catch (error) {
        await leave(ctx).catch(() => {})
        throw error
      }
    },
  }
}
