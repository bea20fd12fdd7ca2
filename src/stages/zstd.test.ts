// budget: 120 s
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { collect, inChunks, sampleBytes, seeded } from '../../test/support/samples.ts'
import { stageContract } from '../../test/support/stage-contract.ts'
import { exitCode } from '../model/failure.ts'
import { isProgram } from '../model/step.ts'
import { flow } from '../platform/flow.ts'
import { ZstdOptions, zstdStage } from './zstd.ts'

const ctx = testContext()

const program = zstdStage(undefined, 'program')
const library = zstdStage(undefined, 'library')

stageContract('zstd by its program', () => ({ writing: [program] }))
stageContract('zstd by the library', () => ({ writing: [library] }))
stageContract('zstd by its program, read by the library,', () => ({ writing: [program], reading: [library] }))
stageContract('zstd by the library, read by its program,', () => ({ writing: [library], reading: [program] }))

test('every level and number of threads is read by both implementations', async () => {
  const random = seeded(1)
  const plain = sampleBytes(random, 1_500_000)
  for (let level = 1; level <= 19; level += 3) {
    for (const writer of ['program', 'library'] as const) {
      const stage = zstdStage({ level, threads: 1 + (level % 4) }, writer)
      const encoded = await collect(flow(inChunks(plain, random), [stage.encode()], ctx))
      for (const reader of [program, library]) {
        const decoded = await collect(flow(inChunks(encoded, random), [reader.decode()], ctx))
        assert.ok(decoded.equals(plain), `level ${level} by the ${writer}`)
      }
    }
  }
})

test('both implementations write a checksum', async () => {
  for (const stage of [program, library]) {
    const encoded = await collect(flow(inChunks(Buffer.from('x'), seeded(1)), [stage.encode()], ctx))
    const descriptor = encoded[4] ?? 0
    assert.equal(descriptor & 0b100, 0b100)
  }
})

test('without the program on PATH the library does the work', () => {
  const path = process.env.PATH
  process.env.PATH = '/nowhere'
  try {
    const stage = zstdStage()
    assert.deepEqual([isProgram(stage.encode()), isProgram(stage.decode())], [false, false])
  } finally {
    process.env.PATH = path
  }
  assert.equal(isProgram(zstdStage().encode()), true)
})

test('a level that needs more memory than a restore may have is a mistake of the configuration', () => {
  assert.equal(ZstdOptions.safeParse({ level: 20 }).success, false)
  assert.equal(ZstdOptions.safeParse({ level: 0 }).success, false)
  assert.equal(ZstdOptions.safeParse({ levle: 1 }).success, false)
  assert.deepEqual(ZstdOptions.parse({}), { level: 1 })
})

test('damage is an ordinary failure that says what zstd said', async () => {
  for (const stage of [program, library]) {
    const random = seeded(5)
    const encoded = await collect(flow(inChunks(sampleBytes(random, 100_000), random), [stage.encode()], ctx))
    encoded[encoded.length - 1] = (encoded.at(-1) ?? 0) ^ 1
    await assert.rejects(collect(flow(inChunks(encoded, random), [stage.decode()], ctx)), {
      what: 'zstd failed',
      why: /checksum/i,
      exit: exitCode.failed,
    })
  }
})
