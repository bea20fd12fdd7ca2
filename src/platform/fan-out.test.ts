import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { testContext } from '../../test/support/context.ts'
import {
  assertNothingRuns,
  chunked,
  failingAfter,
  processWith,
  silent,
  stopped,
} from '../../test/support/processes.ts'
import { randomFrom, rounds } from '../../test/support/random.ts'
import type { Context } from '../model/context.ts'
import type { Bytes, Program } from '../model/step.ts'
import { fanOut, type Sink, type SinkOutcome } from './fan-out.ts'
import { flow } from './flow.ts'

process.on('unhandledRejection', error => {
  throw error
})

const mebibyte = 1 << 20
const input = Buffer.from(randomFrom(5).bytes(3 * mebibyte))
const whole = digestOf([input])

/** Gives the SHA-256 of what it took; before each chunk it waits. */
function hashing(name: string, before: (bytes: number) => unknown = () => {}): Sink<string> {
  return {
    name,
    async take(bytes) {
      const hash = createHash('sha256')
      let count = 0
      for await (const chunk of bytes) {
        await before(count)
        count += chunk.byteLength
        hash.update(chunk)
      }
      return hash.digest('hex')
    },
  }
}

/** Takes this much and then neither asks nor answers. */
function hanging(name: string, after: number): Sink<string> {
  return hashing(name, count => (count >= after ? new Promise(() => {}) : null))
}

test('three sinks of different speed get the same bytes, and answer in their order', async () => {
  const sinks = [
    hashing('slow', () => sleep(2)),
    hashing('fast'),
    hashing('jerky', () => (Math.random() < 0.1 ? sleep(10) : null)),
  ]
  const outcomes = await fanOut(() => chunked(input, 30_000), sinks, 256 * 1024, testContext())
  assert.deepEqual(
    outcomes,
    ['slow', 'fast', 'jerky'].map(name => ({ name, ok: true, value: whole })),
  )
})

test('streams of no bytes, and chunks larger than the window, reach every sink', async () => {
  for (const bytes of [Buffer.alloc(0), input]) {
    const outcomes = await fanOut(
      () => chunked(bytes, mebibyte),
      [hashing('a'), hashing('b')],
      1000,
      testContext(),
    )
    for (const outcome of outcomes) assert.equal(resultOf(outcome), digestOf([bytes]))
  }
})

test('no more than the window is held, for 200 MB and a slow sink, and no memory grows', async () => {
  const window = 4 * mebibyte
  let made = 0
  let taken = 0
  let most = 0
  async function* source(): Bytes {
    for (let n = 0; n < 3200; n++) {
      most = Math.max(most, made - taken)
      made += 65536
      yield Buffer.alloc(65536)
    }
  }
  const slow: Sink<null> = {
    name: 'slow',
    async take(bytes) {
      for await (const chunk of bytes) {
        taken += chunk.byteLength
        if (taken % mebibyte === 0) await sleep(1)
      }
      return null
    },
  }
  const before = process.memoryUsage().rss
  await fanOut<unknown>(source, [slow, hashing('fast')], window, testContext())
  assert.equal(taken, 3200 * 65536)
  // One chunk is in the hands of the source, one in those of the sink.
  assert.ok(most <= window + 2 * 65536, `${most} bytes were held`)
  const grown = process.memoryUsage().rss - before
  assert.ok(grown < 100e6, `grew by ${grown}`)
})

