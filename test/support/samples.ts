import { setImmediate as turn } from 'node:timers/promises'
import type { Bytes } from '../../src/model/step.ts'

/** Random numbers from 0 to 1 that are the same for the same seed (mulberry32). */
export type Random = () => number

export function seeded(seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** From 0 up to, but not including, `below`. */
export function pick(random: Random, below: number): number {
  return Math.floor(random() * below)
}

/** Bytes like those of a dump: noise, runs and repetitions in turn. */
export function sampleBytes(random: Random, size: number): Buffer {
  const bytes = Buffer.alloc(size)
  for (let at = 0; at < size; ) {
    const length = Math.min(size - at, 1 + pick(random, 8192))
    fillPart(random, bytes, at, at + length)
    at += length
  }
  return bytes
}

function fillPart(random: Random, bytes: Buffer, from: number, to: number): void {
  const kind = pick(random, 3)
  if (kind === 0) bytes.fill(pick(random, 256), from, to)
  else if (kind === 1) bytes.fill(`row ${pick(random, 1e6)}\t`, from, to)
  else for (let i = from; i < to; i++) bytes[i] = pick(random, 256)
}

/** The bytes in chunks of random sizes, about `count` of them, some empty; some come late. */
export async function* inChunks(
  bytes: Uint8Array,
  random: Random,
  count = 20,
): AsyncGenerator<Uint8Array, void, undefined> {
  const size = Math.max(1, Math.ceil((2 * bytes.length) / count))
  for (let at = 0; at < bytes.length; ) {
    const to = at + pick(random, size + 1)
    // A copy: whoever writes into a chunk must not change the sample.
    yield bytes.slice(at, to)
    at = Math.min(to, bytes.length)
    if (pick(random, 4) === 0) await turn()
  }
}

/** All bytes, read by someone who now and then pauses. */
export async function collect(bytes: Bytes, random: Random = () => 0.99): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of bytes) {
    chunks.push(chunk)
    if (pick(random, 8) === 0) await turn()
  }
  return Buffer.concat(chunks)
}
