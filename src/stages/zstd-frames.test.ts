// budget: 120 s
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { collect, inChunks, pick, type Random, sampleBytes, seeded } from '../../test/support/samples.ts'
import { Failure } from '../model/failure.ts'
import { findProgram } from '../platform/program.ts'
import { decodeFrames } from './zstd-frames.ts'

const ctx = testContext()

const rounds = Number(process.env.CAIRN_ROUNDS ?? 20)

function zstd(args: readonly string[], input: Uint8Array): Buffer {
  return execFileSync('zstd', ['-q', '-c', ...args], {
    input,
    maxBuffer: 1 << 30,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
}

function decoded(bytes: Uint8Array, random: Random = seeded(1), count?: number): Promise<Buffer> {
  return collect(decodeFrames(inChunks(bytes, random, count), ctx), random)
}

/** RFC 8878, section 3.1.2. */
function skippable(content: string | Buffer, variant = 0): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt32LE(0x184d2a50 + variant)
  head.writeUInt32LE(content.length, 4)
  return Buffer.concat([head, Buffer.from(content)])
}

const one = zstd(['-3'], Buffer.from('one'))
const two = zstd(['-3'], Buffer.from('two'))
const empty = zstd([], Buffer.alloc(0))

suite('frames one after the other', () => {
  const table: [title: string, bytes: Buffer[], plain: string][] = [
    ['a single frame', [one], 'one'],
    ['two frames', [one, two], 'onetwo'],
    ['an empty frame alone', [empty], ''],
    ['empty frames between others', [empty, one, empty, empty, two, empty], 'onetwo'],
    ['a skippable frame before', [skippable('abc'), one], 'one'],
    ['a skippable frame of no bytes after', [one, skippable('', 15)], 'one'],
    ['skippable frames everywhere', [skippable('a'), one, skippable('bb', 7), two, skippable('c')], 'onetwo'],
    ['a skippable frame that holds a frame', [skippable(one), two], 'two'],
    ['a frame without a checksum', [zstd(['--no-check'], Buffer.from('one')), two], 'onetwo'],
    ['a frame whose size was known', [zstd(['--stream-size=3'], Buffer.from('one')), two], 'onetwo'],
    ['a skippable frame alone', [skippable('abc')], ''],
  ]
  for (const [title, parts, plain] of table) {
    test(`${title} is read as zstd reads it, however the chunks fall`, async () => {
      const bytes = Buffer.concat(parts)
      assert.equal(zstd(['-d'], bytes).toString(), plain)
      for (const count of [1, 2, 5, 20, 10_000]) {
        assert.equal((await decoded(bytes, seeded(count), count)).toString(), plain, `${count} chunks`)
      }
    })
  }
})

suite('what is not a whole row of frames', () => {
  const table: [title: string, bytes: Buffer, why: RegExp][] = [
    ['no byte at all', Buffer.alloc(0), /empty/],
    ['a part of a magic number', one.subarray(0, 3), /middle of a frame/],
    ['a frame header alone', one.subarray(0, 6), /middle of a frame/],
    ['a frame without its checksum', one.subarray(0, -4), /middle of a frame/],
    ['half a skippable frame', skippable('abcdef').subarray(0, 10), /middle of a frame/],
    ['a second frame cut short', Buffer.concat([one, two.subarray(0, -1)]), /middle of a frame/],
    ['one byte after a frame', Buffer.concat([one, Buffer.from('x')]), /middle of a frame/],
    ['zeros after a frame', Buffer.concat([one, Buffer.alloc(512)]), /something else follows/],
    ['text after two frames', Buffer.concat([one, two, Buffer.from('-- done\n')]), /something else follows/],
    ['plain text', Buffer.from('CREATE TABLE t ();\n'), /not in zstd format/],
    ['gzip', Buffer.from('1f8b0800000000000003', 'hex'), /not in zstd format/],
    ['a block type that does not exist', Buffer.from('28b52ffd2400070000', 'hex'), /block/],
  ]
  for (const [title, bytes, why] of table) {
    test(`${title} fails, as it does with zstd, however the chunks fall`, async () => {
      assert.throws(() => zstd(['-d'], bytes))
      for (const count of [1, 3, 10_000]) {
        const failure = await decoded(bytes, seeded(count), count).catch((error: unknown) => error)
        assert.ok(failure instanceof Failure)
        assert.match(failure.why, why)
      }
    })
  }
})

test(`random rows of frames of zstd's are read whole, in chunks of any size (${rounds} rounds)`, async () => {
  for (let round = 0; round < rounds; round++) {
    const random = seeded(round)
    const plains = Array.from({ length: 1 + pick(random, 5) }, () => sampleBytes(random, oddSize(random)))
    const frames = plains.flatMap(plain => [
      someFrame(random, plain),
      ...(pick(random, 3) ? [] : [skippable('x')]),
    ])
    const count = [1, 20, 1000][pick(random, 3)]
    const result = await decoded(Buffer.concat(frames), random, count)
    assert.ok(result.equals(Buffer.concat(plains)), `round ${round}`)
  }
})

function oddSize(random: Random): number {
  const sizes = [0, 1, 65_535, 65_536, 65_537, 131_072, 131_073, pick(random, 300_000), 1_000_000]
  return sizes[pick(random, sizes.length)] ?? 0
}

function someFrame(random: Random, plain: Buffer): Buffer {
  const args = [`-${1 + pick(random, 19)}`]
  if (pick(random, 3) === 0) args.push('--no-check')
  if (pick(random, 3) === 0) args.push(`--stream-size=${plain.length}`)
  if (pick(random, 3) === 0) args.push('-T2', '-B65536')
  return zstd(args, plain)
}

test('5 MB at every level are read whole', async () => {
  const random = seeded(99)
  const plain = sampleBytes(random, 5_000_000)
  for (const level of ['--fast=5', '-1', '-3', '-9', '-15', '-19']) {
    assert.ok((await decoded(zstd([level], plain), random)).equals(plain), level)
  }
})

test('a window of 2 GiB is accepted', async () => {
  const plain = sampleBytes(seeded(3), 3_000_000)
  assert.ok((await decoded(zstd(['--long=31', '-1'], plain))).equals(plain))
})

test('what pzstd writes is read whole', {
  skip: findProgram('pzstd') ? false : 'pzstd is not there',
}, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'cairn-pzstd-'))
  try {
    const plain = sampleBytes(seeded(4), 12_000_000)
    writeFileSync(join(dir, 'plain'), plain)
    const bytes = execFileSync('pzstd', ['-q', '-c', '-p', '4', join(dir, 'plain')], { maxBuffer: 1 << 30 })
    assert.ok((await decoded(bytes)).equals(plain))
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('a row of many small frames is read whole', async () => {
  const frames = Array.from({ length: 2000 }, (_, i) => (i % 2 ? one : two))
  const plain = Array.from({ length: 2000 }, (_, i) => (i % 2 ? 'one' : 'two')).join('')
  assert.equal((await decoded(Buffer.concat(frames))).toString(), plain)
})
