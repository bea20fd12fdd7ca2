import { asFailure, Failure } from '../model/failure.ts'
import type { ArtifactRecord } from '../model/manifest.ts'
import { Secret } from '../model/secret.ts'
import { typedArmor, typedLine, withoutUnseen } from '../model/typed.ts'
import { type SecretSource, secretSource } from '../platform/secret-source.ts'
import { identityProblem, looksLikeIdentity } from './age-keys.ts'
import type { GpgKeys } from './gpg.ts'
import type { Encryption } from './options.ts'

/** What opens an artifact: each stage that encrypts needs one of these. */
export type Lock = 'age identity' | 'age passphrase' | 'gpg passphrase' | 'gpg identity' | 'aespipe key file'

/** All keys for reading that a host has, those of the given file first. */
export interface Keys {
  readonly of: Readonly<Record<Lock, readonly SecretSource[]>>
  /** What opens the secret keys of gpg that have a passphrase. */
  readonly gpgOpener: SecretSource | undefined
  /** Why the given file is no identity of age's, when it is none. */
  readonly notAnIdentity: Failure | null
  /** Keys of the configuration that cannot be read, and why; they are not among the others. */
  readonly unread: readonly { readonly lock: Lock; readonly failure: Failure }[]
}

/** What a stage of a manifest needs to be undone; null when it needs nothing. */
export function lockOf(entry: ArtifactRecord['stages'][number]): Lock | null {
  if (entry.name === 'age') return entry.passphrase === true ? 'age passphrase' : 'age identity'
  if (entry.name === 'gpg') return entry.passphrase === true ? 'gpg passphrase' : 'gpg identity'
  return entry.name === 'aespipe' ? 'aespipe key file' : null
}

/**
 * The keys of the configuration and that of a file. The file holds an age identity or an SSH key, an armored OpenPGP
 * secret key, or something else, which is then a passphrase or a key file of aespipe's: the stage of the artifact
 * tells. Throws a Failure when the file cannot be read; keys of the configuration that cannot be are told in `unread`.
 */
export async function keysFrom(
  file: string | undefined,
  configured: readonly (Encryption | undefined)[],
): Promise<Keys> {
  const options = configured.flatMap(each => (each === undefined || each === 'none' ? [] : [each]))
  const given = file === undefined ? null : secretSource({ file })
  const text = given ? (await given.read()).reveal() : ''
  const kind = kindOf(text)
  const as = (...kinds: (typeof kind)[]): SecretSource[] => (given && kinds.includes(kind) ? [given] : [])
  const typed = given && kind !== 'age' && kind !== 'OpenPGP' ? typedLine(text) : null
  const passphrases = [...as('line'), ...(given && typed !== null ? [insteadOf(given, typed)] : [])]
  const secretKey = as('OpenPGP').map(source => insteadOf(source, typedArmor(text)))
  const keyFile = (path: string): SecretSource => secretSource({ file: path })
  const unread: Keys['unread'][number][] = []
  const said = async (lock: Lock, pick: (from: Options) => Said): Promise<SecretSource[]> => {
    const tried = options.flatMap(pick).flatMap(source => (source ? readOnce(source) : []))
    return (await Promise.all(tried)).flatMap(each => {
      if (!(each instanceof Failure)) return each
      unread.push({ lock, failure: each })
      return []
    })
  }
  return {
    unread,
    of: {
      'age identity': [...as('age'), ...(await said('age identity', ({ age }) => age?.identity))],
      'age passphrase': [...passphrases, ...(await said('age passphrase', ({ age }) => age?.passphrase))],
      'gpg passphrase': [...passphrases, ...(await said('gpg passphrase', ({ gpg }) => gpg?.passphrase))],
      'gpg identity': [...secretKey, ...(await said('gpg identity', ({ gpg }) => gpg?.identity))],
      'aespipe key file': [
        ...as('line', 'lines'),
        ...options.flatMap(({ aespipe }) => (aespipe ? keyFile(aespipe.keyFile) : [])),
      ],
    },
    gpgOpener: (await said('gpg identity', ({ gpg }) => gpg?.identityPassphrase))[0],
    notAnIdentity: given && kind !== 'age' ? identityProblem(text, given.where, false) : null,
  }
}

type Options = Exclude<Encryption, 'none'>
type Said = SecretSource | readonly SecretSource[] | undefined

/** What is in the file, as it must be meant. */
function insteadOf(given: SecretSource, text: string): SecretSource {
  return { ...given, read: async () => new Secret(text) }
}

/** The same source, read; or why it cannot be. */
async function readOnce(source: SecretSource): Promise<SecretSource | Failure> {
  try {
    const secret = await source.read()
    return { ...source, read: async () => secret }
  } catch (error) {
    return asFailure(error, `cannot read a secret from ${source.where}`)
  }
}

function kindOf(text: string): 'age' | 'OpenPGP' | 'line' | 'lines' {
  if (withoutUnseen(text).includes('-----BEGIN PGP PRIVATE KEY BLOCK-----')) return 'OpenPGP'
  if (looksLikeIdentity(text)) return 'age'
  return /^[^\r\n]*$/.test(text) ? 'line' : 'lines'
}

/** The keys of gpg's, read. A passphrase must be one line, because gpg reads no more of it. */
export async function gpgKeys(keys: Keys): Promise<GpgKeys> {
  const passphrase = keys.gpgOpener ? await keys.gpgOpener.read() : null
  const identities = await readAll(keys.of['gpg identity'])
  return {
    passphrases: await readAll(keys.of['gpg passphrase']),
    identities: identities.map(key => ({ key, passphrase })),
  }
}

export function readAll(sources: readonly SecretSource[]): Promise<Secret[]> {
  return Promise.all(sources.map(source => source.read()))
}
