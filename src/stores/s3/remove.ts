import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import type { Connection } from './client.ts'
import { isAbsent, isRefused, isUnknownThere, troubleOf } from './error.ts'
import { retention } from './lock.ts'

export type Removal = 'removed' | 'absent' | 'locked'

/** An object, by the whole of its key. */
export interface Removable {
  readonly connection: Connection
  readonly store: string
  readonly key: string
}

/** Deletes one version for good. */
export async function removeVersion(from: Removable, version: string, ctx: Context): Promise<Removal> {
  if (!(await exists(from, version, ctx))) return 'absent'
  return (await erase(from, version, ctx)) ? 'removed' : 'locked'
}

/**
 * Deletes every version of the key and its delete markers. The markers stay while a version is locked: without them
 * an object that somebody deleted would appear again.
 */
export async function removeAll(from: Removable, ctx: Context): Promise<Removal> {
  const found = await versionsOf(from, ctx)
  if (!found) return removeCurrent(from, ctx)
  let locked = false
  for (const version of found.versions) locked = !(await erase(from, version, ctx)) || locked
  if (locked) return 'locked'
  for (const marker of found.markers) await erase(from, marker, ctx)
  return found.versions.length > 0 ? 'removed' : 'absent'
}

/** An entry of ListObjectVersions. */
interface Listed {
  readonly Key?: string | undefined
  readonly VersionId?: string | undefined
}

function idOf(entry: Listed): string {
  return entry.VersionId ?? 'null'
}

/** Null where the server knows no versions, or may not be asked for them. */
async function versionsOf(from: Removable, ctx: Context) {
  const versions: string[] = []
  const markers: string[] = []
  let after: { KeyMarker?: string; VersionIdMarker?: string } = {}
  for (;;) {
    // The key is the first of those that begin with it, and its versions come one after another.
    const input = { Bucket: from.connection.bucket, Prefix: from.key, EncodingType: 'url' as const, ...after }
    const page = await from.connection
      .ask((s3, options) => s3.listObjectVersions(input, options), ctx)
      .catch(error => {
        if (isRefused(error) || isUnknownThere(error)) return null
        throw error
      })
    if (!page) return null
    const isOurs = (entry: Listed) => decoded(entry.Key ?? '', page.EncodingType) === from.key
    const { Versions = [], DeleteMarkers = [] } = page
    versions.push(...Versions.filter(isOurs).map(idOf))
    markers.push(...DeleteMarkers.filter(isOurs).map(idOf))
    const onlyOurs = Versions.every(isOurs) && DeleteMarkers.every(isOurs)
    if (!page.IsTruncated || !page.NextVersionIdMarker || !onlyOurs) return { versions, markers }
    // The answer's own KeyMarker is not used: AWS encodes it, Ceph does not.
    after = { KeyMarker: from.key, VersionIdMarker: page.NextVersionIdMarker }
  }
}

/** Without a list of versions: the current one by its id, until there is none. */
async function removeCurrent(from: Removable, ctx: Context): Promise<Removal> {
  for (let removed = false; ; removed = true) {
    const current = await head(from, undefined, ctx)
    if (!current) return removed ? 'removed' : 'absent'
    if (!(await erase(from, current.version, ctx))) return 'locked'
    if (!current.version) return 'removed'
  }
}

async function exists(from: Removable, version: string, ctx: Context): Promise<boolean> {
  try {
    return (await head(from, version, ctx)) !== null
  } catch (error) {
    // A delete marker (405), or no right to read: the deletion will tell.
    if (isRefused(error) || isUnknownThere(error)) return true
    throw error
  }
}

async function head(from: Removable, version: string | undefined, ctx: Context) {
  const input = { Bucket: from.connection.bucket, Key: from.key, ...(version && { VersionId: version }) }
  try {
    const found = await from.connection.ask((s3, options) => s3.headObject(input, options), ctx)
    return { version: found.VersionId }
  } catch (error) {
    if (isAbsent(error)) return null
    throw error
  }
}

