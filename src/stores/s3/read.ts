import type { Readable } from 'node:stream'
import type { Context } from '../../model/context.ts'
import { type Entry, type GetOptions, Transient, type VersionEntry } from '../../model/store.ts'
import { beforeStall } from '../../platform/stall.ts'
import type { Connection } from './client.ts'
import { explained, isRefused, isUnknownThere } from './error.ts'
import { decoded } from './remove.ts'

/** Yields exactly the bytes that the server announced. A reader that is slow is no fault; a server that is, is. */
export async function* read(
  link: Connection,
  store: string,
  keyOf: () => string,
  { version, range }: GetOptions,
  ctx: Context,
  toError: (error: unknown) => Error,
): AsyncGenerator<Uint8Array, void, undefined> {
  const Key = keyOf()
  const input = {
    Bucket: link.bucket,
    Key,
    ...(version && { VersionId: version }),
    ...(range && { Range: `bytes=${range[0]}-${range[1]}` }),
  }
  try {
    const { Body, ContentLength } = await link.ask((s3, o) => s3.getObject(input, o), ctx, { streams: true })
    const body = Body as Readable
    let left = ContentLength
    try {
      const chunks = body[Symbol.asyncIterator]()
      for (;;) {
        const chunk = chunks.next().catch(error => {
          throw cut(Key, link, error.message)
        })
        const next = await beforeStall<IteratorResult<Uint8Array>>(chunk, ctx, () => store)
        if (next.done) break
        if (left !== undefined) left -= next.value.length
        yield next.value
      }
    } finally {
      body.destroy()
    }
    if (left) throw cut(Key, link, `it ended ${left} bytes too early`)
  } catch (error) {
    ctx.signal.throwIfAborted()
    throw toError(error)
  }
}

function cut(key: string, link: Connection, why: string): Transient {
  return new Transient({
    what: `cannot read ${key} in ${link.where}`,
    why: `the stream broke: ${why}`,
    remedy: 'look at the network and at the server',
  })
}

export async function listPage(link: Connection, Prefix: string, token: string | undefined, ctx: Context) {
  const input = {
    Bucket: link.bucket,
    Prefix,
    EncodingType: 'url' as const,
    ...(token && { ContinuationToken: token }),
  }
  const page = await link.ask((s3, o) => s3.listObjectsV2(input, o), ctx)
  const entries = (page.Contents ?? []).map(
    (each): Entry => ({
      key: decoded(each.Key ?? '', page.EncodingType),
      bytes: each.Size ?? 0,
      modified: each.LastModified ?? new Date(0),
    }),
  )
  return { entries, next: page.IsTruncated ? page.NextContinuationToken : undefined }
}

/**
 * A page of all versions, delete markers left out. Null where the server knows no versions, or may not be asked for them.
 * `after` is what the page before ended with.
 */
export async function versionsPage(
  link: Connection,
  Prefix: string,
  after: { KeyMarker?: string; VersionIdMarker?: string },
  ctx: Context,
) {
  const input = { Bucket: link.bucket, Prefix, EncodingType: 'url' as const, ...after }
  const page = await link
    .ask((s3, o) => s3.listObjectVersions(input, o), ctx)
    .catch(error => {
      if (isRefused(error) || isUnknownThere(error)) return null
      throw error
    })
  if (!page) return null
  const entries = (page.Versions ?? []).map(
    (each): VersionEntry => ({
      key: decoded(each.Key ?? '', page.EncodingType),
      bytes: each.Size ?? 0,
      modified: each.LastModified ?? new Date(0),
      ...(each.VersionId && each.VersionId !== 'null' ? { version: each.VersionId } : {}),
    }),
  )
  // AWS encodes the markers as it does keys, Ceph does not: from a decoded key on nothing is missed, and nothing told twice.
  const marker = entries.at(-1)
  const more = page.IsTruncated === true && page.NextKeyMarker !== undefined
  const next = more
    ? {
        KeyMarker: page.NextVersionIdMarker && marker ? marker.key : (page.NextKeyMarker ?? ''),
        ...(page.NextVersionIdMarker ? { VersionIdMarker: page.NextVersionIdMarker } : {}),
      }
    : null
  return { entries, next }
}

/** The server's time, from its answer to some request; to who may not list everything, to an earlier one. */
export async function timeOf(link: Connection, root: string, ctx: Context): Promise<Date | null> {
  await listOne(link, root, ctx).catch((error: unknown) => {
    ctx.signal.throwIfAborted()
    if (!isRefused(error)) throw error
  })
  return link.lastTime()
}

function listOne(link: Connection, Prefix: string, ctx: Context, attempts?: number) {
  const input = { Bucket: link.bucket, Prefix, MaxKeys: 1 }
  return link.ask((s3, o) => s3.listObjectsV2(input, o), ctx, attempts ? { attempts } : {})
}

/** Asks for a list of one. To be refused it is no fault: who may only write has good credentials too. */
export async function probe(link: Connection, root: string, ctx: Context): Promise<void> {
  try {
    await listOne(link, root, ctx, 1)
  } catch (error) {
    ctx.signal.throwIfAborted()
    if (isRefused(error)) return
    throw explained(error, { what: 'cannot use the store', where: link.where, secrets: link.secrets })
  }
}
