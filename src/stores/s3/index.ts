import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import type { Context } from '../../model/context.ts'
import { Failure, usage } from '../../model/failure.ts'
import { keyFault } from '../../model/key.ts'
import type { Bytes } from '../../model/step.ts'
import { type Entry, NotFound, type PutOptions, type Store, Unkept } from '../../model/store.ts'
import { connection, defaultPatience } from './client.ts'
import { nonceName, type Upload, type Uploaded } from './create.ts'
import { keyTrouble } from './customer-key.ts'
import { eitherSlash } from './either-slash.ts'
import { explained, isAbsent } from './error.ts'
import { Dropped, ensureExtras, lockHeaders, retain, retention, tagHeader } from './lock.ts'
import type { S3Options } from './options.ts'
import { BodyFailed, maxObjectBytes, maxParts, type PartDigests, partBytes, wholePart } from './part.ts'
import { listPage, probe, read, timeOf, versionsPage } from './read.ts'
import { abortUploads, removeAll, removeVersion } from './remove.ts'
import { putWhole, upload } from './upload.ts'

export { S3Options } from './options.ts'

/**
 * A bucket of S3 or of a server that speaks like it. The SDK is loaded at the first request.
 *
 * `can` is what S3 can do; nothing is asked to find out what this bucket can. In a bucket without versions `put`
 * returns none; where locks are impossible a put with a lock throws. `exclusive` by conditional writes; a server
 * that does not know them is written to without, and then unique keys are all that protects.
 *
 * A put needs s3:PutObject only (with a lock s3:PutObjectRetention, with tags s3:PutObjectTagging).
 */
export function s3Store(name: string, options: S3Options, patience = defaultPatience): Store {
  const at = (prefix: string): Store => storeUnder(name, { ...options, prefix }, patience)
  return options.prefix === '/' ? eitherSlash(at('/'), at('')) : at(options.prefix)
}

