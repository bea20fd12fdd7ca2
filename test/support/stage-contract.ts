import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Context } from '../../src/model/context.ts'
import { exitCode, Failure } from '../../src/model/failure.ts'
import type { Bytes, Stage } from '../../src/model/step.ts'
import { flow } from '../../src/platform/flow.ts'
import { findSurvivors } from '../services/survivors.ts'
import { testContext } from './context.ts'
import { collect, inChunks, pick, type Random, sampleBytes, seeded } from './samples.ts'

/** Stages in the order in which bytes are encoded; one, or several that are used together. */
export interface StagesUnderTest {
  readonly writing: readonly Stage[]
  /** Other implementations of the same stages; by default the same ones. */
  readonly reading?: readonly Stage[]
  /** The same with a key that does not fit; needed for stages that encrypt. */
  readonly wrongKey?: readonly Stage[]
  /** What stands for KEY when the undo commands are run. */
  readonly key?: string
}

/** How many random places are cut and changed. */
const rounds = Number(process.env.CAIRN_ROUNDS ?? 20)
const sizes = [0, 1, 65535, 65536, 65537, 131072, 5_000_000]
const fewSizes = [0, 1, 65537, 2_000_000]

/**
 * What every stage promises, tried, by its program or inside this process: see `Stage` and `Bytes` in the model.
 * `skipsNuls`: NULs after the end are none of the stage's business. `lean`: fewer sizes and places, for stages whose start is slow.
 */
