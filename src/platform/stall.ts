import type { Context } from '../model/context.ts'
import { Failure } from '../model/failure.ts'

/**
 * Waits for a promise, but not for ever: when `ctx.stallMs` pass without it settling and without anybody
 * calling `ctx.alive`, it throws a Failure that names the culprit. `culprit` is asked only then.
 */
export async function beforeStall<T>(
  promise: Promise<T>,
  ctx: Context,
  culprit: () => string | Promise<string>,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const since = performance.now()
  const stalled = new Promise<never>((_resolve, reject) => {
    const wait = (): void => {
      const quiet = performance.now() - Math.max(since, ctx.lastAlive())
      if (quiet < ctx.stallMs) {
        timer = setTimeout(wait, Math.max(1, ctx.stallMs - quiet))
        return
      }
      Promise.resolve(culprit()).then(
        who => reject(stall(who, ctx.stallMs)),
        () => reject(stall('an unknown part', ctx.stallMs)),
      )
    }
    timer = setTimeout(wait, ctx.stallMs)
  })
  try {
    return await Promise.race([promise, stalled])
  } finally {
    clearTimeout(timer)
  }
}

/** Nothing moved for too long. */
export class Stalled extends Failure {}

export function stall(culprit: string, ms: number): Stalled {
  const seconds = ms / 1000
  const time = seconds >= 60 ? `${Math.round(seconds / 60)} min` : `${seconds} s`
  return new Stalled({
    what: `${culprit} has stalled`,
    why: `not a byte moved for ${time}`,
    remedy: 'see what it waits for; a longer time is set with "stall"',
  })
}
