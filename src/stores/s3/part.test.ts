import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { test } from 'node:test'
import { testContext } from '../../../test/support/context.ts'
import { collect, hostileBytes, inOddChunks } from '../../../test/support/store-contract.ts'
import { BodyFailed, inParts, maxObjectBytes, maxParts, partBytes } from './part.ts'

const [MiB, GiB, TiB] = [2 ** 20, 2 ** 30, 2 ** 40]

const sizes: [n: number, options: Parameters<typeof partBytes>[1], bytes: number][] = [
  [0, {}, 8 * MiB],
  [908, {}, 8 * MiB],
  [909, {}, 16 * MiB],
  [1818, {}, 32 * MiB],
  [9999, {}, 5 * GiB],
  [0, { sizeHint: 1 }, 8 * MiB],
  [4999, { sizeHint: 30 * GiB }, 16 * MiB],
  [0, { sizeHint: TiB }, 231 * MiB],
  [4999, { sizeHint: TiB }, 231 * MiB],
  [5500, { sizeHint: TiB }, 462 * MiB],
  [0, { sizeHint: 5 * TiB }, 1154 * MiB],
  [0, { fixed: 5 * MiB }, 5 * MiB],
  [9999, { fixed: 5 * MiB, sizeHint: TiB }, 5 * MiB],
]
for (const [n, options, bytes] of sizes) {
  test(`part ${n} with ${JSON.stringify(options)} has ${bytes / MiB} MiB`, () => {
    assert.equal(partBytes(n, options) / MiB, bytes / MiB)
  })
}

test('ten thousand parts hold 5 TiB, whatever the hint said, and none is too large or too small for S3', () => {
  const hints = [0, 1, MiB, 8 * GiB, 35 * GiB, 36 * GiB, 40 * GiB, 100 * GiB, TiB, 4 * TiB, 5 * TiB, 50 * TiB]
  for (const sizeHint of hints) {
    let total = 0
    for (let n = 0; n < maxParts; n++) {
      const bytes = partBytes(n, { sizeHint })
      assert(bytes >= 5 * MiB && bytes <= 5 * GiB && bytes >= partBytes(Math.max(0, n - 1), { sizeHint }))
      total += bytes
    }
    assert(total >= maxObjectBytes, `${sizeHint}: ${total / TiB} TiB`)
  }
})

test('what a hint announces fits into equal parts', () => {
  for (const sizeHint of [GiB, 36 * GiB, TiB, 4 * TiB]) {
    const parts = Math.ceil(sizeHint / partBytes(0, { sizeHint }))
    assert(parts <= maxParts / 2)
    assert.equal(partBytes(parts - 1, { sizeHint }), partBytes(0, { sizeHint }))
  }
})

const none = { inMemory: 'none', inFile: 'none' } as const

for (const [place, claimed] of [
  ['memory', 1000],
  ['a file', 0],
] as const) {
  test(`a stream is cut into exact parts, gathered in ${place}, that can be read twice`, async () => {
    const ctx = testContext()
    const bytes = hostileBytes(2500)
    const parts = inParts(inOddChunks(bytes), none, ctx)
    const got: Buffer[] = []
    for (let last = false; !last; ) {
      await using part = await parts.next(1000, ctx.budget.claim(claimed, claimed))
      assert.equal(part.inMemory, claimed > 0)
      for (const _ of [1, 2]) {
        const body = part.body()
        got.push(Buffer.isBuffer(body) ? Buffer.from(body) : await collect(body))
      }
      last = part.last
    }
    assert.deepEqual(
      got.map(each => each.length),
      [1000, 1000, 1000, 1000, 500, 500],
    )
    assert(Buffer.concat(got.filter((_, n) => n % 2)).equals(bytes))
    assert.deepEqual(await readdir(ctx.spool), [], 'files have no name')
  })
}

test('a stream that ends with a part has no empty part after it, and an empty one has one', async () => {
  const ctx = testContext()
  const exact = await inParts(inOddChunks(hostileBytes(1000)), none, ctx).next(
    1000,
    ctx.budget.claim(1000, 0),
  )
  assert(exact.last)
  const empty = await inParts(inOddChunks(hostileBytes(0)), none, ctx).next(1000, null)
  assert(empty.last && empty.bytes === 0)
})

test('CRC-32 and MD5 of a part are those of its bytes', async () => {
  const ctx = testContext()
  const digestOf = async (inMemory: 'crc32' | 'md5') => {
    const parts = inParts(inOddChunks(Buffer.from('123456789')), { inMemory, inFile: 'none' }, ctx)
    return (await parts.next(1000, ctx.budget.claim(1000, 0))).digest
  }
  assert.deepEqual(await digestOf('crc32'), { ChecksumAlgorithm: 'CRC32', ChecksumCRC32: 'y/Q5Jg==' })
  assert.deepEqual(await digestOf('md5'), { ContentMD5: 'JfnnlDI7RTiF9RgfG2JNCw==' })
})

test('a stream that fails gives its claim back, and is told from a store that fails', async () => {
  const ctx = testContext()
  const failing = async function* () {
    yield Buffer.from('x')
    throw new Error('broken')
  }
  let held = true
  const claim = {
    bytes: 1000,
    [Symbol.dispose]: () => {
      held = false
    },
  }
  await assert.rejects(inParts(failing(), none, ctx).next(1000, claim), BodyFailed)
  assert.equal(held, false)
})
