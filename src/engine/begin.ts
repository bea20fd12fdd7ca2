// Until when a backup that was begun counts as one that is running.

import { randomBytes } from 'node:crypto'
import type { Context } from '../model/context.ts'
import { asFailure } from '../model/failure.ts'
import { markKey, markPrefix, parseMarkKey } from '../model/key.ts'
import { type Begin, markTime } from '../model/mark.ts'
import type { Store } from '../model/store.ts'
import { beforeStall } from '../platform/stall.ts'

/** How long it counts when its host is not heard of. */
const unheardMs = 7 * 24 * 3_600_000
/** How often its host is heard of: some of these may be lost. */
const heardMs = 24 * 3_600_000

/** When a begin record written now expires. */
export function expiryFrom(now: Date): string {
  return new Date(now.getTime() + unheardMs).toISOString()
}

/**
 * Whether its backup may still be running on a host that is not this one: its begin record has not expired, or it has said
 * within that time that it runs. By the store's own clock, where that is behind ours: what is taken for dead is cleared away.
 */
export async function mayRun(store: Store, begin: Begin, ctx: Context): Promise<boolean> {
  const now = await timeIn(store, ctx)
  if (new Date(begin.expires) > now) return true
  for await (const { key } of store.list(`${markPrefix}${begin.id}/`, ctx)) {
    const mark = parseMarkKey(key)
    if (mark?.mark === 'running' && markTime(mark.at).getTime() + unheardMs > now.getTime()) return true
  }
  return false
}

/** The time: of our clock and the store's, the one that is behind. What only time permits must not be permitted by a wrong clock. */
export async function timeIn(store: Store, ctx: Context): Promise<Date> {
  const ours = ctx.clock.now()
  const theirs = await store.now?.(ctx)
  if (!theirs) return ours
  // They are told in whole seconds: it may be almost one later there.
  const latest = new Date(theirs.getTime() + 1000)
  return latest < ours ? latest : ours
}

/**
 * Says once a day in these stores that a backup is running, until it is disposed, which waits for what is under way. A store
 * that does not take it, or has stalled, is a warning.
 */
export function sayRunning(id: string, stores: () => readonly Store[], ctx: Context): AsyncDisposable {
  let saying: Promise<unknown> = Promise.resolve()
  const say = async (store: Store): Promise<void> => {
    try {
      const key = markKey(id, ctx.clock.now(), randomBytes(5), 'running')
      const put = store.put(key, Buffer.from('{"cairn":1}\n'), {}, ctx)
      await beforeStall(put, ctx, () => `store ${store.name}`)
    } catch (error) {
      if (ctx.signal.aborted) return
      const what = `${id} cannot say in ${store.name} that it is still running`
      const { why, remedy } = asFailure(error, what)
      ctx.emit({ type: 'warning', what, why, remedy, store: store.name })
    }
  }
  const timer = setInterval(() => {
    saying = Promise.all([saying, ...stores().map(say)])
  }, heardMs).unref()
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await saying
    },
  }
}
