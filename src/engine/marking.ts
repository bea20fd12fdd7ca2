import { randomBytes } from 'node:crypto'
import * as z from 'zod'
import type { Context } from '../model/context.ts'
import { asFailure, type Failure } from '../model/failure.ts'
import { markKey, markPrefix, parseMarkKey } from '../model/key.ts'
import { foldMarks, type MarkKind, markTime } from '../model/mark.ts'
import { NotFound, type Store } from '../model/store.ts'
import type { CatalogEntry, Copy } from './catalog.ts'
import { collect } from './objects.ts'

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

/** Whether it is held now. */
export async function isHeld(store: Store, id: string, ctx: Context): Promise<boolean> {
  const keys = await Array.fromAsync(store.list(`${markPrefix}${id}/`, ctx), ({ key }) => key)
  return foldMarks(keys.flatMap(key => parseMarkKey(key) ?? [])).held
}

async function newestMark(store: Store, id: string, ctx: Context): Promise<number> {
  let newest = 0
  for await (const { key } of store.list(`${markPrefix}${id}/`, ctx)) {
    const mark = parseMarkKey(key)
    if (mark) newest = Math.max(newest, markTime(mark.at).getTime())
  }
  return newest
}

const Announced = z.object({ until: z.iso.datetime().optional() })

/**
 * Until when the deletion of a copy can be taken back: as the mark says that announced it, whoever's configuration that
 * was; `undeleteMs` after it where the mark is of an older Cairn, or gone since another host carried the deletion out.
 * Null where no deletion was announced.
 */
export async function undeletableUntil(
  { store, marks }: Copy,
  id: string,
  undeleteMs: number,
  ctx: Context,
): Promise<Date | null> {
  if (!marks.deletedAt) return null
  let newest = { at: '', key: '' }
  for await (const { key } of store.list(`${markPrefix}${id}/`, ctx)) {
    const mark = parseMarkKey(key)
    if (mark?.mark === 'delete' && mark.at > newest.at) newest = { at: mark.at, key }
  }
  const body = newest.key === '' ? '' : await textOf(store, newest.key, ctx)
  const until = Announced.safeParse(parsedOrNull(body)).data?.until
  return until ? new Date(until) : new Date(marks.deletedAt.getTime() + undeleteMs)
}

/** '' when it is gone. */
async function textOf(store: Store, key: string, ctx: Context): Promise<string> {
  try {
    return (await collect(store.get(key, {}, ctx))).toString('utf8')
  } catch (error) {
    if (error instanceof NotFound) return ''
    throw error
  }
}

function parsedOrNull(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
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