test('a sink that throws, wherever, is dropped, and the others are whole', async () => {
  const synchronous: Sink<string> = {
    name: 'bad',
    take() {
      throw new Error('no room')
    },
  }
  const throwing = (after: number): Sink<string> =>
    hashing('bad', count => {
      if (count >= after) throw new Error('no room')
    })
  const afterwards: Sink<string> = {
    name: 'bad',
    async take(bytes, ctx) {
      await hashing('', () => null).take(bytes, ctx)
      throw new Error('no room')
    },
  }
  for (const bad of [
    synchronous,
    throwing(0),
    throwing(mebibyte),
    throwing(input.byteLength - 65536),
    afterwards,
  ]) {
    const outcomes = await fanOut(
      () => chunked(input),
      [hashing('a'), bad, hashing('b')],
      65536,
      testContext(),
    )
    assert.equal(resultOf(outcomes[0]), whole)
    assert.equal(errorOf(outcomes[1]).message, 'no room')
    assert.equal(resultOf(outcomes[2]), whole)
  }
})

test('a sink that says it is done before the end has failed, and holds nobody up', async () => {
  const lazy: Sink<string> = { name: 'lazy', take: async () => 'done' }
  const other = Promise.withResolvers<void>()
  const early: Sink<string> = {
    name: 'early',
    async take(bytes) {
      for await (const _ of bytes) break
      // It may take its time: nobody waits for it. Were it waited for, nothing here would ever end.
      await other.promise
      return 'done'
    },
  }
  const good: Sink<string> = {
    name: 'good',
    async take(bytes, ctx) {
      const value = await hashing('').take(bytes, ctx)
      other.resolve()
      return value
    },
  }
  const outcomes = await fanOut(() => chunked(input), [lazy, good, early], 65536, testContext())
  assert.match(errorOf(outcomes[0]).message, /lazy stopped reading/)
  assert.equal(resultOf(outcomes[1]), whole)
  assert.match(errorOf(outcomes[2]).message, /early stopped reading/)
})

test('sinks that hang are dropped after the stall, one or several, in a small window or a large one', async () => {
  for (const window of [65536, 100 * mebibyte]) {
    const ctx = testContext({ stallMs: 1_500 })
    const hung = [hanging('hung', mebibyte), hanging('too', mebibyte), hanging('later', 2 * mebibyte)]
    const signals: AbortSignal[] = []
    const sinks = [...hung, hashing('good', () => sleep(1))].map(sink => ({
      ...sink,
      take: (bytes: Bytes, own: Context) => {
        signals.push(own.signal)
        return Promise.race([sink.take(bytes, own), aborted(own.signal)])
      },
    }))
    const outcomes = await fanOut(() => chunked(input), sinks, window, ctx)
    for (const outcome of outcomes.slice(0, 3))
      assert.match(errorOf(outcome).message, /^store \w+ has stalled/)
    assert.equal(resultOf(outcomes[3]), whole)
    assert.deepEqual(
      signals.map(signal => signal.aborted),
      [true, true, true, false],
    )
  }
})

test('who had taken all there was when another is given up is not blamed for its silence', async () => {
  const hung = hanging('hung', mebibyte)
  // It speaks once after the others have fallen silent: when its time is over, theirs is longer over.
  const speaks: Sink<string> = {
    ...hung,
    take(bytes, own) {
      setTimeout(() => own.alive('thinking'), 300)
      return hung.take(bytes, own)
    },
  }
  const sinks = [speaks, hashing('good'), hashing('too')]
  const outcomes = await fanOut(() => chunked(input), sinks, 65536, testContext({ stallMs: 900 }))
  assert.match(errorOf(outcomes[0]).message, /^store hung has stalled/)
  assert.deepEqual(outcomes.slice(1).map(resultOf), [whole, whole])
})

test('a sink that leaves its stream and then hangs is dropped after the stall, and at once by an abort', async () => {
  const leaver: Sink<string> = {
    name: 'leaver',
    async take(bytes) {
      for await (const _ of bytes) break
      return new Promise(() => {})
    },
  }
  const sinks = [leaver, hashing('good')]
  const stalled = fanOut(() => chunked(input), sinks, 65536, testContext({ stallMs: 500 }))
  const controller = new AbortController()
  setTimeout(() => controller.abort(new Error('enough')), 50)
  const ctx = testContext({ signal: controller.signal })
  await assert.rejects(
    fanOut(() => chunked(input), sinks, 65536, ctx),
    /enough/,
  )
  const [left, good] = await stalled
  assert.match(errorOf(left).message, /store leaver has stalled/)
  assert.equal(resultOf(good), whole)
})

