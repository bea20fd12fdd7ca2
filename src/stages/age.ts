import { readFile, stat } from 'node:fs/promises'
import { isAbsolute, resolve } from 'node:path'
import { cwd } from 'node:process'
import * as z from 'zod'
import { asFailure, Failure, usage, wrongKey } from '../model/failure.ts'
import { Secret } from '../model/secret.ts'
import type { Exit, Program, Stage, Step, Verdict } from '../model/step.ts'
import { describeExit, findProgram } from '../platform/program.ts'
import { type SecretSource, secretOption } from '../platform/secret-source.ts'
import {
  identityProblem,
  isNativeIdentity,
  legibleIdentity,
  recipientKind,
  recipientLines,
  recipientName,
  recipientProblem,
} from './age-keys.ts'
import { decryptTransform, encryptTransform, generateKeyPair, noMatch } from './age-library.ts'

/** The recipient of age's own documentation. */
export const exampleRecipient = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'

export const AgeOptions = z
  .strictObject({
    recipients: z
      .array(z.string().trim())
      .default([])
      .meta({ description: 'public keys: age1…, ssh-ed25519 …, ssh-rsa …', example: [exampleRecipient] }),
    recipientsFile: z.string().min(1).optional().describe('a file with more of them, one on each line'),
    skipOtherKeys: z
      .boolean()
      .default(false)
      .describe(
        'SSH keys in recipientsFile that age cannot encrypt for (ecdsa, dss) are passed over, with a warning',
      ),
    identity: z
      .union([secretOption, z.array(secretOption).min(1)])
      .transform((from): readonly SecretSource[] => (Array.isArray(from) ? from : [from]))
      .optional()
      .describe('the secret key, or several; only needed to read, so a host that only writes has none'),
    passphrase: secretOption
      .optional()
      .describe(
        'encrypts and decrypts, instead of recipients; slower, because the age program asks for it on a terminal only',
      ),
    plugins: z.boolean().default(false).describe('lets age run age-plugin-* programs from PATH'),
  })
  .superRefine(({ recipients, recipientsFile, passphrase, plugins }, ctx) => {
    if (passphrase && (recipients.length > 0 || recipientsFile !== undefined))
      ctx.addIssue({ code: 'custom', message: 'say "passphrase" or "recipients", not both' })
    for (const [index, recipient] of recipients.entries()) {
      const problem = recipientProblem(recipient, plugins)
      if (problem)
        ctx.addIssue({
          code: 'custom',
          path: ['recipients', index],
          message: `${problem.message}; ${problem.remedy}`,
        })
    }
  })
export type AgeOptions = z.infer<typeof AgeOptions>

interface Identity {
  readonly secret: Secret
  /** Where age itself may read it. */
  readonly path: string | null
}

/**
 * age (age-encryption.org/v1), for public keys. The `age` program does the work; without it npm's age-encryption
 * does, which is slow and knows age1 keys only. Each reads what the other wrote.
 *
 * The identity is read only when `reading`; otherwise `decode` throws exit 12, and so it does when none is configured.
 * When reading, recipients that cannot be used are not an error until `encode` is called, so that a backup can be read
 * on a machine that has nothing but the identity. Throws a Failure with exit 2 for recipients or secrets that cannot be
 * used or found, with exit 12 for an identity that cannot be used without a person.
 */
export async function ageStage(
  options: AgeOptions,
  o: { readonly reading: boolean; readonly implementation?: 'program' | 'library' },
): Promise<Stage> {
  const skipped: string[] = []
  const byProgram = (o.implementation ?? (findProgram('age') ? 'program' : 'library')) === 'program'
  const recipients = await readRecipients(options, skipped).catch((error: unknown) => {
    if (!o.reading) throw error
    return asFailure(error, 'cannot encrypt')
  })
  const identities = o.reading ? await readIdentities(options) : []
  return {
    name: 'age',
    suffix: '.age',
    facts: { recipients: recipients instanceof Failure ? [] : recipients.map(recipientName) },
    encrypts: true,
    ...(skipped.length > 0 ? { warning: passedOver(skipped) } : {}),
    encode: () => {
      if (recipients instanceof Failure) throw recipients
      return byProgram ? encryptProgram(recipients) : encryptWithoutProgram(recipients)
    },
    decode: () => {
      if (identities.length === 0) throw noIdentity()
      return byProgram ? decryptProgram(identities) : decryptWithoutProgram(identities)
    },
    undo: 'age -d -i KEY',
  }
}

/**
 * age for a passphrase (scrypt), by npm's age-encryption in this process: the age program asks for passphrases on a
 * terminal only. When reading, any of them may be the right one. Takes 64 MiB for a moment.
 */
export function agePassphraseStage(passphrases: readonly Secret[]): Stage {
  const [first] = passphrases
  const missing = (): Failure =>
    wrongKey(
      'cannot decrypt',
      'no passphrase is configured',
      'set passphrase: { file: PATH } of the age stage',
    )
  return {
    name: 'age',
    suffix: '.age',
    facts: { passphrase: true },
    encrypts: true,
    encode: () => {
      if (!first) throw missing()
      return encryptTransform({ passphrase: first })
    },
    decode: () => {
      if (!first) throw missing()
      return decryptTransform({ passphrases })
    },
    undo: 'age -d',
  }
}

/** A new key pair, for those who have none yet. The identity is the only thing that will ever open their backups. */
export async function generateIdentity(): Promise<{ recipient: string; identity: Secret }> {
  const { recipient, identity } = await generateKeyPair()
  return { recipient, identity: new Secret(identity) }
}

