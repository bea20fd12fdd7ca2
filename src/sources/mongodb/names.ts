import { createHash } from 'node:crypto'

/** The longest name of a file that mongodump makes, less its suffix. */
const longest = 238
const kept = 208

/**
 * The file of a collection, as mongodump names it: what its language calls a query escape; a name too long for a file is cut, with
 * its hash behind. `metadata.json` tells the whole name then.
 */
export function fileOf(collection: string): string {
  const escaped = encodeURIComponent(collection)
    .replace(/[!'()*]/g, sign => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%20', '+')
  if (escaped.length <= longest) return escaped
  return `${escaped.slice(0, kept)}%24${createHash('sha1').update(collection).digest('base64url')}`
}

/** The collection of a file; a name that was cut comes back cut. */
export function collectionOf(file: string): string {
  try {
    return decodeURIComponent(file.replaceAll('+', ' '))
  } catch {
    return file
  }
}
