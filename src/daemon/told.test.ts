import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openState } from '../platform/state.ts'
import { noteTold, wasJustTold } from './told.ts'

test('the same message is told again after an hour, another one at once, and after a clock that was ahead too', t => {
  const folder = mkdtempSync(join(tmpdir(), 'cairn-told-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const state = openState({ CAIRN_STATE: folder })
  const now = new Date()
  const later = (minutes: number): Date => new Date(now.getTime() + minutes * 60_000)
  assert.equal(wasJustTold('a', state, now), false)
  noteTold('a', state, now)
  assert.equal(wasJustTold('a', state, later(59)), true)
  assert.equal(wasJustTold('b', state, later(59)), false)
  assert.equal(wasJustTold('a', state, later(60)), false)
  assert.equal(wasJustTold('a', state, later(-1)), false)
})
