import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import {
  asIs,
  assertNothingRuns,
  cat,
  chunked,
  failingAfter,
  sh,
  silent,
} from '../../test/support/processes.ts'
import { save } from './flow.ts'

test('programs write the file by themselves, and it is whole', async () => {
  for (const steps of [[], [cat], [cat, cat], [asIs], [cat, asIs, cat]]) {
    const ctx = testContext()
    const path = join(ctx.spool, 'file')
    const bytes = randomBytes(3 << 20)
    assert.equal(await save(chunked(bytes), steps, path, ctx), bytes.length)
    assert.ok(readFileSync(path).equals(bytes))
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assertNothingRuns(ctx)
  }
  const ctx = testContext()
  const before = bytesRead()
  assert.equal(await save(sh('head -c 100000000 /dev/zero'), [cat], join(ctx.spool, 'file'), ctx), 1e8)
  assert.ok(bytesRead() - before < 1e6)
})

test('what fails, stalls or is aborted leaves no file, and no program', async () => {
  const failing = [
    { from: failingAfter(0), why: /on fire/ },
    { from: failingAfter(1_000_000), why: /on fire/ },
    { from: sh('head -c 1000000 /dev/zero; sleep 60'), why: /has stalled/ },
    { from: silent, why: /has stalled/ },
  ]
  for (const steps of [[], [cat], [asIs]])
    for (const { from, why } of failing) {
      const ctx = testContext({ stallMs: 400 })
      await assert.rejects(save(from, steps, join(ctx.spool, 'file'), ctx), why)
      assert.deepEqual(readdirSync(ctx.spool), [])
      assertNothingRuns(ctx)
    }
  const controller = new AbortController()
  const ctx = testContext({ signal: controller.signal })
  setTimeout(() => controller.abort(new Error('told to stop')), 200)
  await assert.rejects(save(sh('cat /dev/zero'), [cat], join(ctx.spool, 'file'), ctx), /told to stop/)
  assert.deepEqual(readdirSync(ctx.spool), [])
  assertNothingRuns(ctx)
})

test('a file that is there is not touched', async () => {
  const ctx = testContext()
  const path = join(ctx.spool, 'file')
  writeFileSync(path, 'old')
  await assert.rejects(save(sh('echo new'), [], path, ctx), { code: 'EEXIST' })
  assert.equal(readFileSync(path, 'utf8'), 'old')
})

/** By all our threads, and by nobody whom we have waited for. */
function bytesRead(): number {
  const counts = readdirSync('/proc/self/task').map(
    id => /^rchar: (\d+)/m.exec(readFileSync(`/proc/self/task/${id}/io`, 'utf8'))?.[1],
  )
  return counts.reduce((sum, count) => sum + Number(count), 0)
}
