import * as z from 'zod'
import type { Entry } from '../../model/store.ts'
import { isAbsent, isUnseen } from './failure.ts'
import { keyOf, nameOf } from './remote.ts'
import { placeOf, type Use } from './use.ts'

// The requests of https://rclone.org/rc/ that a store makes. All throw RcloneError when rclone says no.

/** Who only looks is told soon that nobody answers; rclone's ten attempts take minutes. What a user has set stays. */
function looking(): { LowLevelRetries?: number } {
  return process.env.RCLONE_LOW_LEVEL_RETRIES ? {} : { LowLevelRetries: 3 }
}

const listed = z.object({ Path: z.string(), Size: z.number(), ModTime: z.string() })

/** The size of an object, -1 where the remote does not tell, or null when there is none. */
export async function sizeOf(use: Use, name: string, signal: AbortSignal): Promise<number | null> {
  const opt = { noModTime: true, noMimeType: true, filesOnly: true }
  try {
    const params = { fs: use.fs, remote: placeOf(use, name), opt, _config: looking() }
    const { item } = await use.daemon.call('operations/stat', params, signal)
    return item ? listed.parse(item).Size : null
  } catch (error) {
    if (isAbsent(error)) return null
    throw error
  }
}

/** Every object below a folder, in any order; none when there is no such folder. */
export async function entriesBelow(use: Use, folder: string, signal: AbortSignal): Promise<Entry[]> {
  const opt = { recurse: true, filesOnly: true, noMimeType: true }
  // The remote's own time: the one that rclone keeps costs a request for every object of S3.
  const _config = { UseServerModTime: true, ...looking() }
  try {
    const params = { fs: use.fs, remote: placeOf(use, nameOf(folder)), opt, _config }
    const { list } = await use.daemon.call('operations/list', params, signal)
    return z
      .array(listed)
      .parse(list ?? [])
      .map(({ Path, Size, ModTime }) => ({
        key: keyOf(use.below === '' ? Path : Path.slice(use.below.length + 1)),
        bytes: Size,
        modified: new Date(ModTime),
      }))
  } catch (error) {
    if (isAbsent(error)) return []
    throw error
  }
}

/** False when there was no such object. */
export async function deleteObject(use: Use, name: string, signal: AbortSignal): Promise<boolean> {
  try {
    await use.daemon.call('operations/deletefile', { fs: use.fs, remote: placeOf(use, name) }, signal)
    return true
  } catch (error) {
    if (isAbsent(error)) return false
    throw error
  }
}

/** Removes a folder if it is empty; whatever prevents it does not matter. */
export async function tidyFolder(use: Use, name: string, signal: AbortSignal): Promise<void> {
  await use.daemon
    .call('operations/rmdir', { fs: use.fs, remote: placeOf(use, name) }, signal)
    .catch(() => {})
}

/** Gives an object another name. An object that has this name goes first if it is to be replaced. */
export async function rename(
  use: Use,
  from: string,
  to: string,
  replace: boolean,
  signal: AbortSignal,
): Promise<void> {
  // Without IgnoreTimes, rclone takes an old object of the same size for the new one on remotes without times.
  const _config = { IgnoreTimes: true, NoCheckDest: !replace }
  const [srcRemote, dstRemote] = [placeOf(use, from), placeOf(use, to)]
  const params = { srcFs: use.fs, srcRemote, dstFs: use.fs, dstRemote, _config }
  await use.daemon.call('operations/movefile', params, signal)
}

/** Uploads a file of this machine. rclone compares size and, where the remote has them, checksums. */
export async function copyFile(
  use: Use,
  from: { readonly dir: string; readonly file: string },
  to: string,
  signal: AbortSignal,
): Promise<void> {
  // The target's name is taken by nobody: not looking spares accounts that may not look.
  const _config = { NoCheckDest: true, Inplace: true }
  const dstRemote = placeOf(use, to)
  const params = { srcFs: from.dir, srcRemote: from.file, dstFs: use.fs, dstRemote, _config }
  await use.daemon.call('operations/copyfile', params, signal).catch(error => {
    if (!isUnseen(error)) throw error
  })
}
