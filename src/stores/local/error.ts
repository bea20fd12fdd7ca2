import { Failure } from '../../model/failure.ts'
import { codeOf } from '../../platform/system-error.ts'

/** What the errors of a file system mean for a person, and what to do about them. */
const meanings: Readonly<Record<string, readonly [why: string, remedy: string]>> = {
  ENOSPC: ['no space is left on the disk', 'free some space, keep fewer backups, or use a larger disk'],
  EDQUOT: ['the disk quota is used up', 'raise the quota or keep fewer backups'],
  EROFS: [
    'the file system is mounted read-only',
    'mount it writable; after a disk error, check the disk first',
  ],
  EACCES: ['permission denied', 'give the user that runs cairn access to the folder'],
  EPERM: [
    'the operation is not permitted',
    'look for an immutable attribute (lsattr) and for the owner of the folder',
  ],
  ENAMETOOLONG: ['the file system does not allow a name of this length', 'use shorter names'],
  EFBIG: ['the file system does not allow a file of this size', 'use another file system than FAT'],
  EIO: ['the disk reports an error', 'check the disk, and read the kernel log'],
  ENOTDIR: ['a part of the path is a file, not a folder', 'move that file away'],
  EEXIST: ['there is a file where a folder is needed', 'move that file away'],
  EISDIR: ['there is a folder of that name', 'move that folder away'],
  ELOOP: ['the path leads through too many symbolic links', 'use the real path'],
  ESTALE: ['the network file system was exchanged beneath us', 'mount it again'],
  EMFILE: ['too many files are open', 'raise the limit of open files'],
  ENFILE: ['too many files are open on this machine', 'raise the limit of open files'],
}

/** The error as a Failure that says what it means; anything but an error of the file system is returned as it is. */
export function told(error: unknown, what: string): unknown {
  const code = codeOf(error)
  if (code === undefined || !(error instanceof Error)) return error
  const [why, remedy] = meanings[code] ?? [error.message, '']
  return new Failure({ what, why: `${why} (${code})`, remedy, cause: error })
}

/** Runs something that touches the file system; what it throws is told. */
export async function telling<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw told(error, what)
  }
}

/** There is nothing at the path. */
export function isNothing(error: unknown): boolean {
  const code = codeOf(error)
  return code === 'ENOENT' || code === 'ENOTDIR'
}

/** The result, or null where there is nothing at the path. */
export async function orNull<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work
  } catch (error) {
    if (isNothing(error)) return null
    throw error
  }
}
