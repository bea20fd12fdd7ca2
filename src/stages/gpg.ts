import * as z from 'zod'
import type { Context } from '../model/context.ts'
import { Failure, usage, wrongKey } from '../model/failure.ts'
import { Secret } from '../model/secret.ts'
import type { Bytes, Exit, Program, Stage, Step, Transform, Verdict } from '../model/step.ts'
import { flow } from '../platform/flow.ts'
import { describeExit } from '../platform/program.ts'
import { type SecretSource, secretOption } from '../platform/secret-source.ts'
import { peek } from './detect.ts'
import { type GpgIdentity, isForPassphrase, withAgent } from './gpg-identity.ts'
import { type Recipient, recipientOf } from './gpg-recipient.ts'

export const GpgOptions = z
  .strictObject({
    passphrase: secretOption
      .optional()
      .describe('encrypts and decrypts; a source of a secret: { env: NAME }, { file: PATH }'),
    recipients: z
      .array(secretOption)
      .min(1)
      .optional()
      .describe('public keys instead of a passphrase: each armored, the base64 of that, or { file: PATH }'),
    identity: secretOption
      .optional()
      .describe('the secret key for recipients, armored or { file: PATH }; only needed to read'),
    identityPassphrase: secretOption.optional().describe('the passphrase of that secret key, if it has one'),
    compressLevel: z.int().min(1).max(9).optional().meta({
      description:
        'lets gpg compress too, inside of what it encrypts: for readers that expect it so; slow, and with compression: none only',
      example: 1,
    }),
  })
  .refine(({ passphrase, recipients }) => !(passphrase && recipients), {
    message: 'say "passphrase" or "recipients", not both',
  })
export type GpgOptions = z.infer<typeof GpgOptions>

/** No configuration of the user's, no key ring, no agent, nothing written: the same wherever it runs. */
const alone = ['--no-options', '--batch', '--no-tty', '--quiet', '--no-permission-warning', '--no-autostart']
const nothingKept = ['--no-default-keyring', '--keyring', '/dev/null', '--no-random-seed-file']

/**
 * What every gpg and every other OpenPGP program since 2007 reads: RFC 4880 with AES-256 and a modification
 * detection code. It does not compress. The count is given because gpg would ask its agent for one.
 */
const format = [
  ...['--rfc4880', '--cipher-algo', 'AES256', '--compress-algo', 'none'],
  ...['--s2k-cipher-algo', 'AES256', '--s2k-digest-algo', 'SHA512', '--s2k-count', '65011712'],
]

/** Of two that contradict each other, gpg takes the later. */
function compressing(level: number | undefined): string[] {
  return level === undefined ? [] : ['--compress-algo', 'zlib', '--compress-level', String(level)]
}

const byPassphrase = ['--pinentry-mode', 'loopback', '--passphrase-fd', '3']

/**
 * OpenPGP by the `gpg` program, for writing: symmetric with a passphrase, or for public keys. Its `decode` throws exit 12.
 *
 * Throws a Failure with exit 2 when neither is configured, for a passphrase that gpg would not take as it is, and for a
 * key that must not be encrypted for: one that only signs, has expired, was revoked, or is several.
 */
export async function gpgWriter(options: GpgOptions, ctx: Context): Promise<Stage> {
  const stage = { name: 'gpg', suffix: '.gpg', encrypts: true, decode: () => decryption(noKeys) }
  if (options.passphrase) {
    const passphrase = await passphraseFrom(options.passphrase)
    return {
      ...stage,
      facts: { cipher: 'AES256', passphrase: true },
      encode: () => symmetric(passphrase, options.compressLevel),
      undo: 'gpg -q -d --batch --pinentry-mode loopback --passphrase-file KEY',
    }
  }
  const keys = await Promise.all((options.recipients ?? []).map(async source => armored(await source.read())))
  if (keys.length === 0)
    throw usage('cannot encrypt with gpg', 'no key is configured', 'set passphrase, or recipients')
  const recipients: Recipient[] = []
  for (const key of keys) recipients.push(await recipientOf(key, ctx))
  return {
    ...stage,
    facts: { cipher: 'AES256', recipients: recipients.map(({ fingerprint }) => fingerprint) },
    ...expiring(recipients, ctx.clock.now()),
    encode: () => asymmetric(keys, options.compressLevel),
    undo: '(GNUPGHOME=$(mktemp -d); export GNUPGHOME; gpg -q --batch --import KEY; gpg -q -d; gpgconf --kill all; rm -r "$GNUPGHOME")',
  }
}

