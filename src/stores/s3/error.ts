import { Failure } from '../../model/failure.ts'
import { mask, type Secret } from '../../model/secret.ts'
import { AlreadyExists, Forbidden, NotFound, Transient } from '../../model/store.ts'

/** What can be told from a thrown thing: S3's or Node's code for it, the HTTP status (0: no answer), the words. */
export interface Trouble {
  readonly code: string
  readonly status: number
  readonly message: string
}

interface Thrown {
  readonly name?: string
  readonly code?: unknown
  readonly Code?: unknown
  readonly message?: string
  readonly $metadata?: { readonly httpStatusCode?: number }
  readonly $response?: { readonly statusCode?: number }
}

export function troubleOf(error: unknown): Trouble {
  if (!(error instanceof Error)) return { code: '', status: 0, message: String(error) }
  const e: Thrown = error
  const status = e.$metadata?.httpStatusCode ?? e.$response?.statusCode ?? 0
  const code = [e.code, e.Code, e.name].find(each => typeof each === 'string') as string | undefined
  // The SDK's word for an answer that has none.
  const message = e.message === 'UnknownError' ? '' : (e.message ?? '').replaceAll(/\s+/g, ' ').trim()
  return { code: code ?? '', status, message }
}

/** The credentials are good and lack the right. A HEAD is refused without a code, for it has no body. */
export function isRefused(error: unknown): boolean {
  const { code, status } = troubleOf(error)
  return status === 403 && (code === 'AccessDenied' || reasons[code] === undefined)
}

export function isAbsent(error: unknown): boolean {
  const { code, status } = troubleOf(error)
  return status === 404 && ['NoSuchKey', 'NotFound', 'NoSuchVersion', 'UnknownError', '404'].includes(code)
}

/** A conditional write found the key taken. */
export function isTaken(error: unknown): boolean {
  const { code, status } = troubleOf(error)
  return code === 'PreconditionFailed' || status === 412
}

/** The server does not know the request, or a header of it. */
export function isUnknownThere(error: unknown): boolean {
  const { code, status } = troubleOf(error)
  return status === 501 || status === 405 || code === 'NotImplemented' || code === 'MethodNotAllowed'
}

