import type { S3 } from '@aws-sdk/client-s3'
import { type Failure, usage, wrongKey } from '../../model/failure.ts'
import type { Secret } from '../../model/secret.ts'
import { troubleOf } from './error.ts'

/** The requests that make, fill or read an object: each has to carry the key (Amazon S3 User Guide, "SSE-C"). */
const carriers = new Set([
  ...['PutObjectCommand', 'CreateMultipartUploadCommand', 'UploadPartCommand'],
  'CompleteMultipartUploadCommand',
  ...['GetObjectCommand', 'HeadObjectCommand'],
])

/**
 * What a refused read means where customers' keys are in play; null where it means something else. Servers say 400 when
 * the key is missing or of the wrong digest, and AWS says 403 to a key that is another one.
 */
export function keyTrouble(error: unknown, hasKey: boolean, what: string): Failure | null {
  const { status, message, code } = troubleOf(error)
  const isAboutKeys = /server.side encryption|customer|SSE/i.test(message)
  const refused = hasKey && ((status === 403 && code === 'AccessDenied') || status === 400)
  if (!refused && !(status === 400 && isAboutKeys)) return null
  const why = hasKey
    ? 'it was stored with another customerKey, or without one'
    : 'it was stored with a customerKey (SSE-C), and none is set'
  return wrongKey(what, why, 'set customerKey to the key it was stored with')
}

/** Has a client send a key of the customer's with every object: the server encrypts with it, and forgets it. */
export function sendCustomerKey(client: S3, key: Secret): void {
  const SSECustomerKey = key.reveal().trim()
  if (Buffer.from(SSECustomerKey, 'base64').length !== 32) {
    throw usage(
      'cannot use customerKey',
      'it is not the base64 of 32 bytes',
      'make one: head -c 32 /dev/urandom | base64',
    )
  }
  client.middlewareStack.add(
    (next, context) => args =>
      carriers.has(context.commandName ?? '')
        ? next({ ...args, input: { ...args.input, SSECustomerAlgorithm: 'AES256', SSECustomerKey } })
        : next(args),
    { step: 'initialize', priority: 'high', name: 'customerKey' },
  )
}
