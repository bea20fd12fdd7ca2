import { constants } from 'node:fs'
import { access, lstat, mkdir, open, realpath, rmdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Failure } from '../../model/failure.ts'
import { makePath } from '../../platform/make-path.ts'
import { nearestExisting } from '../../platform/space.ts'
import { codeOf } from '../../platform/system-error.ts'
import { orNull, telling } from './error.ts'
import type { Place } from './path.ts'

/**
 * Makes the folder, and the root, where they are missing. Returns the topmost folder in which something was made,
 * or the root. Throws a Failure when something on the way below the root is not a folder: following a symbolic link
 * would write outside the root.
 */
export async function makeFolders(place: Place, folder: string): Promise<string> {
  if (await isReal(place, folder)) return place.root
  const made = await makePath(place.root, 0o700)
  let path = place.root
  for (const segment of folder === '' ? [] : folder.split('/')) {
    path = join(path, segment)
    await makeFolder(place, path)
  }
  return made === undefined ? place.root : dirname(made)
}

async function makeFolder(place: Place, path: string): Promise<void> {
  try {
    await mkdir(path, 0o700)
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error
    // Somebody may have removed it again; then the caller finds out.
    const found = await orNull(lstat(path))
    if (found && !found.isDirectory()) throw notAFolder(place, path)
  }
}

/** Throws a Failure when the way to the folder leads through a symbolic link. */
export async function mustBeReal(place: Place, folder: string): Promise<void> {
  if (!(await isReal(place, folder))) throw notAFolder(place, join(place.root, folder))
}

/** Whether the folder is there and its real path, but for the root's own, is the one that its key says. */
export async function isReal(place: Place, folder: string): Promise<boolean> {
  const [root, path] = await Promise.all([
    orNull(realpath(place.root)),
    orNull(realpath(join(place.root, folder))),
  ])
  return root !== null && path === join(root, folder)
}

function notAFolder(place: Place, path: string): Failure {
  return new Failure({
    what: `cannot write to ${path} in the store ${place.store}`,
    why: 'the way there leads through a file or a symbolic link',
    remedy: `move it away; a link is allowed only above or at ${place.root} itself`,
  })
}

/** Flushes the folder and those above it up to `top`: only then do new names in them survive a power cut. */
export async function syncFolders(place: Place, folder: string, top: string): Promise<void> {
  const paths: string[] = []
  for (let path = join(place.root, folder); ; path = dirname(path)) {
    paths.push(path)
    if (path === top || path === dirname(path)) break
  }
  await Promise.all(paths.map(syncFolder))
}

/** What a file system answers that cannot flush folders (CIFS, exFAT), or does not let us read this one. */
const cannotSync = new Set([
  'EINVAL',
  'ENOTSUP',
  'EOPNOTSUPP',
  'EBADF',
  'EISDIR',
  'EACCES',
  'EPERM',
  'ENOENT',
])

async function syncFolder(path: string): Promise<void> {
  try {
    await using folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
    await folder.sync()
  } catch (error) {
    if (!cannotSync.has(codeOf(error) ?? '')) throw error
  }
}

/** Removes the folder and those above it, below the root, for as long as they are empty. */
export async function removeEmptyFolders(place: Place, folder: string): Promise<void> {
  for (let at = folder; at !== '' && at !== '.'; at = dirname(at)) {
    try {
      await rmdir(join(place.root, at))
    } catch (error) {
      if (codeOf(error) === undefined) throw error
      return
    }
  }
}

/** Throws a Failure when the folder is not one, cannot be made, or cannot be written to. Tries no write. */
export async function probeFolder(place: Place): Promise<void> {
  const what = `cannot use the folder ${place.root} of the store ${place.store}`
  await telling(what, async () => {
    const path = await nearestExisting(place.root)
    if (!(await stat(path)).isDirectory()) {
      throw new Failure({ what, why: `${path} is not a folder`, remedy: 'name a folder' })
    }
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK)
  })
}
