import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { capture } from '../../../test/support/capture.ts'
import { contextOf, folder } from '../../../test/support/places.ts'
import { pick, sourceOf } from '../../../test/support/trees.ts'
import { filesRestorer } from './restorer.ts'

const step = 'd'.repeat(200)

/** Folders in each other, so many that the lowest has a path longer than the system takes, with a file in every one. */
function deepTree(t: TestContext, steps: number): string {
  const dir = folder(t)
  // `sh` gets there as anybody does: step by step.
  const script = `i=0; while [ $i -lt ${steps} ]; do echo $i > in; mkdir ${step}; cd -P ${step} || exit 1; i=$((i+1)); done; echo end > in`
  execFileSync('sh', ['-c', script], { cwd: dir })
  return dir
}

test('what lies too deep for the system is told when it is saved, and does not keep all else from coming back', async t => {
  const dir = deepTree(t, 25)
  const to = folder(t)
  const ctx = contextOf(t)
  const { manifest, reader, facts } = await capture(sourceOf({ path: dir, name: 'it' }), ctx)
  assert.match(facts.warnings.map(({ what }) => what).join(), /members have paths of 4096 bytes and more/)
  const report = await filesRestorer({ to }).apply([manifest], pick, true, reader, ctx)
  assert.equal(report.isShort, true)
  assert.match(report.warnings.join(), /\d+ members are left out: their paths are too long/)
  assert.ok(existsSync(join(to, 'it', ...Array(15).fill(step), 'in')))
})
