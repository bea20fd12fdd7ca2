import type { Decrypter, Encrypter } from 'age-encryption'
import type { Context } from '../model/context.ts'
import { Failure, usage, wrongKey } from '../model/failure.ts'
import type { Secret } from '../model/secret.ts'
import type { Bytes, Transform } from '../model/step.ts'
import { identityLines } from './age-keys.ts'

// age without its program, by npm's age-encryption: X25519 keys and passphrases only, and slow.

/** Far more than any header has, so that a file that only begins like one does not fill the memory. */
const headerBytes = 16 * 1024 * 1024

/** 64 MiB and a fifth of a second for each guess; age's own 18 would take four times as much of ours, too. */
const scryptWorkFactor = 16

type For = { readonly recipients: readonly string[] } | { readonly passphrase: Secret }
type With = { readonly identities: readonly Secret[] } | { readonly passphrases: readonly Secret[] }

/** Encrypts for X25519 recipients, or a passphrase. Throws a Failure for a malformed one, before it reads anything. */
export function encryptTransform(whom: For): Transform {
  return { name: 'age', run: (input, ctx) => encrypt(input, whom, ctx) }
}

/**
 * Decrypts with native identities, or passphrases. Throws `wrongKey` when none of them fits; any other Failure means that the bytes
 * are not a whole age file. What was already handed out is right nevertheless: age authenticates each chunk.
 */
export function decryptTransform(keys: With): Transform {
  return { name: 'age', run: (input, ctx) => decrypt(input, keys, ctx) }
}

/** A new X25519 key pair. */
export async function generateKeyPair(): Promise<{ recipient: string; identity: string }> {
  const { generateX25519Identity, identityToRecipient } = await import('age-encryption')
  const identity = await generateX25519Identity()
  return { recipient: await identityToRecipient(identity), identity }
}

async function* encrypt(input: Bytes, whom: For, ctx: Context) {
  const { Encrypter } = await import('age-encryption')
  const source = new Source(input, ctx.signal)
  try {
    const encrypter = new Encrypter()
    if ('recipients' in whom) for (const recipient of whom.recipients) addRecipient(encrypter, recipient)
    else setPassphrase(encrypter, whom.passphrase)
    source.limit = Number.POSITIVE_INFINITY
    yield* await encrypter.encrypt(source.stream())
  } catch (error) {
    throw source.failure?.error ?? failed(error)
  } finally {
    await source.close()
  }
}

async function* decrypt(input: Bytes, keys: With, ctx: Context) {
  const { Decrypter } = await import('age-encryption')
  const source = new Source(input, ctx.signal)
  try {
    const decrypter = new Decrypter()
    if ('passphrases' in keys) for (const each of keys.passphrases) decrypter.addPassphrase(each.reveal())
    else
      for (const key of keys.identities)
        for (const line of identityLines(key.reveal())) addIdentity(decrypter, line)
    const plain = await decrypter.decrypt(source.stream())
    source.limit = Number.POSITIVE_INFINITY
    yield* plain
  } catch (error) {
    throw source.failure?.error ?? failed(error)
  } finally {
    await source.close()
  }
}

function setPassphrase(encrypter: Encrypter, passphrase: Secret): void {
  encrypter.setScryptWorkFactor(scryptWorkFactor)
  encrypter.setPassphrase(passphrase.reveal())
}

function addRecipient(encrypter: Encrypter, recipient: string): void {
  try {
    encrypter.addRecipient(recipient)
  } catch (error) {
    throw usage('cannot encrypt', (error as Error).message, 'check the recipients of the age stage')
  }
}

function addIdentity(decrypter: Decrypter, identity: string): void {
  try {
    decrypter.addIdentity(identity)
  } catch {
    // What the library throws quotes the key.
    throw wrongKey('cannot decrypt', 'the identity is mistyped', 'compare it with the original')
  }
}

/** Bytes as a stream of the Web that is read only as fast as it is asked. */
class Source {
  /** More than this may not be read yet. */
  limit = headerBytes
  /** What the input itself threw, or the reason of an abort: then the library is not to blame. */
  failure: { readonly error: unknown } | null = null
  readonly #chunks: AsyncIterator<Uint8Array>
  readonly #signal: AbortSignal
  #read = 0

  constructor(input: Bytes, signal: AbortSignal) {
    this.#signal = signal
    this.#chunks = input[Symbol.asyncIterator]()
  }

  stream(): ReadableStream<Uint8Array> {
    const pull = async (to: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
      if (this.#read > this.limit) throw new Error('invalid header: it does not end')
      const next = await this.#next()
      if (next.done) return to.close()
      this.#read += next.value.length
      to.enqueue(next.value)
    }
    return new ReadableStream({ pull }, { highWaterMark: 0 })
  }

  /** The library leaves its input open when it fails, so we return it ourselves. */
  async close(): Promise<void> {
    await this.#chunks.return?.()
  }

  async #next(): Promise<IteratorResult<Uint8Array>> {
    try {
      this.#signal.throwIfAborted()
      return await this.#chunks.next()
    } catch (error) {
      this.failure = { error }
      throw error
    }
  }
}

function failed(error: unknown): Failure {
  if (error instanceof Failure) return error
  const why = error instanceof Error ? error.message : String(error)
  if (/no identity matched/.test(why)) return noMatch()
  return new Failure({ what: 'age failed', why, cause: error })
}

/** The same words whoever has decrypted. A changed header may look like this too; the stored digest tells. */
export function noMatch(): Failure {
  const remedy =
    'give the identity of one of the recipients, or the passphrase, that the backup was made for: --identity FILE'
  return wrongKey('cannot decrypt', 'it is encrypted for other keys than the configured identity', remedy)
}
