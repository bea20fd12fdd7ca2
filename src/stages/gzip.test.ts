import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { testContext } from '../../test/support/context.ts'
import { collect, inChunks, sampleBytes, seeded } from '../../test/support/samples.ts'
import { stageContract } from '../../test/support/stage-contract.ts'
import { exitCode, Failure } from '../model/failure.ts'
import { isProgram } from '../model/step.ts'
import { flow } from '../platform/flow.ts'
import { GzipOptions, gzipStage } from './gzip.ts'

const ctx = testContext()
const writers = ['igzip', 'pigz', 'gzip', 'library'] as const
const plain = sampleBytes(seeded(3), 1_200_000)

stageContract('gzip by igzip', () => ({ writing: [gzipStage(undefined, 'igzip')] }), { skipsNuls: true })
stageContract('gzip by the library', () => ({ writing: [gzipStage(undefined, 'library')] }), {
  skipsNuls: true,
  lean: true,
})

function encoded(level: number, writer: (typeof writers)[number], bytes = plain): Promise<Buffer> {
  return collect(flow(inChunks(bytes, seeded(4)), [gzipStage({ level }, writer).encode()], ctx))
}

function decoded(bytes: Uint8Array, chunks = 20): Promise<Buffer> {
  return collect(flow(inChunks(bytes, seeded(5), chunks), [gzipStage().decode()], ctx))
}

test('what every writer writes, gzip, pigz, igzip and zcat read, at every level', async () => {
  for (const writer of writers) {
    for (const level of [1, 6, 9]) {
      const bytes = await encoded(level, writer)
      for (const reader of [['gzip', '-d'], ['pigz', '-d'], ['igzip', '-d', '-c'], ['zcat']]) {
        const [program = '', ...args] = reader
        const read = execFileSync(program, args, { input: bytes, maxBuffer: 1e8 })
        assert.ok(read.equals(plain), `level ${level} by ${writer}, read by ${program}`)
      }
    }
  }
})

test('what gzip, pigz and igzip write is read, several members and NULs at the end too', async () => {
  const members = ['gzip', 'pigz', 'igzip'].map(program =>
    execFileSync(program, ['-c'], { input: plain, maxBuffer: 1e8 }),
  )
  for (const member of members) assert.ok((await decoded(member)).equals(plain))
  const empty = gzipSync('')
  const all = Buffer.concat([...members, empty, Buffer.alloc(5_000_000)])
  assert.ok((await decoded(all, 400)).equals(Buffer.concat([plain, plain, plain])))
  assert.equal((await decoded(Buffer.concat([empty, Buffer.alloc(496)]), 600)).length, 0)
})

test('what follows after the end is found, which igzip and pigz pass over', async () => {
  const member = gzipSync(plain)
  for (const more of ['x', '\0x', '\x1f', '\0\x1f\x8b\x08', `${'\0'.repeat(300_000)}x`]) {
    const longer = Buffer.concat([member, Buffer.from(more, 'latin1')])
    for (const chunks of [1, 1000])
      await assert.rejects(decoded(longer, chunks), { what: 'gzip failed', exit: exitCode.failed })
  }
  // The reason why they are not used for reading: when one of these fails, they might be.
  for (const program of ['igzip', 'pigz']) {
    const input = Buffer.concat([member, Buffer.from('garbage')])
    assert.equal(spawnSync(program, ['-d', '-c'], { input, maxBuffer: 1e8 }).status, 0)
  }
})

test('the fastest program at hand writes, and a level that igzip does not reach is written by another', () => {
  const path = process.env.PATH
  assert.equal(gzipStage().facts.by, 'igzip')
  assert.equal(gzipStage({ level: 9 }).facts.by, 'pigz')
  process.env.PATH = '/nowhere'
  try {
    assert.equal(gzipStage().facts.by, 'zlib')
    assert.equal(isProgram(gzipStage().encode()), false)
  } finally {
    process.env.PATH = path
  }
})

test('the size is that of gzip at the same level, or nearly so', async () => {
  const bytes = Buffer.from(
    Array.from({ length: 40_000 }, (_, i) => `${i}\tuser${i}@example.com\t${i % 97}\n`).join(''),
  )
  const reference = gzipSync(bytes, { level: 6 }).length
  for (const writer of writers) assert.ok((await encoded(6, writer, bytes)).length < 1.1 * reference, writer)
})

test('levels are those of gzip', () => {
  assert.deepEqual(GzipOptions.parse({}), { level: 6 })
  for (const level of [0, 10, 1.5]) assert.equal(GzipOptions.safeParse({ level }).success, false)
})

test('what is not gzip is an ordinary failure', async () => {
  const failure = await decoded(Buffer.from('SELECT 1')).catch((error: unknown) => error)
  assert.ok(failure instanceof Failure)
  assert.match(failure.why, /header/)
})
