import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import {
  asIs,
  assertNothingRuns,
  cat,
  chunked,
  collect,
  failingAfter,
  processesOf,
  processWith,
  sh,
  silent,
  stuck,
  until,
} from '../../test/support/processes.ts'
import { randomFrom, rounds } from '../../test/support/random.ts'
import { exitCode, Failure } from '../model/failure.ts'
import type { Step } from '../model/step.ts'
import { flow, pour } from './flow.ts'
import { findProgram } from './program.ts'

process.on('unhandledRejection', error => {
  throw error
})

test('the bytes between programs do not pass through this process', async () => {
  const ctx = testContext()
  const before = bytesRead()
  const digest = await collect(flow(sh('head -c 100000000 /dev/zero'), [cat, cat, sh('wc -c')], ctx))
  assert.equal(digest.toString().trim(), '100000000')
  assert.ok(bytesRead() - before < 1e6, `${bytesRead() - before} bytes were read`)
})

test('chains of programs and transforms give the bytes unchanged, from 0 B to 3 MiB', async () => {
  for (const size of [0, 1, 65536, 65537, 3 << 20]) {
    const bytes = randomBytes(size)
    for (const steps of [
      [],
      [asIs],
      [cat],
      [cat, cat],
      [cat, asIs, cat],
      [asIs, cat, cat, asIs, asIs, cat],
    ]) {
      const ctx = testContext()
      assert.ok(
        (await collect(flow(chunked(bytes), steps, ctx))).equals(bytes),
        `${size} B, ${steps.length} steps`,
      )
      assertNothingRuns(ctx)
    }
  }
})

test('a dump program that fails, at whatever byte, never gives a normal end', async () => {
  for (const bytes of [0, 1, 1_000_000, 2_000_000]) {
    for (const steps of [[], [cat], [asIs], [cat, asIs, cat], [sh('cat; true'), cat]]) {
      const ctx = testContext()
      const error = await failureOf(flow(failingAfter(bytes), steps, ctx))
      assert.match(error.message, /sh failed: the disk is on fire \(exit code 1\)/)
      assertNothingRuns(ctx)
    }
  }
})

test('an input that fails stops the programs while their input is open: they see no end', async () => {
  const ctx = testContext()
  async function* failing() {
    yield new Uint8Array(100_000)
    throw new Error('the input is broken')
  }
  const program = sh(`cat; echo end > ${ctx.dir}/saw-the-end`)
  const error = await failureOf(flow(failing(), [program, cat, asIs], ctx))
  assert.equal(error.message, 'the input is broken')
  assert.deepEqual(readdirSync(ctx.dir), [])
  assertNothingRuns(ctx)
})

test('the telling failure is chosen: not the broken pipe of a neighbour, not what followed from it', async () => {
  const endless = { program: 'cat', args: ['/dev/zero'] }
  const picky = sh('head -c 1000 >/dev/null; echo "no space left" >&2; exit 1')
  const needsAll = sh('cat >/dev/null; echo "unexpected end" >&2; exit 1')
  const cases: [Step[], RegExp][] = [
    [[failingAfter(10), cat, needsAll], /disk is on fire/],
    [[endless, picky, cat], /no space left/],
    [[endless, cat, picky], /no space left/],
    [[endless, asIs, picky], /no space left/],
    [[endless, cat, asIs, cat, picky, asIs], /no space left/],
    [[sh('cat /dev/zero; echo "cannot write: Broken pipe" >&2; exit 1'), picky], /no space left/],
    [[silent, picky, cat, sh('exit 7')], /exit code 7/],
    [[endless, sh('head -c 10')], /cat failed/],
  ]
  for (const [[from, ...steps], message] of cases) {
    const ctx = testContext()
    assert.ok(from && 'program' in from)
    const error = await failureOf(flow(from, steps, ctx))
    assert.match(error.message, message)
    assertNothingRuns(ctx)
  }
})

test('a program that fails while its input is silent is not waited for', async () => {
  const ctx = testContext()
  const fails = sh('sleep 0.1; echo "no such key" >&2; exit 1')
  const started = performance.now()
  const streams = [
    flow(stuck(new Uint8Array(9)), [fails], ctx),
    flow(silent, [cat, fails], ctx),
    flow(silent, [asIs, fails], ctx),
  ]
  for (const error of await Promise.all(streams.map(failureOf))) assert.match(error.message, /no such key/)
  // What heeds nothing has five seconds; the stall would come after sixty.
  assert.ok(performance.now() - started < 30_000)
  assertNothingRuns(ctx)
})

test('a program that stops reading before the end has failed, even if it says it has not', async () => {
  const error = await failureOf(flow(chunked(new Uint8Array(1e7)), [sh('head -c 5')], testContext()))
  assert.match(error.message, /sh failed: it stopped reading before the end/)
})