export function stageContract(
  name: string,
  open: () => Promise<StagesUnderTest> | StagesUnderTest,
  { encrypts = false, skipsNuls = false, lean = false } = {},
): void {
  const places = lean ? Math.ceil(rounds / 4) : rounds
  suite(`${name} keeps the promises of a stage`, { concurrency: 4 }, () => {
    for (const size of lean ? fewSizes : sizes) {
      test(`${size} bytes come back as they were, however the chunks fall`, async () => {
        const tried = await open()
        for (const count of size === 0 ? [1] : lean ? [20] : [1, 20, 500]) {
          const random = seeded(size + count)
          const plain = sampleBytes(random, size)
          const encoded = await encode(tried, plain, random, count)
          assert.ok(plain.equals(await decode(tried, encoded, random, count)), `${count} chunks`)
        }
      })
    }

    test('short inputs of any length come back when every byte is a chunk', async () => {
      const tried = await open()
      const random = seeded(7)
      for (let round = 0; round < (lean ? 1 : 4); round++) {
        const plain = sampleBytes(random, pick(random, 300))
        const encoded = await encode(tried, plain, random, 1000)
        assert.ok(plain.equals(await decode(tried, encoded, random, 10_000)))
      }
    })

    test(`a stage says whether it encrypts: ${encrypts}`, async () => {
      const tried = await open()
      assert.equal(
        tried.writing.some(stage => stage.encrypts),
        encrypts,
      )
      const plain = Buffer.from('correct horse battery staple '.repeat(500))
      const encoded = await encode(tried, plain, seeded(1))
      if (encrypts) assert.equal(encoded.includes('correct horse'), false)
    })

    test('a stream cut anywhere fails', async () => {
      const tried = await open()
      const random = seeded(11)
      const encoded = await encode(tried, sampleBytes(random, 300_000), random)
      const near = [0, 1, 3, 4, 5, 17, 100, 200, encoded.length - 1, encoded.length - 4, encoded.length - 5]
      const seams = lean ? [] : boundaries(encoded.length)
      const cuts = [...near, ...seams, ...offsets(random, encoded.length, places / 2)]
      await eachOf(cuts, async cut => {
        await assert.rejects(decode(tried, encoded.subarray(0, cut), seeded(cut)), Failure, `cut at ${cut}`)
      })
    })

    test('a changed bit anywhere fails, or changes nothing', async () => {
      const tried = await open()
      const random = seeded(13)
      const plain = sampleBytes(random, 200_000)
      const encoded = await encode(tried, plain, random)
      const near = Array.from({ length: 24 }, (_, i) => i).filter(i => !lean || i % 3 === 0)
      const flips = [...near, ...offsets(random, encoded.length, places), encoded.length - 1]
      await eachOf(flips, async at => {
        const changed = Buffer.from(encoded)
        changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8))
        const decoded = await decode(tried, changed, seeded(at)).catch(failureOf)
        assert.ok(decoded instanceof Failure || decoded.equals(plain), `bit ${at % 8} of byte ${at}`)
      })
    })

    test('anything after the end fails', async () => {
      const tried = await open()
      const plain = Buffer.from('a backup')
      const encoded = await encode(tried, plain, seeded(17))
      for (const more of ['\0', '\n', 'xyz', '\0\0something else', '\0'.repeat(100_000)]) {
        const longer = Buffer.concat([encoded, Buffer.from(more)])
        const decoded = decode(tried, longer, seeded(17))
        if (skipsNuls && /^\0*$/.test(more)) assert.ok(plain.equals(await decoded))
        else await assert.rejects(decoded, Failure)
      }
    })

    test('what was never encoded fails', async () => {
      const tried = await open()
      for (const size of [1, 4, 1000, 1_000_000]) {
        await assert.rejects(decode(tried, sampleBytes(seeded(size), size), seeded(size)), Failure)
      }
    })

    if (encrypts) {
      test('a key that does not fit is told apart from damage', async () => {
        const tried = await open()
        const reading: StagesUnderTest = { ...tried, reading: tried.wrongKey ?? [] }
        for (const size of [0, 1, 400_000]) {
          const encoded = await encode(tried, sampleBytes(seeded(size), size), seeded(size))
          const failure = await decode(reading, encoded, seeded(size)).catch(failureOf)
          assert.ok(failure instanceof Failure)
          assert.equal(failure.exit, exitCode.wrongKey)
          assert.notEqual(failure.remedy, '')
        }
      })
    }

    for (const direction of ['encoding', 'decoding'] as const) {
      test(`${direction} fails with what its input failed with`, async () => {
        const tried = await open()
        const [input, steps] = await endless(tried, direction)
        const error = new Failure({ what: 'cannot read', why: 'the disk is gone' })
        await withContext(async ctx => {
          const broken = failingAfter(input, 300_000, error)
          await assert.rejects(collect(flow(broken, steps, ctx)), thrown => thrown === error)
        })
      })

      test(`${direction} takes no more than it can give away`, async () => {
        const tried = await open()
        const [input, steps, total] = await endless(tried, direction)
        const watched = watch(input)
        await withContext(async ctx => {
          for await (const chunk of flow(watched.bytes, steps, ctx)) {
            if (chunk.length === 0) continue
            await sleep(500)
            break
          }
        })
        assert.ok(watched.taken() < 0.6 * total, `${watched.taken()} of ${total} bytes`)
      })

      test(`${direction} that is no longer wanted ends its input and leaves nothing running`, async () => {
        const tried = await open()
        const [input, steps] = await endless(tried, direction)
        const watched = watch(input)
        await withContext(async ctx => {
          await someOf(flow(watched.bytes, steps, ctx))
        })
        assert.ok(watched.returned())
      })

      test(`${direction} that is aborted throws the reason and leaves nothing running`, async () => {
        const tried = await open()
        const [input, steps] = await endless(tried, direction)
        const watched = watch(input)
        const abort = new AbortController()
        const reason = new Failure({ what: 'stopped', why: 'a person said so' })
        await withContext(async ctx => {
          const bytes = flow(watched.bytes, steps, { ...ctx, signal: abort.signal })
          await assert.rejects(
            collect(onceSome(bytes, () => abort.abort(reason))),
            thrown => thrown === reason,
          )
        })
        assert.ok(watched.returned())
      })
    }

    test('the undo commands give the plain bytes without us', async () => {
      const tried = await open()
      const command = [...tried.writing].reverse().map(stage => stage.undo)
      for (const size of [0, 1, 300_000]) {
        const plain = sampleBytes(seeded(size), size)
        const encoded = await encode(tried, plain, seeded(size))
        const undone = await shell(command.join(' | ').replaceAll('KEY', tried.key ?? 'KEY'), encoded)
        assert.ok(plain.equals(undone))
      }
    })
  })
}

