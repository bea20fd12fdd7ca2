import { constants } from 'node:fs'
import { type FileHandle, lstat, open, unlink } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import * as z from 'zod'
import type { Context } from '../../model/context.ts'
import { damage, Failure, usage } from '../../model/failure.ts'
import { shellQuoted } from '../../model/shell.ts'
import type { Bytes } from '../../model/step.ts'
import {
  type Abilities,
  type GetOptions,
  NotFound,
  type PutOptions,
  type Store,
  type StoredObject,
} from '../../model/store.ts'
import { freeBytes } from '../../platform/space.ts'
import { answered, eachAnswered } from './answering.ts'
import { isNothing, orNull, telling } from './error.ts'
import { mustBeReal, probeFolder, removeEmptyFolders } from './folder.ts'
import { fileOf, folderOf, type Place } from './path.ts'
import { list, temporaries } from './walk.ts'
import { type Link, taken, writeObject } from './write.ts'

export const LocalOptions = z.strictObject({
  path: z.string().startsWith('/', 'must be an absolute path').meta({
    description: 'the folder that holds the objects; it is made when it is not there',
    example: '/var/backups/cairn',
  }),
})
export type LocalOptions = z.infer<typeof LocalOptions>

const readBytes = 1024 * 1024

const can: Abilities = {
  read: true,
  list: true,
  remove: true,
  lock: false,
  versions: false,
  exclusive: true,
  hidesPartial: true,
  maxObjectBytes: Number.MAX_SAFE_INTEGER,
}

/**
 * A store in a folder: key `a/b` is the file `a/b` in it, of mode 0600, in folders of mode 0700.
 *
 * An object is written to a hidden file beside its place, flushed to the disk, and given its name by `link`, which
 * never replaces; where the file system knows no links (CIFS, exFAT) a claim file does the same service, so
 * `exclusive` holds everywhere. A process that dies leaves a hidden file, which only `sweep` sees. Every folder on
 * the way to an object must be a folder: a symbolic link inside the root is refused by `put` and `remove` and not
 * listed, so nothing is ever written outside the root. (The root itself may be a link. Somebody who may
 * exchange folders in the root while we write is not held off.) Tags and expiry have no place here and are dropped.
 * A file system that does not answer any more stalls nothing for ever: see `answered`.
 */
export function localStore(name: string, options: LocalOptions, link?: Link): Store {
  const place: Place = { store: name, root: resolve(options.path) }
  return {
    name,
    can,
    shell: key => `cat ${shellQuoted(fileOf(place, key))}`,
    async probe(ctx) {
      ctx.signal.throwIfAborted()
      await answered(place, () => probeFolder(place), ctx)
    },
    put: (key, body, putOptions, ctx) =>
      answered(
        place,
        () => put(place, key, body, putOptions, ctx, link),
        // Of a stream nobody knows here how long it takes: who sends it watches it.
        body instanceof Uint8Array ? ctx : { ...ctx, stallMs: Number.POSITIVE_INFINITY },
      ),
    get: (key, getOptions, ctx) => eachAnswered(place, get(place, key, getOptions, ctx), ctx),
    async *list(prefix, ctx) {
      for await (const some of eachAnswered(place, list(place, prefix, ctx), ctx)) yield* some
    },
    remove: (key, _version, ctx) => answered(place, () => remove(place, key, ctx), ctx),
    sweep: (prefix, ctx) => answered(place, () => sweep(place, prefix, ctx), ctx),
  }
}

async function put(
  place: Place,
  key: string,
  body: Bytes | Uint8Array,
  options: PutOptions,
  ctx: Context,
  link: Link | undefined,
): Promise<StoredObject> {
  const what = `cannot write ${key} to the store ${place.store}`
  const file = fileOf(place, key)
  if (options.lock) throw usage(what, 'a folder has no locks', 'use a store with Object Lock')
  ctx.signal.throwIfAborted()
  const replace = options.replace ?? false
  // Asked before the first byte, though only the link decides.
  const there = await telling(what, () => orNull(lstat(file)))
  if (there?.isDirectory()) {
    throw new Failure({ what, why: 'there is a folder of that name', remedy: 'use another key' })
  }
  if (there && !replace) throw taken(place, key)
  await telling(what, () => weighSpace(place, what, body, options.sizeHint, ctx))
  return { key, bytes: await writeObject(place, key, body, replace, ctx, link) }
}

