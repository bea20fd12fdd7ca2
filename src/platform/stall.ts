import type { Context } from '../model/context.ts'
import { Failure } from '../model/failure.ts'
import type { Source } from '../model/source.ts'

/** The longest that a timer can wait; more would be none at all. */
const longestTimerMs = 2 ** 31 - 1
/** How long finding the culprit may take: the server that does not answer may be asked for it. */
const blameMs = 5_000

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
  let since = performance.now()
  const stalled = new Promise<never>((_resolve, reject) => {
    const look = (isLate: boolean): void => {
      if (isLate) since = performance.now()
      const left = ctx.stallMs - (performance.now() - Math.max(since, ctx.lastAlive()))
      if (left > 0) timer = lookAfter(left, ctx.stallMs, look)
      else void blame().then(who => reject(stall(who, ctx.stallMs)))
    }
    const blame = async (): Promise<string> => {
      const late = new Promise<string>(resolve => {
        timer = setTimeout(resolve, blameMs, nobody)
      })
      return Promise.race([(async () => culprit())().catch(() => nobody), late])
    }
    timer = lookAfter(ctx.stallMs, ctx.stallMs, look)
  })
  try {
    return await Promise.race([promise, stalled])
  } finally {
    clearTimeout(timer)
  }
}

const nobody = 'an unknown part'

/**
 * A timer that tells whether it is late by half of the time of a stall. Then this process was stopped, or the whole machine, and
 * what has come meanwhile was not seen: nobody can be blamed for that time.
 */
export function lookAfter(ms: number, stallMs: number, look: (isLate: boolean) => void): NodeJS.Timeout {
  const wait = Math.min(Math.max(1, Math.ceil(ms)), longestTimerMs)
  const due = performance.now() + wait
  return setTimeout(() => look(performance.now() - due > stallMs / 2), wait)
}

/**
 * Looks every now and then whether something moves, and calls `onStall`, once, when nothing did for `ctx.stallMs`:
 * `moved` gave the same all the time, and nobody called `ctx.alive`. It looks a little less often than would find
 * out exactly, so that whoever waits for one thing only, and knows more about it, speaks first. To be disposed.
 */
export function watchForStall(ctx: Context, moved: () => string, onStall: () => void): Disposable {
  const every = ctx.stallMs / 3.5
  let last: string | undefined
  let since = performance.now()
  const look = (isLate: boolean): void => {
    const now = moved()
    if (isLate || (last !== undefined && now !== last)) since = performance.now()
    last = now
    if (performance.now() - Math.max(since, ctx.lastAlive()) >= ctx.stallMs) onStall()
    else timer = lookAfter(every, ctx.stallMs, look)
  }
  let timer = lookAfter(every, ctx.stallMs, look)
  return { [Symbol.dispose]: () => clearTimeout(timer) }
}

/** Nothing moved for too long. */
export class Stalled extends Failure {}

/** A stall with what the source says of its silence, before anybody is blamed; any other error as it is. */
export async function explained(
  error: unknown,
  source: Pick<Source, 'whySilent'>,
  ctx: Context,
): Promise<unknown> {
  if (!(error instanceof Stalled) || !source.whySilent) return error
  const asked = beforeStall(source.whySilent(ctx), { ...ctx, stallMs: 5_000 }, () => '')
  const reason = await asked.catch(() => '')
  if (!reason) return error
  const { what, why, remedy } = error
  return new Failure({ what, why: `${why}; ${reason}`, remedy, cause: error })
}

export function stall(culprit: string, ms: number): Stalled {
  const seconds = ms / 1000
  const time = seconds >= 120 ? `${Math.round(seconds / 60)} min` : `${seconds} s`
  return new Stalled({
    what: `${culprit} has stalled`,
    why: `not a byte moved for ${time}`,
    remedy: 'see what it waits for; a longer time is set with "stall"',
  })
}
