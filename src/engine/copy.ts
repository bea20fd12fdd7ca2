import { randomBytes } from 'node:crypto'
import type { Context } from '../model/context.ts'
import { asFailure, damage, Failure, isDamage } from '../model/failure.ts'
import type { Destination } from '../model/job.ts'
import { beginKey, markKey } from '../model/key.ts'
import type { ArtifactRecord, Manifest, StoredPart } from '../model/manifest.ts'
import type { Begin } from '../model/mark.ts'
import type { Bytes } from '../model/step.ts'
import type { PutOptions, Store } from '../model/store.ts'
import { clearingContext } from '../platform/run-context.ts'
import { expiryFrom, mayRun, sayRunning } from './begin.ts'
import { lockAncestors } from './chain-locks.ts'
import { type Delivery, delivery } from './delivery.ts'
import type { Copy } from './entry.ts'
import { keysToTell, withFirstVersions } from './first-versions.ts'
import { checkedPart } from './reader.ts'
import { readManifest } from './stated.ts'
import { keyOf } from './statement.ts'
import { discard, isWhole, readBegin } from './sweep.ts'

/**
 * Gives a store the whole copy of a backup that it lacks: the same objects under the same keys, digests checked on
 * the way, then the same manifest, byte for byte. An object that cannot be read from one store is taken from the next.
 * Throws when it fails; what was copied until then is removed again.
 */
export async function copyBackup(
  manifest: Manifest,
  file: Uint8Array,
  from: readonly Store[],
  dest: Destination,
  of: Omit<Begin, 'expires'>,
  ctx: Context,
): Promise<void> {
  const begin: Begin = { ...of, expires: expiryFrom(ctx.clock.now()) }
  ctx.emit({ type: 'phase', phase: 'copy', job: manifest.job, unit: manifest.unit })
  mustFit(manifest, dest.store)
  const options = optionsOf(manifest, dest)
  const to = deliveryTo(dest, options, ctx)
  await makeWay(dest.store, begin, ctx)
  let begun = false
  let committing = false
  try {
    await to.put(beginKey(begin.job, begin.id), () => Buffer.from(`${JSON.stringify(begin)}\n`))
    begun = true
    await using _saying = sayRunning(begin.id, () => to.live().map(({ store }) => store), ctx)
    for (const object of objectsOf(manifest)) await copyObject(object, from, to, ctx)
    await to.confirm(objectsOf(manifest).map(({ part }) => part))
    if (manifest.chain && options.lock) {
      const { parent } = manifest.chain
      await lockAncestors(parent, [manifest.job], dest.store, options.lock.until, ctx)
    }
    await putVersions(manifest, to, ctx)
    await putIncomplete(manifest, to, ctx)
    committing = true
    await to.put(keyOf(manifest, file), () => file)
  } catch (error) {
    if (begun && !committing) await discard(dest.store, begin, clearingContext(ctx)).catch(() => {})
    throw asFailure(error, `cannot copy to store ${dest.store.name}`)
  }
}

/**
 * Puts back what a store has lost of its copy: objects that are missing or have a wrong size, digests checked on the way.
 * Every other object is read. Returns the keys that were put back. Throws damage, after that, where the bytes of one are
 * not those that were written, or the manifest is not: those are never replaced, for a person to look at. The caller holds the job's lock.
 */
export async function mendCopy(
  manifest: Manifest,
  from: readonly Store[],
  copy: Copy,
  dest: Destination,
  ctx: Context,
): Promise<string[]> {
  ctx.emit({ type: 'phase', phase: 'copy', job: manifest.job, unit: manifest.unit })
  mustFit(manifest, dest.store)
  const { store } = dest
  const to = deliveryTo(dest, optionsOf(manifest, dest), ctx)
  const mended: string[] = []
  const wrong: string[] = []
  for (const object of objectsOf(manifest)) {
    const { key, bytes } = object.part
    const found = await sizeOf(store, key, ctx)
    if (found !== bytes) {
      await copyObject(object, from, to, ctx, found !== null)
      mended.push(key)
    } else if (!(await isSound(object, store, ctx))) wrong.push(key)
  }
  if (mended.length > 0) await putVersions(manifest, to, ctx)
  await readManifest(copy, ctx).catch(error => {
    if (!isDamage(error)) throw error
    wrong.push(copy.manifestKey)
  })
  if (wrong.length === 0) return mended
  throw damage(
    `the copy of ${manifest.id} in store ${store.name} is damaged`,
    `the bytes of ${wrong.join(', ')} are not those that were written`,
    `move what is there away; then cairn copy ${manifest.id} --to ${store.name} puts it back`,
  )
}

