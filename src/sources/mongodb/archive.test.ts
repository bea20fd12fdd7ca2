import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BSON, type Document } from 'mongodb'
import { inOrder } from '../../../test/support/mongodb/databases.ts'
import { collect, inChunks } from '../../../test/support/reader.ts'
import type { Bytes } from '../../model/step.ts'
import { blocks, type Listed, openArchive, prelude } from './archive.ts'
import { batchOf } from './batch.ts'
import { Crc64 } from './crc64.ts'
import { collectionOf, fileOf } from './names.ts'

const { Binary, Code, Decimal128, Double, Int32, Long, MaxKey, MinKey, ObjectId, Timestamp } = BSON

/** Every type that BSON has, and what is easily lost of it. */
const everything: Uint8Array[] = [
  {
    nan: Number.NaN,
    inf: -Infinity,
    zero: new Double(-0),
    one: new Double(1),
    int: new Int32(1),
    long: Long.ONE,
  },
  {
    max: Long.MAX_VALUE,
    min: Long.MIN_VALUE,
    dec: Decimal128.fromString('-0E+6111'),
    nan: Decimal128.fromString('NaN'),
  },
  {
    early: BSON.Long.MIN_VALUE,
    date: new Date(8.64e15),
    stamp: new Timestamp({ t: 4294967295, i: 4294967295 }),
  },
  { code: new Code('a\0b'), scope: new Code('f', { x: 1 }), min: new MinKey(), max: new MaxKey() },
  { symbol: new BSON.BSONSymbol('s'), pointer: new BSON.DBRef('c', new ObjectId()), undef: null },
  ...[0, 1, 2, 3, 4, 5, 6, 8, 128, 255].map(type => ({ b: new Binary(Buffer.alloc(16, type), type) })),
  { nul: 'a\0b', empty: '', regex: new BSON.BSONRegExp('^', 'imx'), '': 'no name', 'a.b': 1, $d: 2 },
  { text: 'x'.repeat(5_000_000) },
  {},
]
  .map(one => BSON.serialize(one as Document))
  .concat(
    // undefined, the same field twice, and a DBPointer, which the driver does not write.
    ...[
      '0800000006750000',
      '1300000010780001000000107800020000',
      '1a0000000c70000200000063000001020304050607',
    ].map((start, index) => Buffer.from(start.padEnd([16, 38, 52][index] ?? 0, '0'), 'hex')),
    // Fields that JavaScript would put into another order.
    inOrder(['2', 1], ['1', 2]),
  )

const listed: Listed[] = [
  { database: 'shop', collection: 'all', metadata: '{"indexes":[]}', type: 'collection' },
  { database: 'shop', collection: 'none', metadata: '{"indexes":[]}', type: 'collection' },
  { database: 'shop', collection: 'seen', metadata: '{"indexes":[]}', type: 'view' },
  { database: 'shop', collection: 'weather', metadata: '{"indexes":[]}', type: 'timeseries' },
]

async function* archive(documents: Uint8Array[]): Bytes {
  yield prelude('7.0.0', 'cairn', listed)
  yield* blocks('shop', 'all', some(documents))
  yield* blocks('shop', 'none', some([]))
  yield* blocks('shop', 'seen', some([]))
  yield* blocks('shop', 'system.buckets.weather', some(documents.slice(0, 2)))
}

async function* some(documents: readonly Uint8Array[]): Bytes {
  yield* documents
}

async function read(bytes: Bytes): Promise<Map<string, Buffer>> {
  const opened = await openArchive(bytes, 'it')
  assert.deepEqual(opened.listed, listed)
  const found = new Map<string, Buffer>()
  for await (const met of opened.contents()) {
    const before = found.get(met.collection) ?? Buffer.alloc(0)
    found.set(met.collection, met.type === 'documents' ? Buffer.concat([before, met.bytes]) : before)
  }
  return found
}

test('an archive gives every document back byte by byte, however its chunks fall', async () => {
  const whole = await collect(archive(everything))
  for (const size of [1_000_003, 65_536, 4_099, whole.length]) {
    const found = await read(inChunks(whole, size))
    assert.ok(found.get('all')?.equals(Buffer.concat(everything)), `chunks of ${size}`)
    assert.deepEqual([...found.keys()], ['all', 'none', 'seen', 'system.buckets.weather'])
    assert.equal(found.get('none')?.length, 0)
  }
  const small = await collect(archive(everything.filter(one => one.length < 1000)))
  assert.equal((await read(inChunks(small, 1))).size, 4)
})