/** Error Responses, "List of error codes"; and what proxies and Node say. */
const passingCodes = new Set([
  ...['SlowDown', 'Throttling', 'ThrottlingException', 'RequestLimitExceeded', 'TooManyRequests', 'Busy'],
  ...['InternalError', 'ServiceUnavailable', 'RequestTimeout', 'TimeoutError', 'IncompleteBody'],
  ...['ECONNRESET', 'ECONNREFUSED', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN'],
  ...['ECONNABORTED', 'ENETDOWN', 'HPE_INVALID_CONSTANT', 'UND_ERR_SOCKET'],
  // The SDK has learned the server's time from the refusal: the next request is dated by it.
  'RequestTimeTooSkewed',
  // Two conditional writes at once; one of them will be told that the key is taken.
  'ConditionalRequestConflict',
])

/** May pass by itself. */
export function isPassing(error: unknown): boolean {
  const { code, status } = troubleOf(error)
  return passingCodes.has(code) || status === 429 || (status >= 500 && status !== 501 && status !== 505)
}

/** The server said nothing for too long. By the code: the SDK gives the name TimeoutError to broken connections too. */
export function isSilence(error: unknown): boolean {
  return ['TimeoutError', 'ETIMEDOUT'].includes(troubleOf(error).code)
}

/** The server calls the request itself bad: it says what of it, if it says so at all, in words of its own. */
export class BadRequest extends Failure {}

/** What an error is about, for its message. */
export interface Doing {
  /** `cannot write app/1` */
  readonly what: string
  /** `s3://bucket at host` */
  readonly where: string
  readonly secrets: Iterable<Secret>
  /** A lock was asked for: some servers refuse it without a word. */
  readonly lock?: boolean
}

/**
 * An error of the SDK as one that a person can act on. NotFound and AlreadyExists keep their meaning; what may
 * pass is Transient, what the credentials lack the right to is Forbidden. The SDK's own error is not kept as the cause: it holds the request, session token included.
 */
export function explained(error: unknown, doing: Doing): Error {
  if (error instanceof Failure || error instanceof AlreadyExists || error instanceof NotFound) return error
  const trouble = troubleOf(error)
  const what = `${doing.what} in ${doing.where}`
  const [known, remedy] = doing.lock && isMute(trouble) ? noLock : reason(trouble)
  const said = [trouble.code, trouble.status && `HTTP ${trouble.status}`, trouble.message].filter(Boolean)
  const why = mask(known ? `${known} (${said.join(', ')})` : said.join(', '), doing.secrets)
  if (isPassing(error)) return new Transient({ what, why, remedy })
  if (isRefused(error)) return new Forbidden({ what, why, remedy })
  return trouble.status === 400 ? new BadRequest({ what, why, remedy }) : new Failure({ what, why, remedy })
}

function isMute({ code, status, message }: Trouble): boolean {
  return code === 'InvalidRequest' && status === 400 && message === ''
}

type Reason = readonly [why: string, remedy: string]

const otherRegion: Reason = ['the bucket is in another region', "set `region` to the bucket's region"]
const noLock: Reason = [
  'the bucket has no Object Lock',
  'use a bucket made with Object Lock, or ask for no lock',
]
const expired: Reason = ['the session token has expired', 'get new credentials']
const noToken: Reason = ['the session token is not valid', 'get new credentials, or remove `sessionToken`']
const noHost: Reason = ['there is no such host', 'check `endpoint`, and the DNS of this machine']
const noCredentials: Reason = [
  'no credentials were found',
  "set `accessKeyId` and `secretAccessKey`, or give AWS's chain something to find (environment, profile, role)",
]
const denied: Reason = [
  'the credentials do not permit it',
  'allow it in the policy of the user or of the bucket',
]
const noTls: Reason = [
  'the server does not speak TLS there',
  'check whether `endpoint` should begin with http://',
]
const untrusted: Reason = [
  'the certificate of the server is not trusted',
  'set `caFile` to the certificate of the authority that signed it',
]

/** Error Responses, "List of error codes", of the S3 API reference; Node's for what never reached a server. */
const reasons: Readonly<Record<string, Reason>> = {
  NoSuchBucket: ['there is no such bucket', 'create it, or correct `bucket` or `endpoint`'],
  InvalidBucketName: ['no bucket can have this name', 'correct `bucket`'],
  InvalidAccessKeyId: ['the access key is not known there', 'check `accessKeyId` and `endpoint`'],
  SignatureDoesNotMatch: ['the secret key does not belong to the access key', 'check `secretAccessKey`'],
  ExpiredToken: expired,
  TokenRefreshRequired: expired,
  InvalidToken: noToken,
  RequestTimeTooSkewed: [
    'the clock of this machine or of the server is wrong',
    'set the clocks, best by NTP',
  ],
  AccessDenied: denied,
  AuthorizationHeaderMalformed: otherRegion,
  PermanentRedirect: otherRegion,
  IllegalLocationConstraintException: otherRegion,
  InvalidRegionName: otherRegion,
  NotImplemented: [
    'the server does not know this request',
    'leave out what it does not offer (lock, tags, class)',
  ],
  ObjectLockConfigurationNotFoundError: [
    'the bucket has no Object Lock',
    'use a bucket made with Object Lock',
  ],
  InvalidObjectState: [
    'the object lies in an archive',
    'have it brought back first: aws s3api restore-object',
  ],
  QuotaExceeded: ['the quota is used up', 'make room there, or raise the quota'],
  InvalidStorageClass: ['the server does not know the storage class', 'correct `storageClass`'],
  NoSuchUpload: ['the upload was aborted by somebody else', 'let nobody abort uploads that are under way'],
  CredentialsProviderError: noCredentials,
  AccessControlListNotSupported: ['the bucket refuses ACLs', ''],
  ENOTFOUND: noHost,
  EAI_AGAIN: noHost,
  ECONNREFUSED: ['nobody answers at that address', 'check `endpoint`, and whether the server runs'],
  ECONNRESET: ['the connection broke', 'look at the network and at the server'],
  EPIPE: ['the connection broke', 'look at the network and at the server'],
  EHOSTUNREACH: ['there is no way to that host', 'look at the network'],
  ENETUNREACH: ['there is no way to that network', 'look at the network'],
  TimeoutError: ['the server did not answer in time', 'see whether `endpoint` is right and the server well'],
  ETIMEDOUT: ['the server did not answer in time', 'see whether `endpoint` is right and the server well'],
  SlowDown: ['the server is too busy', ''],
  EPROTO: noTls,
  HPE_INVALID_CONSTANT: ['what answers there does not speak HTTP', 'check `endpoint`'],
  DEPTH_ZERO_SELF_SIGNED_CERT: untrusted,
  SELF_SIGNED_CERT_IN_CHAIN: untrusted,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: untrusted,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: untrusted,
  CERT_HAS_EXPIRED: ['the certificate of the server has expired', 'have it renewed'],
  ERR_TLS_CERT_ALTNAME_INVALID: ['the certificate is for another host', 'check `endpoint`'],
}

function reason({ code, status, message }: Trouble): Reason {
  if (/Region is missing/.test(message)) return ['no region was found', 'set `region`']
  if (/Could not load credentials/.test(message)) return noCredentials
  const known = reasons[code]
  if (known) return known
  if (/object lock/i.test(message)) return noLock
  if (code.startsWith('ERR_SSL')) return noTls
  if (status === 301 || status === 307) return otherRegion
  if (status === 403) return denied
  if (status >= 500) return ['the server failed', 'look at its log, or try again later']
  return ['', status === 0 ? '' : 'see whether `endpoint` is an S3 server, and look at its log']
}
