import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import {
  asIs,
  assertNothingRuns,
  cat,
  chunked,
  failingAfter,
  processWith,
  sh,
  silent,
  stuck,
} from '../../test/support/processes.ts'
import { randomFrom, rounds } from '../../test/support/random.ts'
import type { Context } from '../model/context.ts'
import { exitCode, Failure } from '../model/failure.ts'
import type { Bytes, Program, Step } from '../model/step.ts'
import { flow, pour } from './flow.ts'

process.on('unhandledRejection', error => {
  throw error
})

/** Keeps what it gets in the folder, and notes that it saw the end. */
function recorder(ctx: Context): Program {
  return sh(`cat > ${ctx.dir}/data; echo > ${ctx.dir}/end`)
}

function recorded(ctx: Context): { data: Buffer; sawEnd: boolean } {
  const file = join(ctx.dir, 'data')
  // It may have been killed before it could begin.
  const data = existsSync(file) ? readFileSync(file) : Buffer.alloc(0)
  return { data, sawEnd: existsSync(join(ctx.dir, 'end')) }
}

test('a program gets prologue, bytes and epilogue in this order, whatever their sizes and wherever they come from', async () => {
  for (const size of [0, 1, 65536, 3 << 20]) {
    const [prologue, middle, epilogue] = [randomBytes(size), randomBytes(size), randomBytes(size)]
    const expected = Buffer.concat([prologue, middle, epilogue])
    for (const steps of [[], [asIs], [cat], [cat, cat], [cat, asIs], [asIs, cat]]) {
      for (const from of ['bytes', 'program']) {
        const ctx = testContext()
        writeFileSync(join(ctx.dir, 'source'), middle)
        const program = { program: 'cat', args: [join(ctx.dir, 'source')] }
        const source = from === 'bytes' ? chunked(middle) : program
        await pour(source, steps, recorder(ctx), ctx, { prologue: chunked(prologue, 999_999), epilogue })
        assert.ok(recorded(ctx).data.equals(expected), `${size} B from ${from} through ${steps.length} steps`)
        assert.ok(recorded(ctx).sawEnd)
        assertNothingRuns(ctx)
      }
    }
  }
})

test('programs begin only when the kernel has the whole prologue, also while nobody reads it', async () => {
  // Small chunks, around the size of the pipe: the last of them fit into our own buffer, and nothing would wait for them.
  const sizes = Array.from({ length: 12 }, (_, n) => 80_000 + n * 15_000)
  const poured = sizes.map(async size => {
    const ctx = testContext()
    const prologue = randomBytes(size)
    const slow = sh(`sleep 0.5; cat > ${ctx.dir}/data`)
    await pour(sh('echo the data'), [], slow, ctx, { prologue: chunked(prologue, 3_000) })
    assert.ok(recorded(ctx).data.equals(Buffer.concat([prologue, Buffer.from('the data\n')])), `${size} B`)
  })
  await Promise.all(poured)
})

test('a program that is poured into never sees the end when something upstream fails, at whatever byte', async () => {
  async function* broken(bytes: number): Bytes {
    yield* chunked(new Uint8Array(bytes))
    throw new Error('the disk is on fire')
  }
  for (const bytes of [0, 1, 500_000, 1_000_000]) {
    const chains: [Program | Bytes, Step[]][] = [
      [failingAfter(bytes), []],
      [failingAfter(bytes), [cat]],
      [failingAfter(bytes), [asIs]],
      [failingAfter(bytes), [cat, asIs, cat]],
      [failingAfter(bytes), [sh('cat; true'), sh('cat; true')]],
      [broken(bytes), []],
      [broken(bytes), [cat]],
      [broken(bytes), [cat, asIs]],
    ]
    for (const [from, steps] of chains) {
      const ctx = testContext()
      const framing = { prologue: chunked(Buffer.from('BEGIN;')), epilogue: Buffer.from('COMMIT;') }
      await assert.rejects(pour(from, steps, recorder(ctx), ctx, framing), /disk is on fire/)
      assert.equal(recorded(ctx).sawEnd, false)
      assert.ok(!recorded(ctx).data.includes('COMMIT'))
      assertNothingRuns(ctx)
    }
  }
})

test('the failure of the program that is poured into is told, not the broken pipes before it', async () => {
  const picky = sh('head -c 1000 >/dev/null; echo "relation does not exist" >&2; exit 3')
  const endless = { program: 'cat', args: ['/dev/zero'] }
  const chains: [Program | Bytes, Step[]][] = [
    [endless, []],
    [endless, [cat, cat]],
    [endless, [asIs]],
    [endless, [asIs, cat]],
    [chunked(new Uint8Array(1e7)), []],
    [stuck(new Uint8Array(5000)), []],
    [stuck(new Uint8Array(5000)), [cat]],
    [sh('head -c 5000 /dev/zero; exec sleep 1000'), []],
    [sh('head -c 5000 /dev/zero; exec sleep 1000'), [asIs]],
  ]
  const told = chains.map(async ([from, steps]) => {
    const ctx = testContext()
    await assert.rejects(pour(from, steps, picky, ctx), /relation does not exist/)
    assertNothingRuns(ctx)
  })
  await Promise.all(told)
})

test('a program that fails after everything was poured fails the whole', async () => {
  const fails = sh('cat >/dev/null; echo "cannot commit" >&2; exit 1')
  await assert.rejects(pour(chunked(new Uint8Array(9)), [cat], fails, testContext()), /cannot commit/)
  await assert.rejects(pour(cat, [], fails, testContext()), /cannot commit/)
})