/** True: it is gone. False: a lock forbids it. */
async function erase(from: Removable, version: string | undefined, ctx: Context): Promise<boolean> {
  const input = { Bucket: from.connection.bucket, Key: from.key, ...(version && { VersionId: version }) }
  try {
    const done = await from.connection.ask((s3, options) => s3.deleteObject(input, options), ctx)
    if (!version && done.DeleteMarker) throw hiddenOnly(from)
    return true
  } catch (error) {
    if (isAbsent(error)) return true
    if (isRefused(error) && (await isLocked(from, version, error, ctx))) return false
    throw error
  }
}

/** S3 answers AccessDenied to both, a lock and a missing right. */
async function isLocked(
  from: Removable,
  version: string | undefined,
  error: unknown,
  ctx: Context,
): Promise<boolean> {
  if (/object.?lock|retention|worm/i.test(troubleOf(error).message)) return true
  const lock = await retention({ ...from, version }, ctx).catch(() => null)
  if (lock && lock.until > ctx.clock.now()) return true
  return hasLegalHold(from, version, ctx)
}

async function hasLegalHold(from: Removable, version: string | undefined, ctx: Context): Promise<boolean> {
  const input = { Bucket: from.connection.bucket, Key: from.key, ...(version && { VersionId: version }) }
  const hold = await from.connection
    .ask((s3, options) => s3.getObjectLegalHold(input, options), ctx)
    .catch(() => null)
  return hold?.LegalHold?.Status === 'ON'
}

function hiddenOnly(from: Removable): Failure {
  return new Failure({
    what: `cannot remove ${from.key} from ${from.connection.where}`,
    why: 'it is hidden by a delete marker now, but its versions are still there',
    remedy: 'permit s3:ListBucketVersions and s3:DeleteObjectVersion',
  })
}

/**
 * Aborts the multipart uploads under a prefix and returns how many. Lists anew after each page: the markers of the
 * next page are encoded by some servers and by others not.
 */
export async function abortUploads(connection: Connection, prefix: string, ctx: Context): Promise<number> {
  const seen = new Set<string>()
  let aborted = 0
  for (;;) {
    const input = { Bucket: connection.bucket, Prefix: prefix, EncodingType: 'url' as const }
    const page = await connection
      .ask((s3, options) => s3.listMultipartUploads(input, options), ctx)
      .catch((error: unknown) => {
        // rclone serve s3 says so when there is none at all.
        if (troubleOf(error).code === 'NoSuchUpload') return { Uploads: [], IsTruncated: false }
        throw error
      })
    const fresh = (page.Uploads ?? []).filter(each => each.UploadId && !seen.has(each.UploadId))
    for (const { Key = '', UploadId = '' } of fresh) {
      seen.add(UploadId)
      // Ceph encodes the keys, but does not say so: the id tells which spelling is right.
      const keys = new Set([decoded(Key, 'url'), Key])
      for (const key of keys) if (await abortUpload(connection, key, UploadId, ctx)) aborted++
    }
    if (!page.IsTruncated || fresh.length === 0) return aborted
  }
}

/** False: there is no such upload of this key. */
async function abortUpload(
  connection: Connection,
  Key: string,
  UploadId: string,
  ctx: Context,
): Promise<boolean> {
  try {
    await connection.ask(
      (s3, options) => s3.abortMultipartUpload({ Bucket: connection.bucket, Key, UploadId }, options),
      ctx,
    )
    return true
  } catch (error) {
    if (troubleOf(error).code === 'NoSuchUpload') return false
    throw error
  }
}

/** Keys are asked for in URL encoding, because XML cannot carry all characters; AWS writes a space as `+`. */
export function decoded(key: string, encoding: string | undefined): string {
  if (encoding !== 'url') return key
  try {
    return decodeURIComponent(key.replaceAll('+', ' '))
  } catch {
    return key
  }
}
