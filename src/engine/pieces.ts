import { createHash } from 'node:crypto'
import type { Bytes } from '../model/step.ts'

/**
 * The stream in pieces of at most `max` bytes, at least one piece. Each must be read to its end before the next
 * is asked for. That a piece ends says nothing about the stream; only the end of the last piece does.
 */
export async function* split(bytes: Bytes, max: number): AsyncGenerator<Bytes, void, undefined> {
  const chunks = bytes[Symbol.asyncIterator]()
  let rest: Uint8Array | undefined
  let ended = false
  async function next(): Promise<void> {
    const { done, value } = await chunks.next()
    ended = done === true
    rest = done ? undefined : value
  }
  async function* piece(): AsyncGenerator<Uint8Array, void, undefined> {
    let room = max
    while (rest && room > 0) {
      const chunk = rest.subarray(0, room)
      room -= chunk.byteLength
      rest = chunk.byteLength < rest.byteLength ? rest.subarray(chunk.byteLength) : undefined
      yield chunk
      if (!rest) await next()
    }
  }
  try {
    await next()
    do yield piece()
    while (!ended)
  } finally {
    if (!ended) await chunks.return?.()
  }
}

/** Digest and size of a stream and of each of its pieces, taken as they pass. */
export interface Tally {
  /** The piece, observed. */
  through(piece: Bytes): Bytes
  /** What the last piece was, once it has ended. */
  piece(): { readonly bytes: number; readonly sha256: string }
  total(): { readonly bytes: number; readonly sha256: string }
  /** Whether anything was ever sent through it. */
  readonly used: boolean
}

export function tally(observe: (total: number) => void = () => {}): Tally {
  const whole = createHash('sha256')
  let total = 0
  let last = { bytes: 0, sha256: '' }
  let pieces = 0
  return {
    async *through(piece) {
      // The first object's digest is that of the stream so far; only what follows a split is hashed twice.
      const own = pieces++ === 0 ? null : createHash('sha256')
      const before = total
      for await (const chunk of piece) {
        total += chunk.byteLength
        whole.update(chunk)
        own?.update(chunk)
        observe(total)
        yield chunk
      }
      last = { bytes: total - before, sha256: (own ?? whole.copy()).digest('hex') }
    },
    piece: () => last,
    get used() {
      return pieces > 0
    },
    total: () => ({ bytes: total, sha256: whole.copy().digest('hex') }),
  }
}
