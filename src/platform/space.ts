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

/** The path, or the first above it that exists. */
export async function nearestExisting(path: string): Promise<string> {
  const found = await stat(path).catch(() => null)
  return found || path === dirname(path) ? path : nearestExisting(dirname(path))
}
