import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import { settlesWithin, Waiter } from '../../platform/abort.ts'
import { beforeStall } from '../../platform/stall.ts'
import { isUnanswered, waitNoMore } from '../../platform/unanswered.ts'
import type { Place } from './path.ts'

/** Disks that sleep need some ten seconds: so many times longer than for a server somebody waits for them at a terminal. */
const waking = 5
/** How long what was begun may take to clear up after an abort. */
const graceMs = 5_000

/**
 * Does something in a file system that may never answer: that of a server which is gone. Throws the signal's reason after an
 * abort, and a Failure when `ctx.stallMs` have passed (less where `ctx.patienceMs` says that a person waits), though what was asked for goes on behind. As long as it does, everything
 * else in the same store fails at once: it would wait as well, and each that waits takes a thread from all stores.
 */
export async function answered<T>(place: Place, work: () => Promise<T>, ctx: Context): Promise<T> {
  if (isUnanswered(place.root)) throw silent(place)
  const asked = work()
  using wait = new Waiter(ctx.signal)
  const { stallMs, patienceMs = Number.POSITIVE_INFINITY } = ctx
  const limits = { ...ctx, stallMs: Math.min(stallMs, waking * patienceMs) }
  try {
    return await wait.for(beforeStall(asked, limits, () => `${place.root} of store ${place.store}`))
  } catch (error) {
    if (await settlesWithin(asked, ctx.signal.aborted ? graceMs : 0)) return await asked
    waitNoMore(place.root, asked)
    throw error
  }
}

/** The same for each item of a sequence. */
export async function* eachAnswered<T>(
  place: Place,
  items: AsyncIterable<T>,
  ctx: Context,
): AsyncGenerator<T, void, undefined> {
  const iterator = items[Symbol.asyncIterator]()
  try {
    for (;;) {
      const next = await answered(place, () => iterator.next(), ctx)
      if (next.done) return
      yield next.value
    }
  } finally {
    // One that waits for an answer would never return.
    const over = iterator.return?.()
    if (isUnanswered(place.root)) over?.catch(() => {})
    else await over
  }
}

function silent({ store, root }: Place): Failure {
  return new Failure({
    what: `store ${store} does not answer`,
    why: `the file system of ${root} was asked something before, and has not answered yet`,
    remedy: 'see whether the server behind that mount can be reached',
  })
}
