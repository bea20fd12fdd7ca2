import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
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
      // Whoever is to fail by himself may take his time.
      const ctx = testContext(why.test('has stalled') ? { stallMs: 400 } : {})
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

test('a full disk fails, also where a program does not look whether its last bytes were written', async t => {
  const disk = fullDisk(t)
  if (!disk) return t.skip('only root can mount')
  const careless = sh('head -c 300000 /dev/zero 2>/dev/null; exit 0')
  for (const steps of [[], [cat], [asIs], [asIs, careless]]) {
    const ctx = testContext()
    await assert.rejects(save(careless, steps, join(disk, 'file'), ctx), /No space left|ENOSPC/)
    assert.deepEqual(readdirSync(disk), ['rest'])
    assertNothingRuns(ctx)
  }
})

/** A file system without a free block; null where it cannot be mounted. */
function fullDisk(t: TestContext): string | null {
  if (process.getuid?.() !== 0) return null
  const disk = mkdtempSync(join(tmpdir(), 'cairn-mount-'))
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk])
  t.after(() => {
    execFileSync('umount', [disk])
    rmdirSync(disk)
  })
  writeFileSync(join(disk, 'rest'), Buffer.alloc(1 << 20))
  return disk
}

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
