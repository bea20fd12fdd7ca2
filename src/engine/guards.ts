import type { Context } from '../model/context.ts'
import { asFailure } from '../model/failure.ts'
import type { Guard } from '../model/source.ts'
import { cleanupContext } from '../platform/run-context.ts'

/** How long all that a guard undoes may take after an abort. */
const leaveMs = 120_000

/**
 * Enters the guards in their order, does the work, and leaves them in the opposite order whatever happened. A guard
 * that cannot be entered stops the work; it and all before it are left. One that cannot be left is a failure even
 * when the work went well, because something of the user's may still be standing still; the others are left all the same.
 */
export async function guarded<T>(guards: readonly Guard[], ctx: Context, work: () => Promise<T>): Promise<T> {
  const entered: Guard[] = []
  let result: { value: T } | null = null
  let failure: { error: unknown } | null = null
  try {
    for (const guard of guards) {
      entered.unshift(guard)
      await guard.enter(ctx)
    }
    result = { value: await work() }
  } catch (error) {
    failure = { error }
  }
  for (const guard of entered) {
    try {
      await guard.leave(cleanupContext(ctx, leaveMs))
    } catch (error) {
      const left = asFailure(error, `${guard.name} could not be undone`)
      ctx.emit({ type: 'failure', what: left.what, why: left.why, remedy: left.remedy })
      failure ??= { error: left }
    }
  }
  if (failure || !result) throw failure?.error
  return result.value
}
