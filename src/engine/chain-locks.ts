import * as z from 'zod'
import type { Context } from '../model/context.ts'
import { Failure } from '../model/failure.ts'
import { markPrefix, parseMarkKey } from '../model/key.ts'
import type { Store } from '../model/store.ts'
import { eachOf } from '../platform/each-of.ts'
import { type Catalog, type Copy, readCatalog } from './catalog.ts'
import { collect } from './objects.ts'
import { readManifest } from './stated.ts'

/** So many locks are moved at once. */
const atOnce = 8

/**
 * Everything that a backup builds on is locked in one store for as long as the backup itself: every object, manifest
 * and mark of its parent, of that one's parent, and so on. Each date is read back. Throws a Failure when one cannot be
 * moved: then the backup would lose what it needs before its own lock ends. Locks that were moved stay so.
 * `names` are those under which the job's backups were made.
 */
export async function lockAncestors(
  parent: string,
  names: readonly string[],
  store: Store,
  until: Date,
  ctx: Context,
): Promise<void> {
  const what = `store ${store.name} failed`
  if (!store.lockUntil || !store.can.list || !store.can.read) {
    const remedy = 'give a key that may list, read and lock, or make full backups into this store'
    throw new Failure({ what, why: 'the locks of what the backup builds on cannot be moved there', remedy })
  }
  const catalog = await readCatalog([store], names, ctx)
  for (let id: string | null = parent; id !== null; ) {
    const copy = copyOf(catalog, id)
    if (!copy) throw new Failure({ what, why: `${id}, on which the backup builds, is not there` })
    const { manifest } = await readManifest(copy, ctx)
    await lockBackup(
      id,
      copy,
      manifest.artifacts.flatMap(({ objects }) => objects.map(({ key }) => key)),
      until,
      ctx,
    )
    id = manifest.chain?.parent ?? null
  }
}

function copyOf(catalog: Catalog, id: string): Copy | undefined {
  return catalog.entries.find(entry => entry.id === id)?.copies[0]
}

async function lockBackup(
  id: string,
  { store, manifestKey }: Copy,
  objects: readonly string[],
  until: Date,
  ctx: Context,
): Promise<void> {
  const marks: string[] = []
  for await (const { key } of store.list(`${markPrefix}${id}/`, ctx)) marks.push(key)
  const versions = await storedVersions(store, marks, ctx)
  await eachOf([...objects, manifestKey, ...marks], atOnce, async key => {
    const really = await store.lockUntil?.(key, versions[key], until, ctx)
    if (really && really >= until) return
    const why = `it locks ${key} until ${really?.toISOString()}, and ${until.toISOString()} was asked for`
    throw new Failure({ what: `store ${store.name} failed`, why })
  })
}

const Stored = z.object({ versions: z.record(z.string(), z.string()) })

/** Which versions this copy's objects are, as its mark says; of others the newest counts. */
async function storedVersions(
  store: Store,
  marks: readonly string[],
  ctx: Context,
): Promise<Record<string, string>> {
  const key = marks.findLast(mark => parseMarkKey(mark)?.mark === 'stored')
  if (key === undefined) return {}
  const body = (await collect(store.get(key, {}, ctx))).toString('utf8')
  return Stored.parse(JSON.parse(body)).versions
}
