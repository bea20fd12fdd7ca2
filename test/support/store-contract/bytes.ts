import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Bytes } from '../../../src/model/step.ts'

export const KiB = 1024
export const MiB = 1024 * KiB

/** Bytes that look like line ends, ends of text, markup and magic numbers, and never repeat where a part could end. */
export function hostileBytes(size: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(size)
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, size >> 2)
  let state = (seed + 1) * 2_654_435_769
  for (let at = 0; at < words.length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0
    words[at] = state
  }
  const nasty = Buffer.from('\r\n\0\x04\x1a\x1f\x8b--boundary\r\n0\r\n\r\n</xml>\ufeff\xff', 'latin1')
  for (let at = 0; at + nasty.length <= size; at += 65_521) nasty.copy(bytes, at)
  return bytes
}

/** Copies of the bytes in chunks of these sizes, over and over. */
export async function* inChunks(bytes: Uint8Array, sizes: readonly number[]): Bytes {
  for (let at = 0, turn = 0; at < bytes.byteLength; turn++) {
    const size = sizes[turn % sizes.length] ?? 1
    yield new Uint8Array(bytes.subarray(at, at + size))
    at += size
  }
}

export function inOddChunks(bytes: Uint8Array): Bytes {
  return inChunks(bytes, [1, 0, 7, 65_536, 13, 4_095, 1_048_577, 65_537, 300_000])
}

export async function* slowly(bytes: Bytes, pauseMs: number): Bytes {
  for await (const chunk of bytes) {
    await sleep(pauseMs)
    yield chunk
  }
}

export async function collect(bytes: Bytes): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(bytes))
}

/** Like `deepEqual`, but a difference in megabytes is told in one line. */
export function sameBytes(got: Uint8Array, want: Uint8Array, what: string): void {
  assert.equal(got.byteLength, want.byteLength, `the length of ${what}`)
  if (Buffer.compare(got, want) === 0) return
  const at = got.findIndex((byte, index) => byte !== want[index])
  assert.fail(`${what} differs at byte ${at}`)
}

export const bodyError = new Error('the body failed')

/** A stream that fails after so many bytes. */
export async function* failing(after: number): Bytes {
  yield* inChunks(hostileBytes(after), [64 * KiB])
  throw bodyError
}
