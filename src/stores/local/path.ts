import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { usage } from '../../model/failure.ts'
import { keyFault } from '../../model/key.ts'

/** A local store's name and its folder. */
export interface Place {
  readonly store: string
  readonly root: string
}

/** The path of a key's file. Throws a Failure (exit 2) for a key that no file in the folder can stand for. */
export function fileOf(place: Place, key: string): string {
  const fault = keyFault(key) ?? ownFault(key)
  if (fault) throw usage(`the store ${place.store} cannot have the key ${JSON.stringify(key)}`, fault)
  return join(place.root, key)
}

function ownFault(key: string): string | null {
  if (!key.isWellFormed()) return 'it is not valid Unicode, so two keys could mean one file'
  if (key === lostAndFound || key.startsWith(`${lostAndFound}/`))
    return 'the file system keeps that folder for itself'
  if (temporaryOf(key.slice(key.lastIndexOf('/') + 1)) !== null) return 'it is the name of a temporary file'
  return null
}

/** Where a file system's repair puts what it finds; often unreadable. */
export const lostAndFound = 'lost+found'

/** The key of the folder that a key's file lies in; empty for the root. */
export function folderOf(key: string): string {
  return key.slice(0, Math.max(0, key.lastIndexOf('/')))
}

/** A hidden name beside the object's, different each time; `sweep` knows it on any host. */
export function temporaryName(name: string): string {
  return `.${name}.${randomBytes(8).toString('hex')}.cairn-part`
}

/** The name of the object that a temporary file is for; null for any other name. */
export function temporaryOf(name: string): string | null {
  return /^\.(.+)\.[0-9a-f]{16}\.cairn-part$/s.exec(name)?.[1] ?? null
}

/** The one temporary name that all writers of an object share, for taking turns where links do not exist. */
export function claimName(name: string): string {
  return `.${name}.${'0'.repeat(16)}.cairn-part`
}
