import { Long } from 'mongodb'
import { int32 } from './documents.ts'

/** One answer of a cursor. */
export interface Batch {
  /** Zero when there is no more. */
  readonly id: Long
  /** Of which collection the next one is asked. */
  readonly collection: string
  /** The documents, one after another. */
  readonly bytes: Uint8Array
}

/**
 * Takes the documents out of the `cursor` field of an answer without decoding them: they are moved together in place, over the
 * bytes that an array has between its elements (bsonspec.org).
 */
export function batchOf(cursor: unknown): Batch {
  if (!(cursor instanceof Uint8Array)) throw new Error('the answer of the server has no cursor')
  let id = Long.ZERO
  let collection = ''
  let array: Uint8Array = new Uint8Array()
  for (let at = 4; at < cursor.length - 1; ) {
    const type = cursor[at] as number
    const end = cursor.indexOf(0, at + 1)
    const name = Buffer.from(cursor.subarray(at + 1, end)).toString('latin1')
    const value = end + 1
    const size = sizeOf(type, cursor, value)
    if (name === 'id') id = new Long(int32(cursor, value), size === 8 ? int32(cursor, value + 4) : 0)
    if (name === 'ns') collection = withoutDatabase(cursor.subarray(value + 4, value + size - 1))
    if (name === 'firstBatch' || name === 'nextBatch') array = cursor.subarray(value, value + size)
    at = value + size
  }
  return { id, collection, bytes: packed(array) }
}

/** What a value takes, of those types that stand in a cursor. */
function sizeOf(type: number, bytes: Uint8Array, at: number): number {
  if (type === 0x03 || type === 0x04) return int32(bytes, at)
  if (type === 0x02) return 4 + int32(bytes, at)
  if (type === 0x05) return 5 + int32(bytes, at)
  if ([0x01, 0x09, 0x11, 0x12].includes(type)) return 8
  if (type === 0x10) return 4
  if (type === 0x08) return 1
  if (type === 0x07) return 12
  if (type === 0x0a) return 0
  throw new Error(`the answer of the server holds a field of type ${type}`)
}

/** `shop.orders.2026` is the collection `orders.2026`. */
function withoutDatabase(ns: Uint8Array): string {
  const text = Buffer.from(ns).toString('utf8')
  return text.slice(text.indexOf('.') + 1)
}

function packed(array: Uint8Array): Uint8Array {
  let out = 0
  for (let at = 4; at < array.length - 1; ) {
    // The type of a document, the digits of its place in the array, a NUL.
    while (array[at] !== 0) at++
    const start = at + 1
    const size = int32(array, start)
    array.copyWithin(out, start, start + size)
    out += size
    at = start + size
  }
  return array.subarray(0, out)
}
