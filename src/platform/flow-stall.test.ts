import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { testContext } from '../../test/support/context.ts'
import {
  asIs,
  assertNothingRuns,
  cat,
  chunked,
  collect,
  processWith,
  sh,
  silent,
  stuck,
} from '../../test/support/processes.ts'
import type { Context } from '../model/context.ts'
import type { Bytes, Program, Step } from '../model/step.ts'
import { flow, pour } from './flow.ts'
import { Stalled } from './stall.ts'

process.on('unhandledRejection', error => {
  throw error
})

const endless: Program = { program: 'cat', args: ['/dev/zero'] }
/** Reads nothing, writes nothing. */
const idle: Program = { program: 'tail', args: ['-f', '/dev/null'] }

test('a silent source is named, whatever comes after it', async () => {
  const cases: [Program | Bytes, Step[], string][] = [
    [silent, [], 'sleep'],
    [silent, [cat, cat], 'sleep'],
    [silent, [asIs, cat], 'sleep'],
    [sh('head -c 500000 /dev/zero; sleep 1000; true'), [cat, asIs], 'sh'],
    [stuck(), [], 'the input'],
    [stuck(new Uint8Array(100_000)), [cat, asIs, cat], 'the input'],
    [endless, [cat, hanging('rot13')], 'rot13'],
    [endless, [hanging('rot13'), cat], 'rot13'],
  ]
  await Promise.all(
    cases.map(([from, steps, culprit]) => assertStalls(ctx => read(flow(from, steps, ctx)), culprit)),
  )
})

test('a program that neither reads nor writes is named, wherever it is', async () => {
  const cases: [Program | Bytes, Step[]][] = [
    [idle, [cat]],
    [endless, [idle]],
    [endless, [idle, cat]],
    [endless, [cat, idle, cat]],
    [endless, [asIs, cat, idle, cat, asIs]],
    [chunked(new Uint8Array(5e6)), [idle]],
    [chunked(new Uint8Array(5e6)), [cat, idle]],
  ]
  await Promise.all(cases.map(([from, steps]) => assertStalls(ctx => read(flow(from, steps, ctx)), 'tail')))
})

test('a sink that does not read is named, and so is a silent source before one that would', async () => {
  const cases: [Program | Bytes, Step[], Program, string][] = [
    [endless, [], idle, 'tail'],
    [endless, [cat, asIs], idle, 'tail'],
    [endless, [asIs, cat], idle, 'tail'],
    [chunked(new Uint8Array(5e6)), [], idle, 'tail'],
    // Everything was poured, and the program does not end.
    [sh('echo'), [cat], sh('cat >/dev/null; exec sleep 1000'), 'sh'],
    [silent, [cat], cat, 'sleep'],
    [stuck(), [], cat, 'the input'],
  ]
  await Promise.all(
    cases.map(([from, steps, into, culprit]) => assertStalls(ctx => pour(from, steps, into, ctx), culprit)),
  )
})

test('a frozen program is named, and not those who wait for it', async () => {
  const yes: Program = { program: 'yes', args: [] }
  const tee: Program = { program: 'tee', args: [] }
  const chains: [Program, Step[], string][] = [
    [yes, [cat, asIs, cat], 'yes'],
    [endless, [tee, cat], 'tee'],
    [endless, [cat, tee], 'tee'],
  ]
  const stalls = chains.map(([from, steps, culprit]) =>
    assertStalls(async ctx => {
      const [reading] = await Promise.allSettled([
        read(flow(from, steps, ctx)),
        processWith(culprit, ctx).then(pid => process.kill(pid, 'SIGSTOP')),
      ])
      if (reading.status === 'rejected') throw reading.reason
    }, culprit),
  )
  await Promise.all(stalls)
})

test('a reader that asks for no more is no stall of the source', async () => {
  const ctx = testContext({ stallMs: 1_000 })
  const pausing = async (steps: Step[]): Promise<void> => {
    let chunks = 0
    for await (const _ of flow(chunked(new Uint8Array(3e6)), [cat, ...steps], ctx))
      if (chunks++ === 2) await sleep(2_500)
    assert.ok(chunks > 2)
  }
  await Promise.all([[], [cat], [asIs], [cat, asIs, cat]].map(pausing))
})

test('programs that move bytes among themselves have not stalled, although nothing comes out', async () => {
  const drips = sh('for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo; sleep 0.25; done')
  const ctx = testContext({ stallMs: 2_000 })
  assert.equal((await collect(flow(drips, [sh('wc -l')], ctx))).toString().trim(), '12')
  await pour(drips, [cat], sh('cat >/dev/null'), ctx)
  await pour(chunked(await collect(flow(drips, [], ctx)), 1), [asIs], sh('cat >/dev/null'), ctx)
})

test('alive extends the time, and only for as long as it is called', async () => {
  const ctx = testContext({ stallMs: 300 })
  let last = 0
  const timer = setInterval(() => {
    ctx.alive('CREATE INDEX at 40 %')
    last = performance.now()
  }, 50)
  setTimeout(() => clearInterval(timer), 900)
  await assert.rejects(read(flow(silent, [cat], ctx)), /sleep has stalled/)
  // Without the end of the calls it would never have come to that.
  const silence = performance.now() - last
  assert.ok(silence >= 290, `${silence} ms`)
  await sleep(0)
  assertNothingRuns(ctx)
})

async function read(bytes: Bytes): Promise<void> {
  for await (const _ of bytes);
}

/** A transform that takes one chunk and then neither asks nor gives. */
function hanging(name: string): Step {
  return {
    name,
    async *run(input) {
      for await (const chunk of input) {
        yield chunk
        yield* stuck()
      }
    },
  }
}

async function assertStalls(work: (ctx: Context) => Promise<unknown>, culprit: string): Promise<void> {
  const ctx = testContext({ stallMs: 3_000 })
  const error = await work(ctx).then(
    () => assert.fail(`${culprit} has not stalled`),
    (thrown: unknown) => thrown,
  )
  assert.ok(error instanceof Stalled, `${error}`)
  assert.equal(error.what, `${culprit} has stalled`)
  assertNothingRuns(ctx)
}