test('a sink that is slow after the last byte is waited for while it is alive, and dropped when it hangs', async () => {
  const finishing = (name: string, finish: (ctx: Context) => Promise<unknown>): Sink<string> => ({
    name,
    async take(bytes, ctx) {
      const value = await hashing(name).take(bytes, ctx)
      await Promise.race([finish(ctx), aborted(ctx.signal)])
      return value
    },
  })
  const alive = finishing('alive', async ctx => {
    for (let n = 0; n < 10; n++) {
      await sleep(80)
      ctx.alive('completing the upload')
    }
  })
  const hung = finishing('hung', () => new Promise(() => {}))
  const outcomes = await fanOut(() => chunked(input), [alive, hung], mebibyte, testContext({ stallMs: 300 }))
  assert.equal(resultOf(outcomes[0]), whole)
  assert.match(errorOf(outcomes[1]).message, /store hung has stalled/)
})

test('a sink that was answered while we were stopped is not given up', async () => {
  const answered: Sink<string> = {
    name: 'answered',
    async take(bytes, ctx) {
      const value = await hashing('').take(bytes, ctx)
      const answer = once(spawn('sh', ['-c', 'sleep 0.2; echo done']).stdout, 'data')
      await stopped(1_000)
      return await Promise.race([answer.then(() => value), aborted(ctx.signal)])
    },
  }
  const sinks = [answered, hashing('good')]
  const outcomes = await fanOut(() => chunked(input), sinks, mebibyte, testContext({ stallMs: 300 }))
  assert.deepEqual(outcomes.map(resultOf), [whole, whole])
})

test('a slow source is not blamed on the sinks', async () => {
  async function* slow(): Bytes {
    for (let n = 0; n < 3; n++) {
      await sleep(300)
      yield new Uint8Array(10)
    }
  }
  const outcomes = await fanOut(slow, [hashing('a'), hashing('b')], 5, testContext({ stallMs: 100 }))
  assert.ok(outcomes.every(outcome => outcome.ok))
})

test('when the input fails, every stream throws, nobody believes in an end, and the failure is thrown', async () => {
  for (const bytes of [0, mebibyte, input.byteLength]) {
    async function* failing(): Bytes {
      yield* chunked(input.subarray(0, bytes))
      throw new Error('the disk is on fire')
    }
    const seen: unknown[] = []
    const watched = (name: string): Sink<string> => ({
      name,
      take: (chunks, ctx) =>
        hashing(name)
          .take(chunks, ctx)
          .finally(() => seen.push(name))
          .catch((error: unknown) => {
            seen.push(error instanceof Error ? error.message : error)
            throw error
          }),
    })
    await assert.rejects(fanOut(failing, [watched('a'), watched('b')], 65536, testContext()), /on fire/)
    assert.deepEqual(seen.sort(), ['a', 'b', 'the disk is on fire', 'the disk is on fire'])
  }
})

test('a dump program that fails after its last byte fails all sinks', async () => {
  const ctx = testContext()
  const work = fanOut(own => flow(failingAfter(mebibyte), [], own), [hashing('a'), hashing('b')], 65536, ctx)
  await assert.rejects(work, /disk is on fire/)
})

test('a sink that hangs does not hold up the failure of the input for ever', async () => {
  async function* failing(): Bytes {
    yield* chunked(input.subarray(0, mebibyte))
    throw new Error('the disk is on fire')
  }
  const started = performance.now()
  const sinks = [hanging('hung', 0), hashing('good')]
  await assert.rejects(fanOut(failing, sinks, 10 * mebibyte, testContext()), /on fire/)
  // Five seconds are its grace; the stall would come after sixty.
  assert.ok(performance.now() - started < 30_000)
})

