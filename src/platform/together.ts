import type { Context } from '../model/context.ts'

/** Does both at once. When one fails the other is aborted, and its end awaited; what failed first is thrown. */
export async function together<A, B>(
  ctx: Context,
  one: (ctx: Context) => Promise<A>,
  other: (ctx: Context) => Promise<B>,
): Promise<[A, B]> {
  const stop = new AbortController()
  const inner = { ...ctx, signal: AbortSignal.any([ctx.signal, stop.signal]) }
  const both = [one(inner), other(inner)] as const
  try {
    return await Promise.all(both)
  } catch (error) {
    stop.abort(error)
    await Promise.allSettled(both)
    throw error
  }
}