/** Recipients that were passed over are added to `skipped`. */
async function readRecipients(
  { recipients, recipientsFile, skipOtherKeys, plugins }: AgeOptions,
  skipped: string[],
): Promise<string[]> {
  const lines = recipientsFile ? await linesOf(recipientsFile) : []
  const others = skipOtherKeys ? lines.filter(line => /^(ecdsa-|ssh-dss|sk-)/.test(line)) : []
  skipped.push(...others)
  const all = [...recipients, ...lines.filter(line => !others.includes(line))]
  if (all.length === 0) throw noRecipient(recipientsFile, others)
  for (const recipient of all) {
    const problem = recipientProblem(recipient, plugins)
    if (problem) throw problem
  }
  return all
}

function noRecipient(file: string | undefined, skipped: readonly string[]): Failure {
  if (file === undefined)
    return usage('cannot encrypt', 'no recipient is configured', 'add a public key to recipients')
  const why = skipped.length > 0 ? `age cannot encrypt for ${kindsOf(skipped)}` : 'no public key stands in it'
  return usage(`cannot encrypt for the keys in ${file}`, why, 'add an ssh-ed25519 or age1 key to it')
}

function kindsOf(keys: readonly string[]): string {
  return [...new Set(keys.map(line => line.split(' ')[0]))].join(', ')
}

function passedOver(skipped: readonly string[]): NonNullable<Stage['warning']> {
  return {
    what: `${skipped.length} keys of the recipients file were passed over`,
    why: `age cannot encrypt for ${kindsOf(skipped)}`,
    remedy: 'who has only these cannot read the backup: use ssh-ed25519 or age1 keys',
  }
}

async function linesOf(recipientsFile: string): Promise<string[]> {
  try {
    return recipientLines(await readFile(recipientsFile, 'utf8'))
  } catch (error) {
    const isAbsent = (error as NodeJS.ErrnoException).code === 'ENOENT'
    throw usage(
      `cannot read the recipients file ${recipientsFile}`,
      isAbsent
        ? `there is no such file${isAbsolute(recipientsFile) ? '' : ` in ${cwd()}`}`
        : (error as Error).message,
      'write its whole path; `age-keygen -y KEY > FILE` makes one',
    )
  }
}

async function readIdentities({ identity = [], plugins }: AgeOptions): Promise<Identity[]> {
  const identities: Identity[] = []
  for (const source of identity) {
    const found = (await source.read()).reveal()
    const text = legibleIdentity(found)
    const problem = identityProblem(text, source.where, plugins)
    if (problem) throw problem
    const asItIs = source.file !== undefined && text === found
    identities.push({ secret: new Secret(text), path: asItIs ? await pathOf(source.file) : null })
  }
  return identities
}

/** The absolute path of a file that can be read again; null for a pipe, whose content is gone by now. */
async function pathOf(file: string): Promise<string | null> {
  return (await stat(file)).isFile() ? resolve(file) : null
}

function noIdentity(): Failure {
  return wrongKey(
    'cannot decrypt',
    'no identity is configured',
    'give the key file with --identity FILE, or set identity: { file: PATH } of the age stage',
  )
}

/** Recipients are public and may stand in argv; they begin with a word that is no option. */
function encryptProgram(recipients: readonly string[]): Program {
  return { program: 'age', args: recipients.flatMap(r => ['-r', r]), judge: judgeEncryption }
}

function encryptWithoutProgram(recipients: readonly string[]): Step {
  const other = recipients.find(recipient => recipientKind(recipient) !== 'x25519')
  if (other === undefined) return encryptTransform({ recipients })
  throw usage(
    `cannot encrypt for '${other.slice(0, 24)}…'`,
    'without the age program only age1… recipients can be used',
    'install age',
  )
}

/** An identity that is a file is not copied: it may lie in memory only, and the copy would not. */
function decryptProgram(identities: readonly Identity[]): Program {
  const copied = identities.filter(identity => identity.path === null)
  const args = identities.flatMap(identity => [
    '-i',
    identity.path ?? `/dev/fd/${3 + copied.indexOf(identity)}`,
  ])
  return {
    program: 'age',
    args: ['-d', ...args],
    secretFds: copied.map(i => i.secret),
    judge: judgeDecryption,
  }
}

function decryptWithoutProgram(identities: readonly Identity[]): Step {
  if (identities.every(({ secret }) => isNativeIdentity(secret.reveal())))
    return decryptTransform({ identities: identities.map(({ secret }) => secret) })
  const why = 'without the age program only AGE-SECRET-KEY-1… identities can be used'
  throw usage('cannot decrypt', why, 'install age')
}

const retype = 'a character of the key is not the right one: compare it with the original'

function judgeEncryption(exit: Exit, stderrTail: string): Verdict {
  if (exit.code === 0) return null
  const why = describeExit(exit, withoutHints(stderrTail))
  if (/recipient|RSA key size/.test(stderrTail))
    return usage('cannot encrypt', why, 'check the recipients of the age stage')
  return new Failure({ what: 'age failed', why })
}

function judgeDecryption(exit: Exit, stderrTail: string): Verdict {
  if (exit.code === 0) return null
  // The second wording is that of age 1.3 with a single identity.
  if (/no identity matched|identity did not match/.test(stderrTail)) return noMatch()
  const why = describeExit(exit, withoutHints(stderrTail))
  if (/reading ".*":|passphrase/.test(stderrTail))
    return wrongKey(
      'cannot decrypt',
      why,
      /checksum/.test(why) ? retype : 'check the identity of the age stage',
    )
  return new Failure({ what: 'age failed', why })
}

/** What age says beside the error is meant for people who type `age` themselves. */
function withoutHints(stderrTail: string): string {
  const lines = stderrTail.split('\n').filter(line => !/^age: (hint|report unexpected)/.test(line))
  return lines.map(line => line.replace(/^age: error: /, '')).join('\n')
}