test('a missing program is a usage failure before anything was started', async () => {
  const ctx = testContext()
  const missing = { program: 'no-such-program', args: [] }
  const marks = sh(`echo started > ${ctx.dir}/started`)
  for (const steps of [[missing], [asIs, missing], [missing, asIs, cat]]) {
    const error = await failureOf(flow(marks, steps, ctx))
    assert.ok(error instanceof Failure && error.exit === exitCode.usage)
    assert.match(error.message, /cannot run no-such-program: it is not installed/)
  }
  assert.deepEqual(readdirSync(ctx.dir), [])
})

test('where the state lies on a file system without pipes, they are made elsewhere', async t => {
  // Nobody can make anything in /proc.
  const ctx = testContext({ dir: '/proc/self' })
  assert.equal((await collect(flow(sh('echo on'), [cat, cat], ctx))).toString(), 'on\n')
  const before = tmpdir()
  t.after(() => {
    process.env.TMPDIR = before
  })
  process.env.TMPDIR = '/proc/self'
  await assert.rejects(collect(flow(sh('echo on'), [cat, cat], ctx)), {
    what: 'cannot make pipes',
    remedy: /CAIRN_STATE or TMPDIR/,
  })
})

test('without mkfifo nothing is started where programs are to be joined', async t => {
  const ctx = testContext()
  const bin = join(ctx.dir, 'bin')
  mkdirSync(bin)
  for (const name of ['sh', 'cat']) symlinkSync(findProgram(name) ?? '', join(bin, name))
  const before = process.env.PATH
  t.after(() => {
    process.env.PATH = before
  })
  process.env.PATH = bin
  const into = sh(`echo > ${ctx.dir}/began; cat`)
  await assert.rejects(pour(sh('echo on'), [cat], into, ctx), { what: 'cannot run mkfifo', exit: 2 })
  assert.deepEqual(readdirSync(ctx.dir), ['bin'])
  assert.equal((await collect(flow(sh('echo alone'), [], ctx))).toString(), 'alone\n')
})

test('a program that cannot be started in the middle of a chain leaves no process', async () => {
  const ctx = testContext()
  const unable = { ...cat, cwd: '/no/such/folder' }
  const error = await failureOf(flow(silent, [cat, unable, cat], ctx))
  assert.match(error.message, /cannot run cat: there is no folder/)
  assertNothingRuns(ctx)
  const tooMuch = { program: 'cat', args: ['x'.repeat(3_000_000)] }
  assert.match((await failureOf(flow(silent, [cat, tooMuch, cat], ctx))).message, /E2BIG/)
  assertNothingRuns(ctx)
})

test('leaving a stream early stops its makers and waits for them', async () => {
  const ctx = testContext()
  const endless = { program: 'cat', args: ['/dev/zero'] }
  for (const steps of [[], [cat], [asIs], [cat, asIs, cat]]) {
    for await (const chunk of flow(endless, steps, ctx)) {
      assert.ok(chunk.byteLength > 0)
      break
    }
    assertNothingRuns(ctx)
  }
})

test('leaving a stream while a chunk is awaited stops silent makers, also behind transforms', async () => {
  for (const steps of [[], [cat], [asIs, cat], [cat, asIs]]) {
    const ctx = testContext()
    const stream = flow(silent, steps, ctx)[Symbol.asyncIterator]()
    const next = assert.rejects(Promise.resolve(stream.next()), /left before the end/)
    await processWith('sleep 1000', ctx)
    await stream.return?.()
    assertNothingRuns(ctx)
    await next
    assert.deepEqual(await stream.next(), { done: true, value: undefined })
  }
})

test('a stream that nobody asks starts nothing', async () => {
  const ctx = testContext()
  await flow(silent, [cat], ctx)[Symbol.asyncIterator]().return?.()
  assert.equal(processesOf(ctx).size, 0)
})

test('an abort at any moment stops everything, grandchildren included, and is the error', async () => {
  for (let round = 0; round < rounds; round++) {
    const random = randomFrom(round)
    const controller = new AbortController()
    const ctx = testContext({ signal: controller.signal })
    const reason = new Error(`abort of round ${round}`)
    const source = random.pick([
      silent,
      sh('(cat /dev/zero | cat) & wait'),
      { program: 'cat', args: ['/dev/zero'] },
    ])
    const steps = random.pick<Step[]>([
      [],
      [cat],
      [asIs, cat],
      [sh('cat | cat'), asIs],
      [cat, asIs, cat, cat],
    ])
    setTimeout(() => controller.abort(reason), random.int(0, 60))
    const error = await failureOf(flow(source, steps, ctx))
    assert.equal(error, reason, `round ${round}`)
    assertNothingRuns(ctx)
  }
})