/** How long before a key expires it is said. */
const noticeMs = 60 * 24 * 3_600_000

function expiring(recipients: readonly Recipient[], now: Date): Pick<Stage, 'warning'> {
  const soon = recipients.flatMap(({ fingerprint, expires }) =>
    expires && expires.getTime() - now.getTime() < noticeMs
      ? [`${fingerprint} on ${expires.toISOString().slice(0, 10)}`]
      : [],
  )
  if (soon.length === 0) return {}
  const remedy = 'extend it (gpg --quick-set-expire), export it anew, and give that; backups fail afterwards'
  return { warning: { what: 'a key of the gpg stage expires soon', why: soon.join(', '), remedy } }
}

/** The key itself, where it is the base64 of an armored one: so it fits into a variable. */
function armored(key: Secret): Secret {
  const text = key.reveal()
  if (!/^[A-Za-z0-9+/=\s]+$/.test(text)) return key
  const decoded = Buffer.from(text, 'base64').toString('latin1')
  return decoded.includes('-----BEGIN PGP ') ? new Secret(decoded) : key
}

/** Everything that may open what gpg has encrypted. */
export interface GpgKeys {
  readonly passphrases: readonly Secret[]
  readonly identities: readonly GpgIdentity[]
}

const noKeys: GpgKeys = { passphrases: [], identities: [] }

/** OpenPGP for reading. Its `encode` throws. Whether a passphrase or a secret key is needed, and which, the message tells. */
export function gpgReader(keys: GpgKeys): Stage {
  return {
    name: 'gpg',
    suffix: '.gpg',
    facts: {},
    encrypts: true,
    encode: () => {
      throw usage('cannot encrypt with gpg', 'it was opened for reading')
    },
    decode: () => decryption(keys),
    undo: 'gpg -d',
  }
}

/** The passphrase, which must be one line: gpg reads no more of it. */
async function passphraseFrom(source: SecretSource): Promise<Secret> {
  const passphrase = await source.read()
  if (/^[^\r\n\0]+$/.test(passphrase.reveal())) return passphrase
  throw usage(`cannot use the passphrase from ${source.where}`, 'it is empty, or more than one line')
}

function symmetric(passphrase: Secret, level: number | undefined): Program {
  const args = [...alone, ...nothingKept, ...byPassphrase, ...format, ...compressing(level), '--symmetric']
  return { program: 'gpg', args, secretFds: [passphrase], judge: judgeEncryption }
}

/** Public keys are no secrets; a file without a name is how a program is given them without a key ring. */
function asymmetric(keys: readonly Secret[], level: number | undefined): Program {
  const recipients = keys.flatMap((_, index) => ['--recipient-file', `/dev/fd/${3 + index}`])
  const how = [...alone, ...nothingKept, ...format, ...compressing(level)]
  const args = [...how, '--trust-model', 'always', ...recipients, '--encrypt']
  return { program: 'gpg', args, secretFds: keys, judge: judgeEncryption }
}

/** A passphrase alone needs no agent, so that the bytes stay in the kernel. */
function decryption(keys: GpgKeys): Step {
  const [passphrase, ...others] = keys.passphrases
  if (!passphrase && keys.identities.length === 0) throw doesNotFit('no passphrase and no key is configured')
  if (passphrase && others.length === 0 && keys.identities.length === 0) return decryptWith(passphrase)
  return { name: 'gpg', run: (input, ctx) => decryptWithAny(input, keys, ctx) }
}

function decryptWith(passphrase: Secret): Program {
  const args = [...alone, ...nothingKept, ...byPassphrase, '--status-fd', '2', '--decrypt']
  return { program: 'gpg', args, secretFds: [passphrase], judge: judgeDecryption }
}

