import type { Bytes } from '../model/step.ts'

/** How a stream begins and ends, and how long it was. */
export interface Edges {
  readonly head: string
  readonly tail: string
  readonly bytes: number
}

/** Reads bytes to their end and keeps the first and the last so many of them, as Latin-1; no more are ever held but a chunk. */
export async function edgesOf(input: Bytes, most: number): Promise<Edges> {
  let head: Uint8Array = new Uint8Array()
  let tail: Uint8Array = new Uint8Array()
  let bytes = 0
  for await (const chunk of input) {
    if (head.byteLength < most) head = joined(head, chunk.subarray(0, most - head.byteLength))
    tail = chunk.byteLength >= most ? chunk.slice(-most) : joined(tail, chunk).slice(-most)
    bytes += chunk.byteLength
  }
  const text = (part: Uint8Array): string => Buffer.from(part).toString('latin1')
  return { head: text(head), tail: text(tail), bytes }
}

function joined(left: Uint8Array, right: Uint8Array): Uint8Array {
  return left.byteLength === 0 ? right.slice() : Buffer.concat([left, right])
}
