import type { Context } from '../model/context.ts'
import type { MarkState } from '../model/mark.ts'
import type { Store } from '../model/store.ts'
import { eachOf } from '../platform/each-of.ts'
import type { CatalogEntry } from './entry.ts'
import { type ForeignObject, foreignIn, type NamedObjects, spellingOf } from './foreign.ts'
import { readManifest } from './stated.ts'

/** So many manifests are read at once. */
const readAtOnce = 16

/**
 * The backups of a store that have a manifest, and those that are known by their names alone. Where a job writes the same
 * key again and again, a manifest whose object has been replaced since is of no backup any more.
 */
export async function withNamed(
  stated: readonly CatalogEntry[],
  store: Store,
  named: readonly NamedObjects[],
  marksOf: (id: string) => MarkState,
  ctx: Context,
): Promise<CatalogEntry[]> {
  const objects: ForeignObject[] = []
  for await (const object of foreignIn(store, named, ctx)) objects.push(object)
  const entries = [...stated]
  for (const from of named.filter(each => each.stores.includes(store.name))) {
    const own = entries.filter(entry => entry.job === from.job)
    const there = objects.filter(object => object.from === from)
    const { known, gone } = from.pattern.isUnique
      ? await byName(own, there, from, ctx)
      : await byObject(own, there, ctx)
    for (const entry of gone) entries.splice(entries.indexOf(entry), 1)
    const unknown = there.filter(object => !known.has(placed(object)))
    entries.push(...unknown.map(object => entryOf(object, store, marksOf(object.id))))
  }
  return entries
}

/** What a name tells, as exactly as a backup's id tells it. */
function named(unit: string, at: Date): string {
  return JSON.stringify([unit, Math.floor(at.getTime() / 1000)])
}

function placed({ key, version }: { readonly key: string; readonly version?: string | undefined }): string {
  return JSON.stringify([key, version ?? ''])
}

/** Which objects are of the backups that have a manifest: their names follow from unit and time. */
async function byName(
  own: readonly CatalogEntry[],
  there: readonly ForeignObject[],
  { pattern, unit }: NamedObjects,
  ctx: Context,
) {
  const claims = Map.groupBy(own, entry => {
    const found = pattern.match(pattern.key(entry.unit ?? unit, entry.startedAt))
    return found?.at ? named(found.unit ?? unit, found.at) : null
  })
  const known = new Set<string>()
  for (const [name, objects] of Map.groupBy(there, ({ spelled, startedAt }) => named(spelled, startedAt))) {
    const claiming = claims.get(name) ?? []
    if (claiming.length >= objects.length) for (const object of objects) known.add(placed(object))
    if (claiming.length === 0 || claiming.length >= objects.length) continue
    // Of a run that was killed, and one that followed in the same second, only the manifest tells which is whose.
    for (const entry of claiming) {
      const part = await dataOf(entry, ctx)
      for (const object of objects) if (object.key === part?.key) known.add(placed(object))
    }
  }
  return { known, gone: [] }
}

/** The same where the name does not tell: the manifests do. */
async function byObject(own: readonly CatalogEntry[], there: readonly ForeignObject[], ctx: Context) {
  const known = new Set<string>()
  const gone: CatalogEntry[] = []
  const sizes = new Map(there.map(object => [placed(object), object.bytes]))
  const newestFirst = own.toSorted((a, b) => b.startedAt.getTime() - a.startedAt.getTime())
  const parts = await eachOf(newestFirst, readAtOnce, entry => dataOf(entry, ctx))
  for (const [index, entry] of newestFirst.entries()) {
    const part = parts[index]
    // What cannot be read is shown, and whoever asks for it is told why.
    if (!part) continue
    // Where versions may not be listed, an object is seen as the newest of them.
    const place = sizes.has(placed(part)) ? placed(part) : placed({ key: part.key })
    if (known.has(place) || sizes.get(place) !== part.bytes) gone.push(entry)
    else known.add(place)
  }
  return { known, gone }
}

/** Shorter pieces of a name say too little. */
const shortestHandle = 8

/** Whether a person means this backup by the name of its object, with or without folders, by a piece of it, or by its version. */
export function isCalled(entry: CatalogEntry, handle: string, all: readonly NamedObjects[]): boolean {
  const from = all.find(each => each.job === entry.job)
  if (!from || handle.length < shortestHandle) return false
  const { pattern } = from
  const unit = spellingOf(entry.unit ?? from.unit, pattern) ?? from.unit
  const objects = entry.copies.flatMap(({ foreign }) => foreign ?? [])
  if (objects.some(({ version }) => version === handle)) return true
  const names = [handle, handle.replace(/^\/+/, ''), handle.slice(handle.lastIndexOf('/') + 1)]
  for (const name of names) {
    const found = pattern.match(name)
    if (found?.at && named(found.unit ?? unit, found.at) === named(unit, entry.startedAt)) return true
  }
  const key = objects[0]?.key ?? pattern.key(entry.unit ?? from.unit, entry.startedAt)
  return key.includes(handle)
}

async function dataOf({ copies: [copy] }: CatalogEntry, ctx: Context) {
  try {
    const read = copy && (await readManifest(copy, ctx))
    return read?.manifest.artifacts.find(({ role }) => role === 'data')?.objects[0] ?? null
  } catch {
    ctx.signal.throwIfAborted()
    return null
  }
}

function entryOf(object: ForeignObject, store: Store, marks: MarkState): CatalogEntry {
  const { id, from, unit, bytes, startedAt, modified } = object
  return {
    ...{ id, job: from.job, unit, engine: from.engine, kind: 'foreign' },
    encryption: encryptionOf(object.key),
    ...{ bytes, startedAt, finishedAt: modified },
    copies: [{ store, manifestKey: '', foreign: object, marks, finishedAt: modified }],
  }
}

/** As the name tells. */
function encryptionOf(key: string): string {
  const [, ending] = /\.(gpg|age|aes|enc)$/.exec(key) ?? []
  return ending === 'aes' || ending === 'enc' ? 'aespipe' : (ending ?? 'none')
}