async function encode(tried: StagesUnderTest, plain: Buffer, random: Random, count = 20): Promise<Buffer> {
  const steps = tried.writing.map(stage => stage.encode())
  return withContext(ctx => collect(flow(inChunks(plain, random, count), steps, ctx), random))
}

async function decode(tried: StagesUnderTest, bytes: Buffer, random: Random, count = 20): Promise<Buffer> {
  const steps = decoding(tried)
  return withContext(ctx => collect(flow(inChunks(bytes, random, count), steps, ctx), random))
}

function decoding({ writing, reading = writing }: StagesUnderTest) {
  return [...reading].reverse().map(stage => stage.decode())
}

let longSample: Buffer | undefined

/** An input far longer than all buffers on the way, and the steps that it is for. */
async function endless(tried: StagesUnderTest, direction: 'encoding' | 'decoding') {
  const random = seeded(23)
  longSample ??= sampleBytes(random, 20_000_000)
  const plain = longSample
  if (direction === 'encoding') {
    return [inChunks(plain, random, 600), tried.writing.map(stage => stage.encode()), plain.length] as const
  }
  const encoded = await encode(tried, plain, random)
  return [inChunks(encoded, random, 600), decoding(tried), encoded.length] as const
}

async function* failingAfter(input: Bytes, bytes: number, error: Error) {
  let passed = 0
  for await (const chunk of input) {
    passed += chunk.length
    yield chunk
    if (passed > bytes) throw error
  }
}

/** Reads until the input has certainly begun to flow, then returns. */
async function someOf(bytes: Bytes): Promise<void> {
  let passed = 0
  for await (const chunk of bytes) {
    passed += chunk.length
    if (passed > 200_000) return
  }
}

async function* onceSome(bytes: Bytes, then: () => void) {
  let passed = 0
  for await (const chunk of bytes) {
    yield chunk
    passed += chunk.length
    if (passed > 200_000) then()
  }
}

/** Tells how much of the input was taken, and whether it was given back before its end. */
function watch(input: Bytes) {
  let state: 'open' | 'ended' | 'returned' = 'open'
  let taken = 0
  async function* bytes() {
    try {
      for await (const chunk of input) {
        taken += chunk.length
        yield chunk
      }
      state = 'ended'
    } finally {
      if (state === 'open') state = 'returned'
    }
  }
  return { bytes: bytes(), returned: () => state === 'returned', taken: () => taken }
}

/** Fails when a process that was started with this context, or a file in its folder, outlives the work. */
async function withContext<T>(work: (ctx: Context) => Promise<T>): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), 'cairn-stage-'))
  try {
    return await work(testContext({ dir }))
  } finally {
    const survivors = findSurvivors([dir], 0)
    const files = readdirSync(dir)
    rmSync(dir, { recursive: true })
    assert.deepEqual(survivors, [])
    assert.deepEqual(files, [])
  }
}

function failureOf(error: unknown): Failure {
  if (error instanceof Failure) return error
  throw error
}

/** Where formats of 64 KiB chunks have their seams: age's, and those of pipes. */
function boundaries(length: number): number[] {
  const seams = [1, 2, 3].flatMap(n => [n * 65536, n * (65536 + 16)])
  return seams.flatMap(seam => [seam - 1, seam, seam + 1]).filter(seam => seam < length)
}

function offsets(random: Random, length: number, count: number): number[] {
  return Array.from({ length: count }, () => pick(random, length))
}

async function eachOf<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const waiting = [...new Set(all)]
  const worker = async (): Promise<void> => {
    for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) await work(one)
  }
  await Promise.all([worker(), worker(), worker(), worker()])
}

async function shell(command: string, input: Buffer): Promise<Buffer> {
  const child = spawn('sh', ['-c', command], { stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin.end(input)
  const chunks = await child.stdout.toArray()
  return Buffer.concat(chunks)
}
