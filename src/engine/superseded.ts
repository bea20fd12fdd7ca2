// Where a job writes one name again and again, the manifests of what was there before are of no backup any more.

import type { Context } from '../model/context.ts'
import type { Job } from '../model/job.ts'
import { asidePrefix, manifestPrefix, parseManifestKey } from '../model/key.ts'
import type { Manifest } from '../model/manifest.ts'
import type { Store } from '../model/store.ts'
import { eachOf } from '../platform/each-of.ts'
import type { Delivery } from './delivery.ts'
import { readManifest } from './stated.ts'
import { discard } from './sweep.ts'

/** So many manifests are read at once. */
const readAtOnce = 16

/** The keys of the manifests that a store has of a job, by its name. */
export type Stated = ReadonlyMap<string, readonly string[]>

/**
 * What the stores of a job state before a backup that writes names again and again. The objects of these are in their places
 * already: what is put there later has replaced them, whoever else writes under the same names. Empty for other jobs, and
 * for stores where nothing may be listed, read or removed.
 */
export async function statedBefore({ name, pattern, to }: Job, ctx: Context): Promise<Stated> {
  const stated = new Map<string, string[]>()
  if (!pattern || pattern.isUnique) return stated
  for (const { store } of to) {
    if (!store.can.list || !store.can.read || !store.can.remove) continue
    try {
      stated.set(store.name, await manifestsIn(store, name, ctx))
    } catch {
      ctx.signal.throwIfAborted()
    }
  }
  return stated
}

async function manifestsIn(store: Store, job: string, ctx: Context): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list(`${manifestPrefix}${job}/`, ctx))
    if (parseManifestKey(key)) keys.push(key)
  return keys
}

/**
 * After a backup: removes the manifests whose objects it has replaced, where the store keeps no versions, or whose versions are
 * gone, and then what lies aside for them. What cannot be told for certain stays, and so does everything where the rights do not
 * allow it; never throws. Killed in between, a begin record is left without a manifest, which the next run clears away.
 */
export async function forgetSuperseded(
  before: Stated,
  current: Manifest,
  to: Delivery,
  ctx: Context,
): Promise<void> {
  for (const { store } of to.live()) {
    try {
      await forgetIn(store, before.get(store.name) ?? [], current, to.versions(store.name), ctx)
    } catch {
      // It costs some bytes, and shows nowhere.
    }
  }
}

async function forgetIn(
  store: Store,
  manifestKeys: readonly string[],
  current: Manifest,
  versions: Readonly<Record<string, string>>,
  ctx: Context,
): Promise<void> {
  if (manifestKeys.length === 0) return
  const manifests = await eachOf(manifestKeys, readAtOnce, async manifestKey => ({
    manifestKey,
    manifest: (await readManifest({ store, manifestKey }, ctx).catch(() => null))?.manifest,
  }))
  const isGone = await goneFrom(store, current, versions, ctx)
  for (const { manifestKey, manifest } of manifests) {
    ctx.signal.throwIfAborted()
    if (!manifest || manifest.id === current.id || !isGone(manifest)) continue
    if ((await store.remove(manifestKey, undefined, ctx)) !== 'locked')
      await forgetAside(store, manifest, ctx)
  }
}

async function forgetAside(
  store: Store,
  { id, job, host, startedAt }: Manifest,
  ctx: Context,
): Promise<void> {
  const prefixes = [asidePrefix(job, id)]
  await discard(
    store,
    { cairn: 1, id, job, host, startedAt, expires: startedAt, prefixes, parent: null },
    ctx,
  )
}

/** What tells of a manifest that its object is not there any more; false where that is not certain. */
async function goneFrom(
  store: Store,
  current: Manifest,
  versions: Readonly<Record<string, string>>,
  ctx: Context,
): Promise<(manifest: Manifest) => boolean> {
  const own = dataOf(current).map(({ key }) => key)
  if (!own.some(key => versions[key] !== undefined))
    return manifest =>
      dataOf(manifest).every(({ key, version }) => version === undefined && own.includes(key))
  const there = await versionsOf(store, own, ctx)
  // Where versions may not be listed, the objects are: then ours is not seen as the version that it is.
  const isListed = own.every(key => there.has(placed(key, versions[key])))
  return manifest =>
    isListed &&
    dataOf(manifest).every(
      ({ key, version }) => version !== undefined && own.includes(key) && !there.has(placed(key, version)),
    )
}

async function versionsOf(store: Store, keys: readonly string[], ctx: Context): Promise<Set<string>> {
  const there = new Set<string>()
  for (const prefix of store.listVersions ? keys : [])
    for await (const { key, version } of store.listVersions?.(prefix, ctx) ?? [])
      there.add(placed(key, version))
  return there
}

function dataOf({ artifacts }: Manifest) {
  return artifacts.filter(({ role }) => role === 'data').flatMap(({ objects }) => objects)
}

function placed(key: string, version: string | undefined): string {
  return JSON.stringify([key, version ?? ''])
}
