import type { Dirent } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Context } from '../../model/context.ts'
import { keyFault } from '../../model/key.ts'
import type { Entry } from '../../model/store.ts'
import { orNull, telling } from './error.ts'
import { isReal } from './folder.ts'
import { lostAndFound, type Place, temporaryOf } from './path.ts'

/** Folders read, and files looked at, at once: the waiting is for the disk or the network, not for us. */
const foldersAtOnce = 64
const filesAtOnce = 256

/** The objects whose keys start with the prefix, some at a time. What is removed meanwhile may be missing, and disturbs nothing. */
export async function* list(place: Place, prefix: string, ctx: Context): AsyncGenerator<Entry[]> {
  for await (const found of walk(place, prefix, ctx)) {
    const keys = found.filter(file => !file.temporary).map(file => file.key)
    for (let at = 0; at < keys.length; at += filesAtOnce) {
      ctx.signal.throwIfAborted()
      const entries = keys.slice(at, at + filesAtOnce).map(key => entryOf(place, key))
      yield (await Promise.all(entries)).filter(entry => entry !== null)
    }
  }
}

async function entryOf(place: Place, key: string): Promise<Entry | null> {
  const stats = await telling(`cannot list ${key} in the store ${place.store}`, () =>
    orNull(lstat(join(place.root, key))),
  )
  return stats?.isFile() ? { key, bytes: stats.size, modified: stats.mtime } : null
}

/** The temporary files of objects whose keys start with the prefix. */
export async function* temporaries(place: Place, prefix: string, ctx: Context): AsyncGenerator<string> {
  for await (const found of walk(place, prefix, ctx)) {
    for (const file of found) if (file.temporary) yield file.key
  }
}

interface Found {
  readonly key: string
  readonly temporary: boolean
}

/** The files below the prefix, many at a time. Reads no folder that the prefix does not need; follows no link. */
async function* walk(place: Place, prefix: string, ctx: Context): AsyncGenerator<Found[]> {
  ctx.signal.throwIfAborted()
  const start = prefix.slice(0, prefix.lastIndexOf('/') + 1)
  if (start !== '' && !(await canHold(place, start.slice(0, -1)))) return
  const folders = [start]
  while (folders.length > 0) {
    ctx.signal.throwIfAborted()
    const some = folders.splice(-foldersAtOnce)
    const found: Found[] = []
    const contents = await Promise.all(some.map(folder => readFolder(place, folder)))
    for (const [n, entries] of contents.entries()) {
      const folder = some[n] ?? ''
      for (const entry of entries) {
        const key = `${folder}${entry.name}`
        const object = temporaryOf(entry.name)
        if (!`${folder}${object ?? entry.name}`.startsWith(prefix)) continue
        if (entry.isFile()) found.push({ key, temporary: object !== null })
        else if (entry.isDirectory() && key !== lostAndFound) folders.push(`${key}/`)
      }
    }
    yield found
  }
}

/** A folder outside the root, or behind a link, holds no object, whatever lies there. */
async function canHold(place: Place, folder: string): Promise<boolean> {
  if (keyFault(folder) || folder === lostAndFound || folder.startsWith(`${lostAndFound}/`)) return false
  return telling(`cannot list ${folder} in the store ${place.store}`, () => isReal(place, folder))
}

async function readFolder(place: Place, folder: string): Promise<Dirent[]> {
  const path = join(place.root, folder)
  const what = `cannot list the folder ${path} of the store ${place.store}`
  return (await telling(what, () => orNull(readdir(path, { withFileTypes: true })))) ?? []
}
