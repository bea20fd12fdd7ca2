import { crc32 } from 'node:zlib'
import type { Context } from '../../src/model/context.ts'
import { Failure, wrongKey } from '../../src/model/failure.ts'
import type { Bytes, Stage, Transform } from '../../src/model/step.ts'

// 'SYN1', check byte of the key | the bytes, each XOR the key | their count (8) and CRC-32 (4), big endian
const magic = Buffer.from('SYN1')
const headBytes = magic.length + 1
const tailBytes = 12

/** A stage inside this process with a key of one byte; it keeps every promise of a stage but to hide anything. */
export function syntheticStage(key: number): Stage {
  return {
    name: 'synthetic',
    suffix: '.syn',
    facts: {},
    encrypts: true,
    encode: () => transform(input => encode(input, key)),
    decode: () => transform(input => decode(input, key)),
    undo: `node --input-type=module -e '${undo}' KEY`,
  }
}

function transform(run: (input: Bytes) => Bytes): Transform {
  return {
    name: 'synthetic',
    run: (input, ctx) => run(untilAborted(input, ctx)),
  }
}

async function* untilAborted(input: Bytes, ctx: Context) {
  for await (const chunk of input) {
    ctx.signal.throwIfAborted()
    yield chunk
  }
}

async function* encode(input: Bytes, key: number) {
  let count = 0
  let sum = 0
  yield Buffer.from([...magic, checkByte(key)])
  for await (const chunk of input) {
    count += chunk.length
    sum = crc32(chunk, sum)
    yield chunk.map(byte => byte ^ key)
  }
  yield tail(count, sum)
}

async function* decode(input: Bytes, key: number) {
  let count = 0
  let sum = 0
  let head: Buffer | null = null
  let held: Buffer = Buffer.alloc(0)
  for await (const chunk of input) {
    held = Buffer.concat([held, chunk])
    if (!head && held.length >= headBytes) {
      head = checkedHead(held.subarray(0, headBytes), key)
      held = held.subarray(headBytes)
    }
    if (!head || held.length <= tailBytes) continue
    // The last bytes may be the tail: they are held back until more come.
    const plain = held.subarray(0, -tailBytes).map(byte => byte ^ key)
    held = held.subarray(-tailBytes)
    count += plain.length
    sum = crc32(plain, sum)
    yield plain
  }
  if (!head || !held.equals(tail(count, sum))) throw failed('it is truncated or was changed')
}

function checkedHead(head: Buffer, key: number): Buffer {
  if (!head.subarray(0, magic.length).equals(magic)) throw failed('it is not in synthetic format')
  if (head.at(-1) !== checkByte(key))
    throw wrongKey('cannot decrypt', 'it is encrypted for another key', 'give the right key')
  return head
}

function checkByte(key: number): number {
  return (key * 7 + 3) & 0xff
}

function tail(count: number, sum: number): Buffer {
  const bytes = Buffer.alloc(tailBytes)
  bytes.writeBigUInt64BE(BigInt(count))
  bytes.writeUInt32BE(sum, 8)
  return bytes
}

function failed(why: string): Failure {
  return new Failure({ what: 'synthetic failed', why })
}

const undo = `
const [key] = process.argv.slice(-1).map(Number)
const all = await process.stdin.toArray()
process.stdout.write(Buffer.concat(all).subarray(${headBytes}, -${tailBytes}).map(byte => byte ^ key))
`
