import { randomUUID } from 'node:crypto'
import { closeSync, fsyncSync, linkSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

/** Replaces a small file so that, whenever we are killed, either the old or the new content is there, durably. */
export function replaceFile(path: string, content: string): void {
  const temporary = `${path}.${randomUUID()}`
  try {
    const file = openSync(temporary, 'wx', 0o600)
    try {
      writeFileSync(file, content)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
  syncFolder(dirname(path))
}

/** The same for a file that is not there yet: false, and nothing changed, where somebody else has made it meanwhile. */
export function createFile(path: string, content: string): boolean {
  const made = `${path}.${randomUUID()}`
  replaceFile(made, content)
  try {
    linkSync(made, path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return false
    // A file system without hard links.
    renameSync(made, path)
  } finally {
    rmSync(made, { force: true })
  }
  syncFolder(dirname(path))
  return true
}

/** Makes what was created, renamed or removed in a folder durable. */
export function syncFolder(path: string): void {
  const folder = openSync(path, 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}