/** No dump shrinks more than this on its way through a compressing stage. */
const plausibleRatio = 20

/**
 * Refuses at once what cannot fit. A size hint may be that of the plain bytes, which a stage still compresses:
 * where it is larger than the free space, but not hopelessly so, it is a warning.
 */
async function weighSpace(
  place: Place,
  what: string,
  body: Bytes | Uint8Array,
  hint: number | undefined,
  ctx: Context,
): Promise<void> {
  const exact = body instanceof Uint8Array ? body.byteLength : undefined
  const wanted = exact ?? hint ?? 0
  const free = wanted > 0 ? await freeBytes(place.root) : null
  if (free === null || wanted <= free) return
  const why = `up to ${wanted} bytes are to come, but only ${free} are free in ${place.root}`
  const remedy = 'free some space, keep fewer backups, or use a larger disk'
  if (exact !== undefined || wanted / plausibleRatio > free) throw new Failure({ what, why, remedy })
  const doubt = `the store ${place.store} may become full`
  ctx.emit({ type: 'warning', what: doubt, why, remedy, store: place.store })
}

async function* get(place: Place, key: string, options: GetOptions, ctx: Context): Bytes {
  const what = `cannot read ${key} from the store ${place.store}`
  const file = fileOf(place, key)
  ctx.signal.throwIfAborted()
  await using handle = await telling(what, () => openObject(place, key, file))
  const { size } = await telling(what, () => handle.stat())
  const [first, last] = options.range ?? [0, size - 1]
  const end = Math.min(size, last + 1)
  for (let at = first; at < end; ) {
    ctx.signal.throwIfAborted()
    const length = Math.min(readBytes, end - at)
    // A buffer of its own for each chunk, which belongs to the receiver.
    const { bytesRead, buffer } = await telling(what, () =>
      handle.read(Buffer.allocUnsafeSlow(length), 0, length, at),
    )
    if (bytesRead === 0) throw damage(what, `the file ended at byte ${at} of ${size} while it was read`)
    at += bytesRead
    yield buffer.subarray(0, bytesRead)
  }
}

/** Throws NotFound where there is no file, be it for a folder of that name. */
async function openObject(place: Place, key: string, file: string): Promise<FileHandle> {
  const absent = new NotFound(`${key} is not in the store ${place.store}`)
  // Not blocking: a named pipe would wait for a writer.
  const handle = await orNull(open(file, constants.O_RDONLY | constants.O_NONBLOCK))
  if (!handle) throw absent
  if ((await handle.stat()).isFile()) return handle
  await handle.close()
  throw absent
}

async function remove(place: Place, key: string, ctx: Context): Promise<'removed' | 'absent'> {
  const what = `cannot remove ${key} from the store ${place.store}`
  const file = fileOf(place, key)
  ctx.signal.throwIfAborted()
  return telling(what, async () => {
    if (!(await orNull(lstat(file)))?.isFile()) return 'absent'
    await mustBeReal(place, folderOf(key))
    return (await removeFile(place, key)) ? 'removed' : 'absent'
  })
}

/** Removes the file, and the folders that become empty by it. False when somebody else was faster. */
async function removeFile(place: Place, key: string): Promise<boolean> {
  try {
    await unlink(join(place.root, key))
  } catch (error) {
    if (isNothing(error)) return false
    throw error
  }
  await removeEmptyFolders(place, folderOf(key))
  return true
}

async function sweep(place: Place, prefix: string, ctx: Context): Promise<number> {
  let swept = 0
  for await (const key of temporaries(place, prefix, ctx)) {
    const what = `cannot remove the temporary file ${key} from the store ${place.store}`
    if (await telling(what, () => removeFile(place, key))) swept++
  }
  return swept
}