/** Why the only store was dropped is thrown, and told by whoever catches it. */
function deliveryTo(dest: Destination, options: PutOptions, ctx: Context): Delivery {
  const emit: Context['emit'] = event => (event.type === 'failure' ? undefined : ctx.emit(event))
  return delivery([dest], () => options, { ...ctx, emit })
}

/** Null where there is none. */
async function sizeOf(store: Store, key: string, ctx: Context): Promise<number | null> {
  for await (const entry of store.list(key, ctx)) if (entry.key === key) return entry.bytes
  return null
}

async function isSound({ record, part }: CopiedObject, store: Store, ctx: Context): Promise<boolean> {
  try {
    for await (const _ of checkedPart(record, part, store, ctx));
    return true
  } catch (error) {
    if (isDamage(error)) return false
    throw error
  }
}

function mustFit(manifest: Manifest, store: Store): void {
  const tooLarge = objectsOf(manifest).find(({ part }) => part.bytes > store.can.maxObjectBytes)
  if (!tooLarge) return
  const why = `${tooLarge.part.key} is larger than an object may be there, and a copy may not be split otherwise`
  throw new Failure({ what: `cannot copy to store ${store.name}`, why })
}

function optionsOf({ lockedUntil }: Manifest, dest: Destination): Pick<PutOptions, 'lock' | 'tags'> {
  const until = lockedUntil ? new Date(lockedUntil) : null
  return { ...(dest.lock && until ? { lock: { mode: dest.lock.mode, until } } : {}), ...tagged(dest) }
}

/**
 * Clears away a half copy that an earlier attempt left, and marks of a copy that was deleted. Throws when there is a
 * whole copy, or when somebody else may be making one.
 */
async function makeWay(store: Store, begin: Begin, ctx: Context): Promise<void> {
  if (!store.can.list || !store.can.remove) return
  const what = `cannot copy to store ${store.name}`
  if (await isWhole(store, begin, ctx)) throw new Failure({ what, why: 'it has a copy already' })
  const other = store.can.read ? await readBegin(store, beginKey(begin.job, begin.id), ctx) : null
  if (other && other.host !== begin.host && (await mayRun(store, other, ctx))) {
    const remedy = 'try again there, or when it has not been heard of for a week'
    throw new Failure({ what, why: `${other.host} is making a copy, or was and died`, remedy })
  }
  await discard(store, begin, ctx)
}

function tagged(dest: Destination): { tags?: Readonly<Record<string, string>> } {
  return dest.tags ? { tags: dest.tags } : {}
}

interface CopiedObject {
  readonly record: ArtifactRecord
  readonly part: StoredPart
}

function objectsOf(manifest: Manifest): CopiedObject[] {
  return manifest.artifacts.flatMap(record => record.objects.map(part => ({ record, part })))
}

async function copyObject(
  { record, part }: CopiedObject,
  from: readonly Store[],
  to: Delivery,
  ctx: Context,
  replace = false,
): Promise<void> {
  let failure: unknown = new Failure({
    what: `cannot copy ${record.name}`,
    why: 'no store that has it answers',
  })
  const all = [...from]
  for (const [index, store] of all.entries()) {
    try {
      const open = (inner: Context): Bytes => checkedPart(record, part, store, inner)
      await to.stream({ key: part.key, artifact: record.name, open, sizeHint: part.bytes, replace }, ctx)
      return
    } catch (error) {
      ctx.signal.throwIfAborted()
      if (to.live().length === 0) throw error
      // Of a copy it is told what it is, whatever became of its first version.
      if (index >= from.length) continue
      failure = error
      if (!isDamage(error)) continue
      const earlier = await withFirstVersions(store, keysToTell({ ...record, objects: [part] }), ctx)
      if (earlier) all.push(earlier)
    }
  }
  throw failure
}

/** Where a store keeps versions: which version of each key this copy is. Goes before the manifest. */
export async function putVersions(manifest: Manifest, to: Delivery, ctx: Context): Promise<void> {
  if (!to.live().some(({ store }) => Object.keys(to.versions(store.name)).length > 0)) return
  const key = markKey(manifest.id, ctx.clock.now(), randomBytes(5), 'stored')
  await to.put(key, store => Buffer.from(`${JSON.stringify({ cairn: 1, versions: to.versions(store) })}\n`))
}

/** Says of a backup that lacks a part of its unit that it does, for listings. Goes before the manifest. */
export async function putIncomplete({ id, missing }: Manifest, to: Delivery, ctx: Context): Promise<void> {
  if (!missing) return
  const key = markKey(id, ctx.clock.now(), randomBytes(5), 'incomplete')
  await to.offer(key, () => Buffer.from('{"cairn":1}\n'))
}