test('a program that ends well before its end was shown, but after the last byte, has done its work', async () => {
  const ctx = testContext()
  const slowEnd = sh('head -c 1000 /dev/zero; sleep 0.2')
  await pour(slowEnd, [], sh('head -c 1000 >/dev/null'), ctx)
  await pour(slowEnd, [asIs], sh('head -c 1000 >/dev/null'), ctx)
})

test('a program that ends well without having read the epilogue has failed', async () => {
  const ctx = testContext()
  const leaves = sh(`echo $$ > ${ctx.dir}/pid; exec head -c 1000 >/dev/null`)
  // Ends when that program is gone, and no earlier: an epilogue that is in its pipe before nobody can miss.
  const waits = `until [ -s ${ctx.dir}/pid ] && ! kill -0 "$(cat ${ctx.dir}/pid)" 2>/dev/null; do sleep 0.05; done`
  const framing = { epilogue: Buffer.from('COMMIT;') }
  await assert.rejects(
    pour(sh(`head -c 1000 /dev/zero; ${waits}`), [], leaves, ctx, framing),
    /it stopped reading before the end/,
  )
})

test('a large epilogue into a slow program does not stop this process', async () => {
  const ctx = testContext()
  // The pipe has little room, and blocks, when the epilogue is written; it is read when this process says so, or much later.
  const waits = `n=0; until [ -e ${ctx.dir}/go ] || [ $n = 400 ]; do sleep 0.05; n=$((n + 1)); done; echo $n > ${ctx.dir}/waited`
  const slow = sh(`${waits}; cat > ${ctx.dir}/data`)
  setTimeout(() => writeFileSync(join(ctx.dir, 'go'), ''), 1_000)
  const epilogue = randomBytes(5 << 20)
  await pour(sh('head -c 60000 /dev/zero'), [], slow, ctx, { epilogue })
  assert.ok(readFileSync(join(ctx.dir, 'data')).subarray(60_000).equals(epilogue))
  assert.notEqual(readFileSync(join(ctx.dir, 'waited'), 'utf8'), '400\n')
})

test('a missing program is a usage failure before anything was started, also when it is the last one', async () => {
  const ctx = testContext()
  const missing = { program: 'no-such-program', args: [] }
  const marks = sh(`echo started > ${ctx.dir}/started`)
  for (const [steps, into] of [[[], missing] as const, [[missing], marks] as const]) {
    await assert.rejects(
      pour(marks, steps, into, ctx),
      (error: unknown) => error instanceof Failure && error.exit === exitCode.usage,
    )
  }
  assert.deepEqual(readdirSync(ctx.dir), [])
})

test('an abort while pouring, at any moment, kills the program before it sees the end, and is the error', async () => {
  for (let round = 0; round < rounds; round++) {
    const random = randomFrom(round)
    const controller = new AbortController()
    const ctx = testContext({ signal: controller.signal })
    const reason = new Error(`abort of round ${round}`)
    const from = random.pick([silent, { program: 'cat', args: ['/dev/zero'] }, sh('sleep 1000 | cat')])
    const steps = random.pick<Step[]>([[], [cat], [asIs], [cat, asIs, cat]])
    const into = sh(`cat > /dev/null; echo > ${ctx.dir}/end`)
    const prologue = chunked(new Uint8Array(random.int(0, 500_000)))
    setTimeout(() => controller.abort(reason), random.int(0, 60))
    await assert.rejects(pour(from, steps, into, ctx, { prologue }), error => error === reason)
    assert.deepEqual(readdirSync(ctx.dir), [])
    assertNothingRuns(ctx)
  }
})

test('an abort while the program works on what it got stops it', async () => {
  const controller = new AbortController()
  const ctx = testContext({ signal: controller.signal })
  const busy = sh('cat >/dev/null; exec sleep 999')
  const poured = assert.rejects(pour(cat, [], busy, ctx), /enough/)
  await processWith('sleep 999', ctx)
  controller.abort(new Error('enough'))
  await poured
  assertNothingRuns(ctx)
})

test('a flow can be poured, and fails as it would have failed', async () => {
  const ctx = testContext()
  await pour(flow(sh('echo hello'), [cat], ctx), [cat], recorder(ctx), ctx)
  assert.equal(recorded(ctx).data.toString(), 'hello\n')
  const failing = testContext()
  await assert.rejects(
    pour(flow(failingAfter(9), [cat], failing), [asIs], recorder(failing), failing),
    /on fire/,
  )
  assert.equal(recorded(failing).sawEnd, false)
})

test('a program that may end early may leave the rest, which must still be right', async () => {
  const ctx = testContext()
  const head = { program: 'head', args: ['-c', '1000'], endsEarly: true }
  async function* rest(end: () => void): AsyncGenerator<Uint8Array, void, undefined> {
    for (let n = 0; n < 200; n++) yield Buffer.alloc(64 * 1024)
    end()
  }
  let read = false
  await pour(
    rest(() => {
      read = true
    }),
    [],
    head,
    ctx,
  )
  assert.equal(read, true)
  const broken = rest(() => {
    throw new Error('the digest is wrong')
  })
  await assert.rejects(pour(broken, [], head, ctx), /the digest is wrong/)
  await assert.rejects(
    pour(
      rest(() => {}),
      [],
      { ...head, endsEarly: false },
      ctx,
    ),
    /stopped reading/,
  )
})
