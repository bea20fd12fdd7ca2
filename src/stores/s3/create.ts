import type { CreateMultipartUploadCommandInput, S3 } from '@aws-sdk/client-s3'
import type { Context } from '../../model/context.ts'
import { AlreadyExists } from '../../model/store.ts'
import type { Connection } from './client.ts'
import { isAbsent, isRefused, isTaken, isUnknownThere, troubleOf } from './error.ts'
import type { PartDigests } from './part.ts'

/** An object on its way. */
export interface Upload {
  readonly connection: Connection
  /** The store's name, for warnings. */
  readonly store: string
  readonly key: string
  /** What the request that creates the object says about it: lock, tags, expiry, class, metadata. */
  readonly create: Omit<CreateMultipartUploadCommandInput, 'Bucket' | 'Key' | 'ChecksumAlgorithm'>
  /** Fails when the key is taken, where the server can tell. */
  readonly exclusive: boolean
  /** Stands in the object's metadata and nowhere else: says whether an object is the one of this upload. */
  readonly nonce: string
  readonly digests: PartDigests
  readonly fixedPartBytes?: number
  readonly sizeHint?: number
  /** What the server is known not to understand; shared by all uploads of a store. */
  readonly lacks: { conditions: boolean }
}

export interface Uploaded {
  readonly bytes: number
  readonly version: string | undefined
  readonly multipart: boolean
}

/** The name of the metadata that holds the nonce. */
export const nonceName = 'cairn-put'

export function address(to: Upload): { Bucket: string; Key: string } {
  return { Bucket: to.connection.bucket, Key: to.key }
}

/**
 * The request that makes the object visible, conditional on its absence. Returns the version.
 *
 * A server that does not know conditions is asked without, then and ever after: unique keys protect there. When an
 * answer was lost and the repeated request finds the key taken or the upload gone, the object may well be ours.
 */
export async function creating(
  to: Upload,
  ctx: Context,
  how: { silenceMs?: number },
  request: (
    s3: S3,
    options: { abortSignal: AbortSignal },
    condition: { IfNoneMatch?: '*' },
  ) => Promise<{ VersionId?: string | undefined }>,
): Promise<string | undefined> {
  const conditional = to.exclusive && !to.lacks.conditions
  let attempts = 0
  const send = (condition: { IfNoneMatch?: '*' }) =>
    to.connection.ask(
      (s3, options, attempt) => {
        attempts = attempt
        return request(s3, options, condition)
      },
      ctx,
      how,
    )
  try {
    return (await send(conditional ? { IfNoneMatch: '*' } : {})).VersionId
  } catch (error) {
    if (conditional && isUnknownThere(error)) {
      const { VersionId } = await send({})
      to.lacks.conditions = true
      return VersionId
    }
    const gone = troubleOf(error).code === 'NoSuchUpload'
    if (attempts > 1 && (gone || isTaken(error))) {
      const ours = await landed(to, ctx)
      if (ours) return ours.version
    }
    if (isTaken(error)) throw new AlreadyExists(`${to.key} is taken`)
    throw error
  }
}

/** Whether the object under the key is that of this upload; null if it is not. */
async function landed(to: Upload, ctx: Context): Promise<{ version: string | undefined } | null> {
  try {
    const head = await to.connection.ask((s3, options) => s3.headObject(address(to), options), ctx)
    return head.Metadata?.[nonceName] === to.nonce ? { version: head.VersionId } : null
  } catch (error) {
    if (isAbsent(error)) return null
    if (!isRefused(error)) throw error
    // Nobody else uses the key. To fail here would fail every upload that loses an answer without the right to read.
    ctx.emit({
      type: 'warning',
      what: `cannot tell whether ${to.key} arrived whole in ${to.connection.where}`,
      why: 'the answer was lost, a second request found it there, and the credentials may not read it',
      remedy: 'verify the backup with credentials that may read',
      store: to.store,
    })
    return { version: undefined }
  }
}