async function* decryptWithAny(input: Bytes, keys: GpgKeys, ctx: Context) {
  const { head, whole } = await peek(input, trialBytes)
  try {
    if (isForPassphrase(head)) {
      const passphrase = await firstThatFits(head, keys.passphrases, ctx)
      return yield* flow(whole, [decryptWith(passphrase)], ctx)
    }
    if (keys.identities.length === 0) throw doesNotFit('it is encrypted for a key, and none is configured')
    yield* withAgent(keys.identities, ctx, (gpg, secretFds) => {
      const args = ['--status-fd', '2', '--decrypt']
      return flow(whole, [{ ...gpg(args), secretFds, judge: judgeDecryption }], ctx)
    })
  } finally {
    await whole.return()
  }
}

/** gpg reads whole blocks, its own are of 8 KiB; this many bytes hold some. */
const trialBytes = 128 * 1024

/**
 * gpg knows from the first bytes when a passphrase does not fit, but for one in 65,536: that one is taken only when no other opens
 * the message inside, which may be damaged.
 */
async function firstThatFits(head: Buffer, passphrases: readonly Secret[], ctx: Context): Promise<Secret> {
  let seeming: Secret | null = null
  for (const passphrase of passphrases) {
    let fits = true
    let opens = false
    const judge = (_: Exit, stderrTail: string): Verdict => {
      fits = !saysWrongKey(stderrTail)
      opens = /^\[GNUPG:\] PLAINTEXT /m.test(stderrTail)
      return null
    }
    const trial: Transform['run'] = input =>
      flow(input, [{ ...decryptWith(passphrase), endsEarly: true, judge }], ctx)
    for await (const _ of trial(only(head), ctx));
    if (fits && opens) return passphrase
    if (fits) seeming ??= passphrase
  }
  if (seeming) return seeming
  throw doesNotFit('no passphrase of the configuration fits')
}

async function* only(chunk: Uint8Array) {
  yield chunk
}

function judgeEncryption(exit: Exit, stderrTail: string): Verdict {
  if (exit.code === 0) return null
  const why = describeExit(exit, stderrTail)
  if (/unusable public key|skipped/i.test(stderrTail))
    return usage('cannot encrypt with gpg', why, 'check the recipients of the gpg stage')
  return new Failure({ what: 'gpg failed', why })
}

/**
 * gpg also exits with 0 for a message that was cut inside its header, and for one that is not encrypted at all: so it
 * must say that it decrypted, and that nothing was changed.
 */
function judgeDecryption(exit: Exit, stderrTail: string): Verdict {
  const says = (status: RegExp): boolean => status.test(stderrTail)
  const isAuthentic = says(/^\[GNUPG:\] GOODMDC/m) || says(/^\[GNUPG:\] DECRYPTION_INFO \d+ \d+ [1-9]/m)
  if (exit.code === 0 && says(/^\[GNUPG:\] DECRYPTION_OKAY/m) && isAuthentic) return null
  const words = stderrTail.split('\n').filter(line => !line.startsWith('[GNUPG:]'))
  if (stderrTail.includes(asksForPassphrase)) return isLocked()
  if (saysWrongKey(stderrTail)) return doesNotFit(describeExit(exit, words.join('\n')))
  if (exit.code === 0) return new Failure({ what: 'gpg failed', why: 'it is not a whole encrypted message' })
  return new Failure({ what: 'gpg failed', why: describeExit(exit, words.join('\n')) })
}

const asksForPassphrase = "batchmode - can't get input"

function isLocked(): Failure {
  const remedy = 'set identityPassphrase of the gpg stage in a configuration'
  return wrongKey('cannot decrypt', 'the secret key has a passphrase, and none is configured', remedy)
}

function saysWrongKey(stderrTail: string): boolean {
  return /BAD_PASSPHRASE|Bad session key|Bad passphrase|No secret key|No passphrase given/.test(stderrTail)
}

function doesNotFit(why: string): Failure {
  return wrongKey('cannot decrypt', why, 'give the passphrase or the secret key that the backup was made for')
}