test('a flow that is already aborted starts nothing', async () => {
  const reason = new Error('too late')
  const ctx = testContext({ signal: AbortSignal.abort(reason) })
  assert.equal(await failureOf(flow(sh(`echo > ${ctx.dir}/started`), [cat], ctx)), reason)
  assert.deepEqual(readdirSync(ctx.dir), [])
})

test('an input that heeds nothing does not hold up an abort for ever', async () => {
  const controller = new AbortController()
  const ctx = testContext({ signal: controller.signal })
  setTimeout(() => controller.abort(new Error('enough')), 50)
  assert.match((await failureOf(flow(stuck(), [cat], ctx))).message, /enough/)
  assertNothingRuns(ctx)
})

test('200 flows with programs, and 1000 without, leave no listener, timer, file descriptor or process', async () => {
  const ctx = testContext()
  let listeners = 0
  const counted = new Proxy(ctx.signal, {
    get(signal, key) {
      if (key === 'addEventListener') listeners++
      if (key === 'removeEventListener') listeners--
      const value: unknown = Reflect.get(signal, key, signal)
      return typeof value === 'function' ? value.bind(signal) : value
    },
  })
  const once = async (n: number): Promise<void> => {
    const inner = { ...ctx, signal: counted }
    if (n % 4 === 0) await failureOf(flow(failingAfter(9), [], inner))
    else await collect(flow(chunked(new Uint8Array(100)), [asIs, cat], inner))
  }
  await once(1)
  const before = { fds: handles(), timers: timers(), children: children() }
  for (let n = 0; n < 200; n += 8) await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(once))
  for (let n = 0; n < 1000; n++)
    await collect(flow(chunked(new Uint8Array(9)), [asIs], { ...ctx, signal: counted }))
  assert.equal(listeners, 0)
  await until(() => handles() <= before.fds, `${handles()} file descriptors, ${before.fds} before`)
  await until(() => timers() <= before.timers, 'timers are left')
  assert.equal(children(), before.children)
})

test('random chains end normally exactly when everything in them succeeded, with the bytes of the input', async () => {
  for (let round = 0; round < rounds; round++) {
    const random = randomFrom(1000 + round)
    const ctx = testContext()
    const bytes = random.bytes(random.pick([0, 1, 1000, 200_000, 700_000]))
    let fails = false
    const steps = Array.from({ length: random.int(0, 4) }, (): Step => {
      const kind = random.pick(['cat', 'cat', 'as-is', 'rechunk', 'throws', 'exit', 'two'])
      if (kind === 'cat') return cat
      if (kind === 'as-is') return asIs
      if (kind === 'rechunk') return rechunk(random.int(1, 100_000))
      if (kind === 'two') return sh(`head -c ${bytes.byteLength}; cat`)
      fails = true
      if (kind === 'exit') return sh('cat; exit 1')
      return throwing(random.int(0, bytes.byteLength))
    })
    const input = chunked(bytes, random.int(1000, 100_000))
    const ended = await collect(flow(input, steps, ctx)).catch((error: unknown) => error)
    const label = `round ${round}: ${steps.map(step => ('args' in step ? step.args.join(' ') : step.name)).join(' | ')}`
    if (fails) assert.ok(ended instanceof Error, label)
    else assert.ok(ended instanceof Buffer && ended.equals(bytes), `${label}: ${ended}`)
    assertNothingRuns(ctx)
  }
})

function rechunk(size: number): Step {
  return {
    name: 'rechunk',
    async *run(input) {
      for await (const chunk of input) yield* chunked(chunk, size)
    },
  }
}

function throwing(after: number): Step {
  return {
    name: 'throws',
    async *run(input) {
      let seen = 0
      for await (const chunk of input) {
        seen += chunk.byteLength
        if (seen > after) break
        yield chunk
      }
      throw new Error('a transform has failed')
    },
  }
}

async function failureOf(stream: AsyncIterable<unknown>): Promise<Error> {
  try {
    for await (const _ of stream);
  } catch (error) {
    assert.ok(error instanceof Error)
    return error
  }
  return assert.fail('the stream has ended normally')
}

/** Bytes that this process has read from anywhere; by its threads, because a process also has what its children read. */
function bytesRead(): number {
  const threads = readdirSync('/proc/self/task')
  const counts = threads.map(
    id => /^rchar: (\d+)/m.exec(readFileSync(`/proc/self/task/${id}/io`, 'utf8'))?.[1],
  )
  return counts.reduce((sum, count) => sum + Number(count), 0)
}

function handles(): number {
  return readdirSync('/proc/self/fd').length
}

function timers(): number {
  return process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
}

function children(): number {
  return readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim().split(' ').filter(Boolean)
    .length
}
