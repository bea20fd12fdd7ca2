import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { testContext } from '../../test/support/context.ts'
import { stopped, until } from '../../test/support/processes.ts'
import { exitCode } from '../model/failure.ts'
import { beforeStall, Stalled, stall, watchForStall } from './stall.ts'

process.on('unhandledRejection', error => {
  throw error
})

const never = new Promise<never>(() => {})

test('a promise that settles in time is handed on as it is, and leaves no timer', async () => {
  const ctx = testContext({ stallMs: 50_000 })
  const before = timers()
  assert.equal(await beforeStall(Promise.resolve('value'), ctx, unasked), 'value')
  await assert.rejects(beforeStall(Promise.reject(new Error('its own')), ctx, unasked), /its own/)
  assert.equal(timers(), before)
})

test('silence is a failure that names the culprit and the time', async () => {
  const ctx = testContext({ stallMs: 60 })
  await assert.rejects(
    beforeStall(never, ctx, async () => 'store nas'),
    (error: unknown) =>
      error instanceof Stalled &&
      error.exit === exitCode.failed &&
      error.message === 'store nas has stalled: not a byte moved for 0.06 s',
  )
})

test('a culprit that cannot be found fails nothing but the name', async () => {
  const ctx = testContext({ stallMs: 30 })
  const fault = (): string => {
    throw new Error('a fault')
  }
  await assert.rejects(beforeStall(never, ctx, fault), /an unknown part has stalled/)
  await assert.rejects(
    beforeStall(never, ctx, async () => fault()),
    /an unknown part has stalled/,
  )
})

test('a promise that settles while the culprit is looked for has not stalled', async () => {
  const ctx = testContext({ stallMs: 30 })
  const value = await beforeStall(sleep(90, 'late'), ctx, () => sleep(150, 'nobody'))
  assert.equal(value, 'late')
  await sleep(100)
})

test('for the time in which we were stopped nobody is blamed: what came meanwhile was not seen', async () => {
  const ctx = testContext({ stallMs: 300 })
  const echo = spawn('sh', ['-c', 'sleep 0.2; echo on'])
  const said = beforeStall(once(echo.stdout, 'data'), ctx, unasked)
  const silent = beforeStall(never, ctx, () => 'it').catch((error: unknown) => error)
  let stalls = 0
  using _watch = watchForStall(
    ctx,
    () => 'the same',
    () => stalls++,
  )
  await stopped(1_000)
  const since = performance.now()
  assert.equal(`${await said}`, 'on\n')
  assert.equal(stalls, 0)
  // For the time that follows somebody is.
  assert.ok((await silent) instanceof Stalled)
  assert.ok(performance.now() - since >= 290)
  await until(() => stalls === 1, 'the watch has not told it')
})

test('alive starts the clock anew, for whoever shares it', async () => {
  const ctx = testContext({ stallMs: 150 })
  const timer = setInterval(() => ctx.alive('CREATE INDEX'), 20)
  assert.equal(await beforeStall(sleep(500, 'slow'), ctx, unasked), 'slow')
  clearInterval(timer)
  await assert.rejects(
    beforeStall(never, ctx, () => 'it'),
    Stalled,
  )
})

test('times beyond the longest timer are waited for, not cut to none', async () => {
  for (const stallMs of [2 ** 40, Number.POSITIVE_INFINITY]) {
    const ctx = testContext({ stallMs })
    assert.equal(await beforeStall(sleep(30, 'value'), ctx, unasked), 'value')
    let looks = 0
    const moved = (): string => `${looks++}`
    using _watch = watchForStall(ctx, moved, () => assert.fail('stalled'))
    await sleep(30)
    assert.equal(looks, 0)
  }
})

test('whoever watches is told once, when nothing moved and nobody was alive', async () => {
  const ctx = testContext({ stallMs: 100 })
  const started = performance.now()
  let stalls = 0
  const moving = (): string => `${Math.min(300, performance.now() - started)}`
  using _watch = watchForStall(ctx, moving, () => stalls++)
  await sleep(300)
  assert.equal(stalls, 0)
  await until(() => stalls > 0, 'the watch has not told it')
  await sleep(300)
  assert.equal(stalls, 1)
})

test('long times are told in minutes', () => {
  assert.match(stall('it', 90_000).why, / 90 s$/)
  assert.match(stall('it', 600_000).why, / 10 min$/)
})

function unasked(): never {
  assert.fail('nobody is to blame')
}

function timers(): number {
  return process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
}
