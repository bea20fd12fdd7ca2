import { accessSync, constants, statSync } from 'node:fs'
import type { Config } from '../config/schema.ts'

/** Where the tools that Cairn replaces put their dumps first. */
const oldFolders = ['/scratch', '/backups', '/backup'] as const

/**
 * The folder for large temporary copies that somebody has mounted for the tool before: the first that is a mount of its own
 * (else it is a layer of the container, and the state folder is better), can be written, and holds no store. Null: none.
 */
export function oldScratch(stores: Config['stores'], folders: readonly string[] = oldFolders): string | null {
  const taken = Object.values(stores).flatMap(store => (store.type === 'local' ? [store.path] : []))
  const isFree = (folder: string): boolean => !taken.some(path => `${path}/`.startsWith(`${folder}/`))
  return folders.find(folder => isFree(folder) && isUsable(folder)) ?? null
}

/** A mount of its own that can be written. */
function isUsable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK | constants.X_OK)
    const found = statSync(folder)
    return found.isDirectory() && found.dev !== statSync('/').dev
  } catch {
    return false
  }
}