function storeUnder(name: string, options: S3Options, patience: typeof defaultPatience): Store {
  const link = connection(options, patience)
  const root = options.prefix === '' || options.prefix.endsWith('/') ? options.prefix : `${options.prefix}/`
  /** Kinds of puts whose extras this server is known to keep, and those of which it is known that it cannot. */
  const kept = new Set<string>()
  const never = new Map<string, Dropped>()
  const lacks = { conditions: false }

  /** Runs the work, and says what it was about when it fails. */
  async function doing<T>(what: string, ctx: Context, work: () => Promise<T>, lock = false): Promise<T> {
    try {
      return await work()
    } catch (error) {
      ctx.signal.throwIfAborted()
      if (error instanceof BodyFailed) throw error.reason
      throw explained(error, { what, where: link.where, secrets: link.secrets, lock })
    }
  }

  function keyOf(key: string): string {
    const fault = keyFault(key)
    if (fault) throw usage(`cannot use the key ${JSON.stringify(key)}`, fault)
    return root + key
  }

  function uploadOf(key: string, o: PutOptions): Upload {
    const nonce = randomUUID()
    return {
      connection: link,
      store: name,
      key,
      create: { ...createHeaders(options, o), Metadata: { [nonceName]: nonce } },
      exclusive: !o.replace,
      nonce,
      digests: digestsFor(link.aws, o),
      lacks,
      ...(options.partSize && { fixedPartBytes: options.partSize }),
      ...(o.sizeHint && { sizeHint: o.sizeHint }),
    }
  }

  /** What of a listing is ours, by its key from the root. */
  function* own<E extends Entry>(entries: readonly E[]): Generator<E, void, undefined> {
    for (const entry of entries) {
      // A server that knows no key with a slash in front lists those without one for it.
      if (!entry.key.startsWith(root)) continue
      const key = entry.key.slice(root.length)
      // Consoles make empty objects whose key ends with a slash, and call them folders.
      if (!keyFault(key)) yield { ...entry, key }
    }
  }

  const store: Store = {
    name,
    can: {
      read: true,
      list: true,
      remove: true,
      lock: true,
      versions: true,
      exclusive: true,
      hidesPartial: true,
      maxObjectBytes: Math.min(maxObjectBytes, (options.partSize ?? maxObjectBytes) * maxParts),
    },

    probe: ctx => probe(link, root, ctx),
    now: ctx => doing('cannot ask for the time', ctx, () => timeOf(link, root, ctx)),

    async put(key, body, o, ctx) {
      const full = keyOf(key)
      const work = async () => {
        ctx.signal.throwIfAborted()
        const done = await send(body, uploadOf(full, o), ctx)
        const object = { key, bytes: done.bytes, ...(done.version && { version: done.version }) }
        await checkExtras(full, done, o, ctx).catch(error => {
          throw error instanceof Dropped ? new Unkept(error, error.extra, object) : error
        })
        return object
      }
      return doing(`cannot write ${key}`, ctx, work, o.lock !== undefined)
    },

    get(key, o, ctx) {
      return read(
        link,
        name,
        () => keyOf(key),
        o,
        ctx,
        error => {
          if (isAbsent(error)) return new NotFound(`there is no ${key} in ${link.where}`)
          const what = `cannot read ${key}`
          const about = keyTrouble(error, options.customerKey !== undefined, `${what} in ${link.where}`)
          return about ?? explained(error, { what, where: link.where, secrets: link.secrets })
        },
      )
    },

    async *list(prefix, ctx) {
      let token: string | undefined
      do {
        const page = await doing(`cannot list ${prefix}`, ctx, () =>
          listPage(link, root + prefix, token, ctx),
        )
        yield* own(page.entries)
        token = page.next
      } while (token)
    },

    async *listVersions(prefix, ctx) {
      let after: { KeyMarker?: string; VersionIdMarker?: string } | null = {}
      while (after) {
        const from: { KeyMarker?: string; VersionIdMarker?: string } = after
        const page: Awaited<ReturnType<typeof versionsPage>> = await doing(`cannot list ${prefix}`, ctx, () =>
          versionsPage(link, root + prefix, from, ctx),
        )
        if (!page) return yield* store.list(prefix, ctx)
        yield* own(page.entries)
        after = page.next
      }
    },

    async remove(key, version, ctx) {
      const from = { connection: link, store: name, key: keyOf(key) }
      return doing(`cannot remove ${key}`, ctx, () =>
        version ? removeVersion(from, version, ctx) : removeAll(from, ctx),
      )
    },

    sweep: (prefix, ctx) =>
      doing(`cannot abort unfinished uploads of ${prefix}`, ctx, () =>
        abortUploads(link, root + prefix, ctx),
      ),

    async lockUntil(key, version, until, ctx) {
      const of = { connection: link, store: name, key: keyOf(key), version }
      return doing(`cannot lock ${key}`, ctx, async () => {
        const before = await retention(of, ctx)
        if (before && before.until >= until) return before.until
        await retain(of, before?.mode ?? 'GOVERNANCE', until, ctx)
        const after = await retention(of, ctx)
        if (after) return after.until
        throw new Failure({
          what: `cannot lock ${key} in ${link.where}`,
          why: 'the server does not keep the lock',
        })
      })
    },

    shell: key => link.shell(keyOf(key)),
    close: () => link.close(),
  }
  return store

  /** Whether a server keeps lock and tags does not change: one small object answers for all, a large one for itself. */
  async function checkExtras(key: string, done: Uploaded, o: PutOptions, ctx: Context): Promise<void> {
    const kind = `${Boolean(o.lock)} ${Boolean(o.tags)}`
    if (!done.multipart && kept.has(kind)) return
    const known = never.get(kind)
    if (known) throw known
    try {
      await ensureExtras(o, { connection: link, store: name, key, version: done.version }, ctx)
    } catch (error) {
      if (error instanceof Dropped && error.ever) never.set(kind, error)
      throw error
    }
    if (!done.multipart) kept.add(kind)
  }
}

/** Bytes in memory that fit into one part are sent as they are. */
function send(body: Bytes | Uint8Array, to: Upload, ctx: Context): Promise<Uploaded> {
  if (!(body instanceof Uint8Array)) return upload(body, to, ctx)
  const fixed = to.fixedPartBytes
  if (body.length > partBytes(0, fixed ? { fixed } : {})) return upload(Readable.from([body]), to, ctx)
  return putWhole(wholePart(body, to.digests.inMemory), to, ctx)
}

function createHeaders(options: S3Options, o: PutOptions): Upload['create'] {
  return {
    ...lockHeaders(o.lock),
    ...tagHeader(o.tags),
    ...(o.expires && { Expires: o.expires }),
    ...(options.storageClass && {
      StorageClass: options.storageClass as NonNullable<Upload['create']['StorageClass']>,
    }),
    ...(options.sse && { ServerSideEncryption: options.sse.algorithm }),
    ...(options.sse?.kmsKeyId && { SSEKMSKeyId: options.sse.kmsKeyId }),
  }
}

/** AWS takes CRC-32 everywhere; Content-MD5 is what every server knows, and locked objects need one of them. */
function digestsFor(aws: boolean, o: PutOptions): PartDigests {
  if (aws) return { inMemory: 'crc32', inFile: 'crc32' }
  return { inMemory: o.lock ? 'md5' : 'none', inFile: 'md5' }
}