test('when no sink is left the input is aborted, and its programs are gone', async () => {
  const ctx = testContext()
  const bad = hashing('bad', () => {
    throw new Error('no room')
  })
  const endless = { program: 'cat', args: ['/dev/zero'] }
  const outcomes = await fanOut(own => flow(endless, [], own), [bad, { ...bad, name: 'worse' }], 65536, ctx)
  for (const outcome of outcomes) assert.equal(errorOf(outcome).message, 'no room')
  assertNothingRuns(ctx)
})

test('the input is not aborted when all sinks have taken it', async () => {
  let signal: AbortSignal | undefined
  const open = (own: Context): Bytes => {
    signal = own.signal
    return chunked(input)
  }
  await fanOut(open, [hashing('a'), hashing('b')], 65536, testContext())
  assert.equal(signal?.aborted, false)
})

test('an abort reaches the input and the sinks, and is the error', async () => {
  for (let round = 0; round < rounds; round++) {
    const random = randomFrom(round)
    const controller = new AbortController()
    const reason = new Error(`abort of round ${round}`)
    const ctx = testContext({ signal: controller.signal, stallMs: 20_000 })
    const endless: Program = { program: 'cat', args: ['/dev/zero'] }
    const source = random.pick([endless, silent])
    const polite: Sink<string> = {
      name: 'polite',
      take: (bytes, own) => Promise.race([hanging('', mebibyte).take(bytes, own), aborted(own.signal)]),
    }
    const sinks = random.pick([[hashing('a')], [hashing('a'), polite], [polite]])
    setTimeout(() => controller.abort(reason), random.int(0, 50))
    await assert.rejects(
      fanOut(own => flow(source, [], own), sinks, 2 * mebibyte, ctx),
      error => error === reason,
    )
    assertNothingRuns(ctx)
  }
})

test('an abort ends programs that fan out even while nobody asks for their bytes', async () => {
  const controller = new AbortController()
  const ctx = testContext({ signal: controller.signal })
  const endless = { program: 'cat', args: ['/dev/zero'] }
  const work = fanOut(own => flow(endless, [], own), [hanging('hung', 0)], 65536, ctx)
  const rejected = assert.rejects(work, /enough/)
  await processWith('cat /dev/zero', ctx)
  controller.abort(new Error('enough'))
  await rejected
  assertNothingRuns(ctx)
})

test('one sink costs little: more than 1 GB/s of chunks of 64 KiB', async () => {
  const chunk = Buffer.alloc(65536)
  const count = 60_000
  async function* source(): Bytes {
    for (let n = 0; n < count; n++) yield chunk
  }
  const sink: Sink<number> = {
    name: 'one',
    async take(bytes) {
      let total = 0
      for await (const { byteLength } of bytes) total += byteLength
      return total
    },
  }
  const cpu = process.cpuUsage()
  const [outcome] = await fanOut(source, [sink], 32 * mebibyte, testContext())
  const { user, system } = process.cpuUsage(cpu)
  assert.equal(resultOf(outcome), count * chunk.byteLength)
  // By the processor's time, so that it does not depend on who else uses the machine.
  const rate = (count * chunk.byteLength) / (user + system)
  assert.ok(rate > 1_000, `${rate.toFixed(0)} MB/s`)
})

function digestOf(chunks: Iterable<Uint8Array>): string {
  const hash = createHash('sha256')
  for (const chunk of chunks) hash.update(chunk)
  return hash.digest('hex')
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
}

function resultOf<T>(outcome: SinkOutcome<T> | undefined): T {
  assert.ok(outcome?.ok, `${outcome?.name} has failed`)
  return outcome.value
}

function errorOf(outcome: SinkOutcome<unknown> | undefined): Error {
  assert.ok(outcome && !outcome.ok, `${outcome?.name} has not failed`)
  return outcome.error
}
