import { stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Failure } from '../model/failure.ts'
import { showBytes } from '../model/quantity.ts'

/** Bytes that can still be written below the path, which need not exist; null where the file system does not say. */
export async function freeBytes(path: string): Promise<number | null> {
  const { blocks, bavail, bsize } = await statfs(await nearestExisting(path))
  return blocks === 0 ? null : bavail * bsize
}

/** Throws a Failure when so many bytes do not fit below the path: before anything was written, not when the disk is full. */
export async function needSpace(
  path: string,
  bytes: number,
  what: string,
  remedy = 'make room',
): Promise<void> {
  const free = await freeBytes(path)
  if (free === null || bytes <= free) return
  throw new Failure({
    what,
    why: `${showBytes(bytes)} are needed in ${path}, and ${showBytes(free)} are free`,
    remedy,
  })
}

/** Where an error of ours or of a program says that the disk is full: a Failure that says what to do. Any other error as it is. */
export function aboutSpace(error: unknown, what: string, remedy: string): unknown {
  const { code } = error as NodeJS.ErrnoException
  const why = error instanceof Failure ? error.why : (error as Error).message
  const isFull = code === 'ENOSPC' || code === 'EDQUOT' || /No space left|Disk quota/.test(why)
  return isFull ? new Failure({ what, why, remedy, cause: error }) : error
}

/** The path, or the first above it that exists. */
export async function nearestExisting(path: string): Promise<string> {
  const found = await stat(path).catch(() => null)
  return found || path === dirname(path) ? path : nearestExisting(dirname(path))
}
