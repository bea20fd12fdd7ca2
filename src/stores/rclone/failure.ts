import { Failure } from '../../model/failure.ts'
import { Forbidden, Transient } from '../../model/store.ts'

/** What rclone answered to a request that it could not carry out. */
export class RcloneError extends Error {
  override readonly name = 'RcloneError'
}

/** What rclone passes on of Azure is a page with the whole request and answer; this is the sentence in it. */
export function briefly(text: string): string {
  const request = /\b(?:GET|HEAD|PUT|POST|DELETE) https?:\/\/[^\s?]+/.exec(text)?.[0]
  const status = /RESPONSE (?:Status|\d+): (.+?) (?:ERROR CODE: |[A-Z][A-Za-z-]+: \[|-{20})/.exec(text)?.[1]
  const code = /(?:ERROR CODE: |ServiceCode=)(\w+)/.exec(text)?.[1]
  return request && status && code ? `${request}: ${status} (${code})` : text
}

/** rclone found nothing there: no object, no folder, or the other of the two. */
export function isAbsent(error: unknown): boolean {
  return (
    error instanceof RcloneError &&
    // Not "no such file": that is what a missing private key or certificate is told with, too.
    /object not found|directory not found|is a directory not a file|is a file not a directory|not a regular file|: not a directory$/i.test(
      error.message,
    )
  )
}

/** Nobody answers there. */
export function isUnreachable(error: RcloneError): boolean {
  return /connection refused|no such host|no route to host|network is unreachable|i\/o timeout/i.test(
    error.message,
  )
}

/** A connection that broke, a server that is too busy or starts again. A host that has no address is misspelt more often than away. */
function mayPass({ message }: RcloneError): boolean {
  return /connection (refused|reset)|connection lost|i\/o timeout|handshake timeout|no route to host|network is unreachable|closed network connection|broken pipe|\bEOF\b|too many requests|slow ?down|internal server error|bad gateway|service unavailable|gateway time-?out|\b(429|500|502|503|504)\b/i.test(
    message,
  )
}

/** The account may not do this, but is known: a write-only account is a good one. */
export function isRefused(error: unknown): boolean {
  return (
    error instanceof RcloneError &&
    /access ?denied|permission ?denied|forbidden|\b403\b|not authorized to perform|method not allowed|\b405\b/i.test(
      error.message,
    ) &&
    !/SignatureDoesNotMatch|InvalidAccessKeyId|AuthenticationFailed|AuthorizationFailure/i.test(error.message)
  )
}

/**
 * An upload after which rclone was refused a look at what it had written: it looks at the end of every one, and has no way to leave
 * that out but on S3. The words are those of Azure.
 */
export function isUnseen(error: unknown): boolean {
  return isRefused(error) && error instanceof Error && /\bHEAD https?:\/\//.test(error.message)
}

/** The first that matches what rclone said. */
const remedies: readonly (readonly [RegExp, string])[] = [
  [
    /didn't find section in config file|didn't find backend called/i,
    'see `rclone listremotes`, and which rclone.conf is read (the option "config", or RCLONE_CONFIG)',
  ],
  [
    /revealing password|reveal .*obscured|input too short when reveal|base64 decode failed/i,
    'rclone wants passwords obscured: write what `rclone obscure` makes of it',
  ],
  [
    /knownhosts|host key/i,
    "add the server's key to the known_hosts file once you have checked it (`ssh-keyscan`)",
  ],
  [
    /unable to authenticate|\b401\b|unauthori[sz]ed|InvalidAccessKeyId|SignatureDoesNotMatch|AuthenticationFailed|AuthorizationFailure|invalid_grant|login incorrect|couldn't fetch token/i,
    'check user, password and key of the remote; `rclone config reconnect` renews a token',
  ],
  [
    /config.*(password|encrypted)|unable to decrypt configuration/i,
    'the rclone.conf is encrypted: set RCLONE_CONFIG_PASS or RCLONE_PASSWORD_COMMAND',
  ],
  [
    /LoadCustomCABundleError/i,
    'rclone before 1.70 fails when AWS_CA_BUNDLE is set: use a newer one, or RCLONE_CA_CERT',
  ],
  [/no such host|server misbehaving|lookup /i, "check the remote's host name"],
  [
    /connection refused|i\/o timeout|no route to host|network is unreachable|connection reset|closed network connection|broken pipe|EOF$|handshake/i,
    'check that the server runs and can be reached from here',
  ],
  [/no space left|quota|insufficient storage|\b507\b/i, 'make room in the remote'],
  [
    /access ?denied|permission ?denied|forbidden|\b403\b/i,
    'give the account of the remote the right to do this there',
  ],
]

/**
 * What a person should read of an error that came out of rclone. Failures are passed on as they are. `once`: of what rclone cannot
 * try again itself, which is Transient where it may pass: in a message with the numbers and words of both, a name may hold those of a
 * refusal. What the account may not do is Forbidden.
 */
export function asRcloneFailure(error: unknown, what: string, once = false): unknown {
  if (!(error instanceof RcloneError)) return error
  const [, remedy = 'try the same with rclone itself'] =
    remedies.find(([said]) => said.test(error.message)) ?? []
  const kind = once && mayPass(error) ? Transient : isRefused(error) ? Forbidden : Failure
  return new kind({ what, why: error.message, remedy, cause: error })
}
