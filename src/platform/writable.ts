import { constants } from 'node:fs'
import { access, lstat, mkdtemp, realpath, rmdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { usage } from '../model/failure.ts'
import { mounts } from './mounts.ts'
import { nearestExisting } from './space.ts'

// Whether a restore could write, found out before anything is touched.

/** Something that is to be written, and why it cannot be; null: it can. */
export interface Place {
  readonly target: string
  readonly why: string | null
}

/** Throws one usage Failure that names all that cannot be written. */
export function demandWritable(places: readonly Place[]): void {
  const closed = places.filter(({ why }) => why !== null)
  if (closed.length === 0) return
  const reasons = [...new Set(closed.map(({ why }) => why))]
  throw usage(
    `cannot restore to ${closed.map(({ target }) => target).join(', ')}`,
    reasons.join('; '),
    'mount the folder without :ro, or run as a user who may write there',
  )
}

/** Why nothing new can be made in a folder, or where it is not there in the first above it that is; null when it can. Leaves nothing there. */
export async function whyClosed(folder: string): Promise<string | null> {
  const there = await nearestExisting(folder)
  const why = await refused(there, constants.W_OK | constants.X_OK)
  // The kernel answers for the real user, without the capabilities that a process may have: only trying tells.
  return why === null || (!why.isReadOnly && (await canMake(there))) ? null : why.text
}

/** Why another file cannot take the place of this one, which need not be there; null when it can. */
export async function whyNotReplaced(path: string): Promise<string | null> {
  const closed = await whyClosed(dirname(path))
  if (closed !== null || !(await isMounted(path))) return closed
  return `${path} is mounted by itself, and so cannot be replaced: its folder must be mounted`
}

/** Why the content of a file cannot be changed; null when it can. */
export async function whyNotWritten(path: string): Promise<string | null> {
  return (await refused(path, constants.W_OK))?.text ?? null
}

async function refused(path: string, mode: number): Promise<{ text: string; isReadOnly: boolean } | null> {
  try {
    await access(path, mode)
    return null
  } catch (error) {
    const isReadOnly = (error as NodeJS.ErrnoException).code === 'EROFS'
    return {
      isReadOnly,
      text: isReadOnly ? `${path} is mounted read-only` : `no permission to write ${path}`,
    }
  }
}

async function canMake(folder: string): Promise<boolean> {
  try {
    await rmdir(await mkdtemp(join(folder, '.cairn-try-')))
    return true
  } catch {
    return false
  }
}

/** A file can be mounted as a folder can; the kernel lets nobody rename what something is mounted on. */
async function isMounted(path: string): Promise<boolean> {
  if (!(await lstat(path).catch(() => null))) return false
  const real = join(await realpath(dirname(path)), basename(path))
  return (await mounts()).some(({ point }) => point === real)
}
