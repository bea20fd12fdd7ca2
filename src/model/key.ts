import type { Naming } from './job.ts'
import type { KeyPattern } from './key-pattern.ts'

/**
 * The keys of a store, format version 1 (docs/format.md). Everything a listing needs stands in the key, so that
 * ten thousand backups are listed without opening one; true names stand in the manifest only.
 */

const root = '.cairn/v1'
export const manifestPrefix = `${root}/manifests/`
export const markPrefix = `${root}/marks/`
export const beginPrefix = `${root}/begin/`

/** A backup's id: the second it began, in UTC, and 40 random bits. Ids sort by time. */
export function newId(startedAt: Date, random: Uint8Array): string {
  const second = `${startedAt.toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z`
  return `${second}-${base32(random.subarray(0, 5))}`
}

export const idPattern = /^\d{8}T\d{6}Z-[a-z2-7]{8}$/

/** The second at which a backup of this id began. */
export function startOf(id: string): Date {
  const [, y, mo, d, h, mi, s] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/.exec(id) ?? []
  return new Date(`${y}-${mo}-${d}T${h}:${mi}:${s}Z`)
}

/** Five bytes as eight characters of RFC 4648 base32, in lower case. */
function base32(bytes: Uint8Array): string {
  const alphabet = 'abcdefghijklmnopqrstuvwxyz234567'
  let bits = 0n
  for (const byte of bytes) bits = (bits << 8n) | BigInt(byte)
  let text = ''
  for (let shift = BigInt(bytes.length) * 8n - 5n; shift >= 0n; shift -= 5n) {
    text += alphabet[Number((bits >> shift) & 31n)]
  }
  return text
}

/** The last part of a name in the characters that every store keeps apart: `[a-z0-9._-]`, at most 60 of them. */
export function safeName(name: string): string {
  const last = name.split('/').findLast(part => part !== '') ?? ''
  const safe = last
    .toLowerCase()
    .replaceAll(/[^a-z0-9._-]+/g, '-')
    .replaceAll(/^[.-]+|[.-]+$/g, '')
  return safe.slice(0, 60) || 'artifact'
}

/** Where the data of a backup lies; nobody else writes there. */
export function dataPrefix(job: string, id: string): string {
  return `${job}/${id}/`
}

/** Where what is not the data itself lies, when a job names its objects its own way. */
export function asidePrefix(job: string, id: string): string {
  return `${root}/data/${job}/${id}/`
}

/** How native jobs name their objects; the ordinal keeps `App` and `app` apart where a store does not. */
export const nativeNaming: Naming = (backup, { name, ordinal, suffix }) =>
  `${dataPrefix(backup.job, backup.id)}${String(ordinal).padStart(4, '0')}-${safeName(name)}${suffix}`

/** How jobs name their objects that say so themselves: the data by the pattern, what goes with it aside. */
export function patternNaming(pattern: KeyPattern, withSuffix: boolean): Naming {
  return ({ job, id, unit, startedAt }, { name, role, ordinal, suffix }) =>
    role === 'data'
      ? pattern.key(unit, startedAt) + (withSuffix ? suffix : '')
      : `${asidePrefix(job, id)}${String(ordinal).padStart(4, '0')}-${safeName(name)}${suffix}`
}

/** The key of piece n (from 1) of an artifact. */
export function pieceKey(key: string, piece: number): string {
  return piece === 1 ? key : `${key}.${String(piece).padStart(4, '0')}`
}

export function beginKey(job: string, id: string): string {
  return `${beginPrefix}${job}/${id}.json`
}

export function markKey(id: string, at: Date, random: Uint8Array, mark: string): string {
  return `${markPrefix}${id}/${at.toISOString().replaceAll(/[-:.]/g, '')}-${base32(random.subarray(0, 5))}.${mark}.json`
}