test('an archive that is cut anywhere is damaged', async () => {
  const whole = await collect(archive(everything.filter(one => one.length < 1000)))
  for (let length = 0; length < whole.length; length += 1)
    await assert.rejects(read(inChunks(whole.subarray(0, length), 50_000)), { exit: 20 }, `${length} bytes`)
})

test('an archive with another bit in a document is damaged', async () => {
  const document = BSON.serialize({ text: 'hello world' })
  const whole = await collect(archive([document, document]))
  const at = Buffer.from(whole).indexOf('hello')
  const changed = Uint8Array.from(whole)
  changed[at] = 'j'.charCodeAt(0)
  await assert.rejects(read(inChunks(changed)), /checksum of shop.all is wrong/)
})

test('lengths that no document has are damage, not memory', async () => {
  const whole = Buffer.from(await collect(archive([BSON.serialize({ text: 'hello world' })])))
  const at = whole.indexOf('hello world') - 14
  for (const length of [0, 4, -2, 0x7fffffff, 17 * 1024 * 1024]) {
    const changed = Buffer.from(whole)
    changed.writeInt32LE(length, at)
    await assert.rejects(read(inChunks(changed)), { exit: 20, message: /no document is/ }, `${length}`)
  }
  await assert.rejects(read(inChunks(Buffer.from('PGDMP'))), /does not begin as an archive/)
})

test('what is read of an archive is held a chunk at a time', async () => {
  const document = BSON.serialize({ text: 'x'.repeat(1000) })
  const chunk = Buffer.concat(Array.from({ length: 1000 }, () => document))
  async function* many(): Bytes {
    yield prelude('7.0.0', 'cairn', listed.slice(0, 1))
    yield* blocks('shop', 'all', some(Array.from({ length: 400 }, () => chunk)))
  }
  const opened = await openArchive(many(), 'it')
  let [count, most] = [0, 0]
  for await (const met of opened.contents()) {
    if (met.type === 'documents') count += met.count
    most = Math.max(most, process.memoryUsage().arrayBuffers)
  }
  assert.equal(count, 400_000)
  assert.ok(most < 150_000_000, `${most} bytes of 400 MB`)
})

test('the checksum is that of the standard', () => {
  const crc = new Crc64()
  crc.update(Buffer.from('1234'))
  crc.update(Buffer.from('56789'))
  assert.equal(BigInt.asUintN(64, crc.value()), 0x995dc9bbdf1939fan)
})

test('a batch is taken out of an answer without being decoded', () => {
  const answer = (name: string, documents: Document[], id: bigint) =>
    BSON.deserialize(
      BSON.serialize({
        cursor: {
          [name]: documents,
          partial: true,
          id: Long.fromBigInt(id),
          ns: 'shop.a.b',
          at: new Timestamp({ t: 1, i: 1 }),
        },
        ok: 1,
      }),
      { raw: true },
    ).cursor
  const documents = Array.from({ length: 250 }, (_, n) => ({ n, nested: { n: [n] } }))
  const batch = batchOf(answer('firstBatch', documents, 2n ** 62n + 3n))
  assert.ok(Buffer.concat(documents.map(one => BSON.serialize(one))).equals(batch.bytes))
  assert.equal(batch.id.toBigInt(), 2n ** 62n + 3n)
  assert.equal(batch.collection, 'a.b')
  assert.equal(batchOf(answer('nextBatch', [], 0n)).bytes.length, 0)
  assert.ok(batchOf(answer('nextBatch', [], 0n)).id.isZero())
})

test('files are named as mongodump names them', () => {
  // What Go's url.QueryEscape gives for the same names.
  assert.equal(fileOf("a b+c%d/e'(f)!*~é"), 'a+b%2Bc%25d%2Fe%27%28f%29%21%2A~%C3%A9')
  for (const name of ['plain', 'with space', 'é😀', 'a/b', '100%', 'x.y_z-~'])
    assert.equal(collectionOf(fileOf(name)), name)
  const long = fileOf('é'.repeat(100))
  assert.equal(long.length, 238)
  assert.match(long, /%24[\w-]{27}$/)
})
