import type { FileHandle } from 'node:fs/promises'
import { link as linkFile, lstat, open, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Context } from '../../model/context.ts'
import type { Bytes } from '../../model/step.ts'
import { AlreadyExists } from '../../model/store.ts'
import { codeOf } from '../../platform/system-error.ts'
import { orNull, telling, told } from './error.ts'
import { makeFolders, syncFolders } from './folder.ts'
import { claimName, fileOf, folderOf, type Place, temporaryName } from './path.ts'
import { pour } from './pour.ts'

/** `fs.link`; tests give that of a file system without links. */
export type Link = (from: string, to: string) => Promise<void>

/** How often a folder may vanish between its making and its use. */
const makeAttempts = 50

/**
 * Writes a new file under the key and returns its size. On return it is whole, durable and has its name. When it
 * throws, neither the file nor a temporary one is left; what the body throws is thrown as it is.
 */
export async function writeObject(
  place: Place,
  key: string,
  body: Bytes | Uint8Array,
  replace: boolean,
  ctx: Context,
  link: Link = linkFile,
): Promise<number> {
  const what = `cannot write ${key} to the store ${place.store}`
  const temporary = await openTemporary(place, key, what)
  const handle = temporary.handle
  try {
    const bytes = await pour(handle, body, what, ctx)
    await telling(what, async () => {
      await handle.close()
      ctx.signal.throwIfAborted()
      await publish(place, key, temporary, replace, link)
    })
    return bytes
  } finally {
    await handle.close().catch(() => {})
    await unlink(temporary.path).catch(() => {})
  }
}

interface Temporary {
  readonly path: string
  readonly handle: FileHandle
  /** The topmost folder that must be flushed for the file to last. */
  readonly top: string
}

async function openTemporary(place: Place, key: string, what: string): Promise<Temporary> {
  const file = fileOf(place, key)
  const path = join(dirname(file), temporaryName(basename(file)))
  for (let attempt = 1; ; attempt++) {
    try {
      const top = await makeFolders(place, folderOf(key))
      return { path, handle: await open(path, 'wx', 0o600), top }
    } catch (error) {
      // Somebody who removed the last object of the folder removed the folder too, just now.
      if (codeOf(error) !== 'ENOENT' || attempt === makeAttempts) throw told(error, what)
    }
  }
}

/** Gives the temporary file its name, and makes the name last. Not interruptible: it is there, or it is not. */
async function publish(
  place: Place,
  key: string,
  temporary: Temporary,
  replace: boolean,
  link: Link,
): Promise<void> {
  const file = fileOf(place, key)
  if (replace) {
    await rename(temporary.path, file)
    await syncFolders(place, folderOf(key), temporary.top)
    return
  }
  await nameIt(place, key, temporary.path, file, link)
  try {
    await unlink(temporary.path).catch(() => {})
    await syncFolders(place, folderOf(key), temporary.top)
  } catch (error) {
    // The name might not last: then it must not be seen either.
    await unlink(file).catch(() => {})
    throw error
  }
}

/** What `link` answers where the file system knows no links; EIO is that of a remote that rclone has mounted, and a disk that is broken fails again. */
const linkless = new Set(['EIO', 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'])

async function nameIt(place: Place, key: string, temporary: string, file: string, link: Link): Promise<void> {
  try {
    await link(temporary, file)
  } catch (error) {
    const code = codeOf(error) ?? ''
    if (linkless.has(code)) return renameUnderClaim(place, key, temporary, file)
    if (code !== 'EEXIST') throw error
    // NFS repeats a request whose answer was lost, and then finds its own link.
    if (!(await isSameFile(temporary, file))) throw taken(place, key)
  }
}

/**
 * `rename` replaces, so writers of one key take turns: who makes the claim file may look whether the name is free,
 * and rename. A claim that a dead process left keeps the key taken until it is swept.
 */
async function renameUnderClaim(place: Place, key: string, temporary: string, file: string): Promise<void> {
  const claim = join(dirname(file), claimName(basename(file)))
  try {
    await (await open(claim, 'wx', 0o600)).close()
  } catch (error) {
    throw codeOf(error) === 'EEXIST' ? taken(place, key) : error
  }
  try {
    if (await orNull(lstat(file))) throw taken(place, key)
    await rename(temporary, file)
  } finally {
    await unlink(claim).catch(() => {})
  }
}

async function isSameFile(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([lstat(a), lstat(b)])
  return one.ino === other.ino && one.dev === other.dev
}

export function taken(place: Place, key: string): AlreadyExists {
  return new AlreadyExists(`${key} is already in the store ${place.store}`)
}
