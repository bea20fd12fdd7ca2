import type { Context } from '../model/context.ts'
import { asFailure, type Failure, isDamage, usage } from '../model/failure.ts'
import type { Store } from '../model/store.ts'
import { withFirstVersions } from './first-versions.ts'

/**
 * Does it with the first store whose copy can be read: where one is damaged or out of reach, it says so and goes on with the
 * next, as long as `mayGoOn` says that nothing was done yet that cannot be done again. What is damaged everywhere is read once more
 * as it was first written, where a store keeps versions of `keys`. `what` begins the message of an error that is none for a person yet.
 * Throws the last Failure of the copies themselves where their first versions are no better, or the signal's reason.
 */
export async function withFirstReadable<T>(
  from: readonly Store[],
  keys: readonly string[],
  what: (store: Store) => string,
  work: (store: Store) => Promise<T>,
  ctx: Context,
  mayGoOn: () => boolean = () => true,
): Promise<T> {
  const all = [...from]
  let last: Failure | null = null
  for (const [index, store] of all.entries()) {
    ctx.signal.throwIfAborted()
    try {
      return await work(store)
    } catch (error) {
      ctx.signal.throwIfAborted()
      const failure = asFailure(error, what(store))
      if (!isUnreadable(failure) || !mayGoOn()) throw failure
      const isCopy = index < from.length
      const earlier = isCopy && isDamage(failure) ? await withFirstVersions(store, keys, ctx) : null
      if (earlier) all.push(earlier)
      if (isCopy) last = failure
      const next = all[index + 1]
      if (!next) throw last ?? failure
      const remedy = `trying the copy in ${next.name}`
      ctx.emit({ type: 'warning', what: failure.what, why: failure.why, remedy, store: store.name })
    }
  }
  throw usage('there is nothing to read', 'no store has a whole copy')
}

/** Another store's copy may be sound where this one is damaged or out of reach; a failure of the target is the same from everywhere. */
export function isUnreadable(failure: Failure): boolean {
  return isDamage(failure) || failure.what.startsWith('cannot read ')
}
