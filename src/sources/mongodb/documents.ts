import { damage } from '../../model/failure.ts'
import type { Bytes } from '../../model/step.ts'

/** An empty document: its own length and a NUL. */
const smallest = 5

/** 16 MiB, and what a server adds to its own documents (MongoDB source, BSONObjMaxInternalSize). */
const largest = 16 * 1024 * 1024 + 16 * 1024

/** How many documents a run has at the most: a server takes 100,000 in one message. */
const most = 50_000

/** What stands in an archive where no document can begin: a length of -1. */
export const terminator = Uint8Array.of(0xff, 0xff, 0xff, 0xff)

/** Whole documents, one after another, as they lie in the stream. */
export interface Run {
  readonly bytes: Uint8Array
  readonly count: number
}

/**
 * Cuts a stream into whole BSON documents without decoding them. Throws damage where no document can be, and where the
 * stream ends inside of one. Holds one chunk, or one document where that is larger.
 */
export class DocumentReader {
  readonly #chunks: AsyncIterator<Uint8Array>
  readonly #what: string
  readonly #isFramed: boolean
  #held: Uint8Array = new Uint8Array()
  /** Where in the stream the held bytes begin: for messages. */
  #offset = 0

  /** `isFramed`: documents are followed by a terminator; the end of the stream is none. */
  constructor(bytes: Bytes, what: string, isFramed: boolean) {
    this.#chunks = bytes[Symbol.asyncIterator]()
    this.#what = what
    this.#isFramed = isFramed
  }

  /** The next documents: as many as are at hand. Null at a terminator, which is taken, and at the end. */
  async run(): Promise<Run | null> {
    const first = await this.#length()
    if (first === null) return null
    if (first === -1) {
      this.#take(4)
      return null
    }
    await this.#need(first)
    let end = 0
    let count = 0
    const { length } = this.#held
    while (end + 4 <= length && count < most) {
      const size = int32(this.#held, end)
      if (size === -1) break
      this.#check(size, end)
      if (end + size > length) break
      if (this.#held[end + size - 1] !== 0) throw this.#wrong('a document does not end with NUL', end)
      end += size
      count++
    }
    return { bytes: this.#take(end), count }
  }

  /** Exactly one document; null at the end and at a terminator. */
  async one(): Promise<Uint8Array | null> {
    const size = await this.#length()
    if (size === null) return null
    if (size === -1) {
      this.#take(4)
      return null
    }
    await this.#need(size)
    if (this.#held[size - 1] !== 0) throw this.#wrong('a document does not end with NUL')
    return this.#take(size)
  }

  /** Exactly so many bytes. */
  async exactly(count: number): Promise<Uint8Array> {
    await this.#need(count)
    return this.#take(count)
  }

  async isAtEnd(): Promise<boolean> {
    return this.#held.length === 0 && !(await this.#more())
  }

  /** For whoever stops before the end. */
  async close(): Promise<void> {
    await this.#chunks.return?.()
  }

  /** The length of the document that comes next, -1 for a terminator, null at the end. */
  async #length(): Promise<number | null> {
    if (!this.#isFramed && (await this.isAtEnd())) return null
    await this.#need(4)
    const size = int32(this.#held, 0)
    if (size !== -1) this.#check(size, 0)
    return size
  }

  #check(size: number, at: number): void {
    if (size < smallest || size > largest) throw this.#wrong(`no document is ${size} bytes long`, at)
  }

  async #need(count: number): Promise<void> {
    if (this.#held.length >= count) return
    const parts = [this.#held]
    let length = this.#held.length
    while (length < count) {
      const next = await this.#chunks.next()
      if (next.done)
        throw this.#wrong(this.#isFramed ? 'it ends too early' : 'it ends inside of a document', length)
      parts.push(next.value)
      length += next.value.length
    }
    this.#held = Buffer.concat(parts)
  }

  async #more(): Promise<boolean> {
    for (;;) {
      const next = await this.#chunks.next()
      if (next.done) return false
      this.#held = next.value
      if (next.value.length > 0) return true
    }
  }

  #take(count: number): Uint8Array {
    const taken = this.#held.subarray(0, count)
    this.#held = this.#held.subarray(count)
    this.#offset += count
    return taken
  }

  #wrong(why: string, at = 0) {
    return damage(
      `${this.#what} is damaged`,
      `${why}, at byte ${this.#offset + at}`,
      'use another copy or another backup',
    )
  }
}

export function int32(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at] as number) |
    ((bytes[at + 1] as number) << 8) |
    ((bytes[at + 2] as number) << 16) |
    ((bytes[at + 3] as number) << 24)
  )
}
