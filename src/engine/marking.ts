import { randomBytes } from 'node:crypto'
import type { Context } from '../model/context.ts'
import { asFailure, type Failure } from '../model/failure.ts'
import { markKey, markPrefix, parseMarkKey } from '../model/key.ts'
import { type MarkKind, markTime } from '../model/mark.ts'
import type { Store } from '../model/store.ts'
import type { CatalogEntry } from './catalog.ts'

/**
 * Writes a mark for a backup into one store. Marks are never overwritten; writing one twice is harmless. Its time is
 * after that of every mark that is there: what is said last must count, whatever the clocks of those who said something.
 */
export async function putMark(
  store: Store,
  id: string,
  mark: MarkKind,
  facts: Readonly<Record<string, unknown>>,
  ctx: Context,
): Promise<void> {
  const body = Buffer.from(`${JSON.stringify({ cairn: 1, ...facts })}\n`)
  const newest = store.can.list ? await newestMark(store, id, ctx) : 0
  const at = new Date(Math.max(ctx.clock.now().getTime(), newest + 1))
  await store.put(markKey(id, at, randomBytes(5), mark), body, {}, ctx)
}

async function newestMark(store: Store, id: string, ctx: Context): Promise<number> {
  let newest = 0
  for await (const { key } of store.list(`${markPrefix}${id}/`, ctx)) {
    const mark = parseMarkKey(key)
    if (mark) newest = Math.max(newest, markTime(mark.at).getTime())
  }
  return newest
}

/** Writes a mark into every store that has a copy. Returns the failures, one a store. */
export async function markEverywhere(
  entry: CatalogEntry,
  mark: MarkKind,
  facts: Readonly<Record<string, unknown>>,
  ctx: Context,
): Promise<{ store: string; failure: Failure }[]> {
  const failures: { store: string; failure: Failure }[] = []
  for (const { store } of entry.copies) {
    try {
      await putMark(store, entry.id, mark, facts, ctx)
    } catch (error) {
      ctx.signal.throwIfAborted()
      failures.push({
        store: store.name,
        failure: asFailure(error, `cannot mark ${entry.id} in store ${store.name}`),
      })
    }
  }
  return failures
}
