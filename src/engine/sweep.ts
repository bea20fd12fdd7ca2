import { randomBytes } from 'node:crypto'
import type { Context } from '../model/context.ts'
import {
  asidePrefix,
  beginKey,
  beginPrefix,
  dataPrefix,
  keyFault,
  manifestPrefix,
  markKey,
  markPrefix,
  parseBeginKey,
  parseManifestKey,
  parseMarkKey,
} from '../model/key.ts'
import { Begin } from '../model/mark.ts'
import type { Store } from '../model/store.ts'
import { mayRun } from './begin.ts'
import { collect } from './objects.ts'

/**
 * Removes what a backup that never got its manifest left in a store: its data, unfinished uploads, marks, and last its
 * begin record. A backup that has its manifest there is whole and is left alone, whoever asks. A store that cannot remove gets a `failed` mark instead, and keeps the data until its own rules let it go.
 * Must not be called once a manifest may be on its way. Throws when the store does; calling it again finishes the work.
 */
export async function discard(store: Store, begin: Begin, ctx: Context): Promise<void> {
  if (!store.can.remove || !store.can.list) {
    const mark = markKey(begin.id, ctx.clock.now(), randomBytes(5), 'failed')
    await store.put(mark, Buffer.from('{"cairn":1}\n'), {}, ctx)
    return
  }
  if (await isWhole(store, begin, ctx)) return
  for (const prefix of [...begin.prefixes, `${markPrefix}${begin.id}/`]) {
    for await (const { key } of store.list(prefix, ctx)) await store.remove(key, undefined, ctx)
    await store.sweep(prefix, ctx)
  }
  for (const key of begin.unfinished ?? []) if (!keyFault(key)) await store.sweep(key, ctx)
  await store.remove(beginKey(begin.job, begin.id), undefined, ctx)
}

/** Removes the temporary files that a process left which was killed while it wrote a record of this backup; no records. */
export async function sweepRecords(store: Store, job: string, id: string, ctx: Context): Promise<void> {
  if (!store.can.remove || !store.can.list) return
  for (const prefix of [beginKey(job, id), `${manifestPrefix}${job}/${id}.`, `${markPrefix}${id}/`])
    await store.sweep(prefix, ctx)
}

/** Whether the store has the manifest of this backup. */
export async function isWhole(
  store: Store,
  { job, id }: Pick<Begin, 'job' | 'id'>,
  ctx: Context,
): Promise<boolean> {
  for await (const { key } of store.list(`${manifestPrefix}${job}/${id}.`, ctx)) {
    if (parseManifestKey(key)?.id === id) return true
  }
  return false
}

/**
 * Finds the begin records of a job that no manifest followed, and discards those that cannot be running any more:
 * this host's own (the caller holds the job's lock, so nobody here is running it), and others' when they have expired.
 * Returns how many were discarded. Nothing but what a begin record claims is ever touched.
 */
export async function sweepOrphans(store: Store, job: string, host: string, ctx: Context): Promise<number> {
  if (!store.can.list || !store.can.remove || !store.can.read) return 0
  const begun: string[] = []
  for await (const { key } of store.list(`${beginPrefix}${job}/`, ctx)) {
    if (parseBeginKey(key)) begun.push(key)
  }
  if (begun.length === 0) return 0
  const whole = await wholeBackups(store, job, ctx)
  let discarded = 0
  for (const key of begun) {
    if (whole.has(parseBeginKey(key)?.id ?? '')) continue
    const begin = await readBegin(store, key, ctx)
    if (!begin || (begin.host !== host && (await mayRun(store, begin, ctx)))) continue
    await discard(store, begin, ctx)
    discarded++
  }
  return discarded
}

/**
 * Removes the marks of backups whose data was being removed and that are gone: the last thing a prune that was killed
 * may have left. `whole` are those that are there without a manifest. Others may be, of which only another job or host knows:
 * what was merely announced, or held, is never forgotten. Returns how many marks it removed.
 */
export async function sweepMarks(store: Store, ctx: Context, whole: readonly string[] = []): Promise<number> {
  const gone = new Map<string, string[]>()
  const going = new Set<string>()
  for await (const { key } of store.list(markPrefix, ctx)) {
    const mark = parseMarkKey(key)
    if (!mark) continue
    gone.set(mark.id, [...(gone.get(mark.id) ?? []), key])
    if (mark.mark === 'deleting') going.add(mark.id)
  }
  for (const id of [...whole, ...(await wholeBackups(store, null, ctx))]) gone.delete(id)
  const keys = [...gone].flatMap(([id, marks]) => (going.has(id) ? marks : []))
  await removeMarks(store, keys, ctx)
  return keys.length
}

/** What says that a backup is going is the last to go: killed in between, the others are found by it. */
export async function removeMarks(store: Store, keys: readonly string[], ctx: Context): Promise<void> {
  const isLast = (key: string): boolean => parseMarkKey(key)?.mark === 'deleting'
  for (const key of [...keys.filter(key => !isLast(key)), ...keys.filter(isLast)])
    await store.remove(key, undefined, ctx)
}

async function wholeBackups(store: Store, job: string | null, ctx: Context): Promise<Set<string>> {
  const ids = new Set<string>()
  for await (const { key } of store.list(job === null ? manifestPrefix : `${manifestPrefix}${job}/`, ctx)) {
    const parsed = parseManifestKey(key)
    if (parsed) ids.add(parsed.id)
  }
  return ids
}

/** Null when it cannot be understood: what it claims is then left alone. */
export async function readBegin(store: Store, key: string, ctx: Context): Promise<Begin | null> {
  try {
    const parsed = Begin.safeParse(JSON.parse((await collect(store.get(key, {}, ctx))).toString('utf8')))
    const named = parseBeginKey(key)
    if (!parsed.success || parsed.data.id !== named?.id || parsed.data.job !== named.job) return null
    // Whoever may only write could otherwise have the pruner delete whatever a forged record claims.
    const own = [dataPrefix(named.job, named.id), asidePrefix(named.job, named.id)]
    return parsed.data.prefixes.every(prefix => own.includes(prefix)) ? parsed.data : null
  } catch {
    return null
  }
}