/** What a manifest's key says. A hint for listings: restore and prune read the manifest. */
export interface ManifestKey {
  readonly id: string
  readonly job: string
  readonly engine: string
  readonly kind: string
  /** The encrypting stage's name, or `none`. */
  readonly encryption: string
  readonly bytes: number
  /** The first 16 hex digits of the manifest file's SHA-256: a changed file that still parses does not match. */
  readonly digest: string
  /** Which of the job's units; of a very long name the beginning. Null in keys that were made before units stood in them. */
  readonly unit: string | null
}

export function manifestKey(k: ManifestKey): string {
  const unit = k.unit === null ? '' : `.${spelled(k.unit)}`
  return `${manifestPrefix}${k.job}/${k.id}.${k.engine}.${k.kind}.${k.encryption}.${k.bytes}.${k.digest}${unit}.json`
}

/** A name has at most so many bytes in a key: with all the rest, file systems allow 255. */
const longestUnit = 120

/** Any text in `[a-z0-9_-]`: whatever else it holds as `_` and two hex digits a byte, cut where it is too long. */
function spelled(text: string): string {
  let all = ''
  for (const char of text) {
    const hex = [...Buffer.from(char)].map(byte => `_${byte.toString(16).padStart(2, '0')}`)
    const next = all + (/[a-z0-9-]/.test(char) ? char : hex.join(''))
    if (next.length > longestUnit) break
    all = next
  }
  return all
}

/** A unit as the keys of its backups tell it: of a very long name the beginning. */
export function unitInKeys(unit: string): string {
  return unspelled(spelled(unit))
}

function unspelled(text: string): string {
  const bytes = text.match(/_[0-9a-f]{2}|[a-z0-9-]/g) ?? []
  return Buffer.from(
    bytes.map(part => (part.length === 3 ? Number.parseInt(part.slice(1), 16) : part.charCodeAt(0))),
  ).toString('utf8')
}

/** Whether the digits at the beginning of an id, or of a mark, are a time that there is. */
function isTime(text: string): boolean {
  return !Number.isNaN(startOf(text.replace(/^(\d{8}T\d{6}).*/s, '$1Z')).getTime())
}

/** Null for a key that is not a manifest's. */
export function parseManifestKey(key: string): ManifestKey | null {
  if (!key.startsWith(manifestPrefix)) return null
  const match =
    /^([a-z0-9][a-z0-9._-]*)\/(\d{8}T\d{6}Z-[a-z2-7]{8})\.([a-z0-9-]+)\.([a-z]+)\.([a-z0-9-]+)\.(\d+)\.([0-9a-f]{16})(?:\.([a-z0-9_-]*))?\.json$/.exec(
      key.slice(manifestPrefix.length),
    )
  if (!match || !isTime(match[2] ?? '')) return null
  const [, job = '', id = '', engine = '', kind = '', encryption = '', bytes = '', digest = '', unit] = match
  return {
    ...{ id, job, engine, kind, encryption, bytes: Number(bytes), digest },
    unit: unit === undefined ? null : unspelled(unit),
  }
}

/** Null for a key that is not a mark's. */
export function parseMarkKey(key: string): { id: string; at: string; mark: string } | null {
  const match = /^([^/]+)\/(\d{8}T\d{9}Z)-[a-z2-7]{8}\.([a-z]+)\.json$/.exec(key.slice(markPrefix.length))
  if (!key.startsWith(markPrefix) || !match) return null
  const [, id = '', at = '', mark = ''] = match
  return isTime(at) ? { id, at, mark } : null
}

/** Null for a key that is not a begin record's. */
export function parseBeginKey(key: string): { job: string; id: string } | null {
  const match = /^([^/]+)\/(\d{8}T\d{6}Z-[a-z2-7]{8})\.json$/.exec(key.slice(beginPrefix.length))
  if (!key.startsWith(beginPrefix) || !match || !isTime(match[2] ?? '')) return null
  const [, job = '', id = ''] = match
  return { job, id }
}

/** Why a key cannot be used in any store, or null: it would leave the root, or mean another key. */
export function keyFault(key: string): string | null {
  if (key.includes('\0')) return 'it holds a NUL'
  if (key.split('/').some(segment => segment === '' || segment === '.' || segment === '..')) {
    return 'it has an empty, "." or ".." segment'
  }
  return null
}
