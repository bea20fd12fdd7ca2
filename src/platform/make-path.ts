import { mkdirSync, statSync } from 'node:fs'
import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Makes a folder and those above it that are missing; gives the first that was made, undefined where it was there. Not
 * `mkdir` with `recursive`: where a file system refuses new folders with ENOENT (/proc, some network mounts), that never ends.
 */
export async function makePath(path: string, mode = 0o777): Promise<string | undefined> {
  const made = await makeOne(path, mode)
  if (made !== null) return made ? path : undefined
  const first = await makePath(dirname(path), mode)
  if ((await makeOne(path, mode)) === null) throw new Error(`the file system takes no folder ${path}`)
  return first ?? path
}

/** False: it is there; null: what should hold it is not. */
async function makeOne(path: string, mode: number): Promise<boolean | null> {
  try {
    await mkdir(path, mode)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const found = await stat(path).catch(() => null)
    if (found?.isDirectory()) return false
    if (code !== 'ENOENT' || (await stat(dirname(path)).catch(() => null))) throw error
    return null
  }
}

/** The same, for what is made before anything runs beside; for our own folders, which nobody else may enter. */
export function makePathSync(path: string): void {
  if (makeOneSync(path)) return
  makePathSync(dirname(path))
  if (!makeOneSync(path)) throw new Error(`the file system takes no folder ${path}`)
}

/** Whether it is there now; not, when what should hold it is not. */
function makeOneSync(path: string): boolean {
  try {
    mkdirSync(path, 0o700)
    return true
  } catch (error) {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return true
    if (
      (error as NodeJS.ErrnoException).code !== 'ENOENT' ||
      statSync(dirname(path), { throwIfNoEntry: false })
    )
      throw error
    return false
  }
}
