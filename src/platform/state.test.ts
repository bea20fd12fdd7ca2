import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { takeLock } from './lock.ts'
import { openState, type State } from './state.ts'

function freshState(t: TestContext): State {
  const folder = mkdtempSync(join(tmpdir(), 'cairn-state-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return openState({ CAIRN_STATE: folder })
}

test('a damaged entry of the journal hides no other one, and can be removed', t => {
  const { journal, path } = freshState(t)
  journal.write('containers.shop', { since: 'now' })
  writeFileSync(join(path, 'journal/hooks.shop.json'), '')
  assert.deepEqual(
    journal.entries().toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    [
      { name: 'containers.shop', entry: { since: 'now' } },
      { name: 'hooks.shop', entry: null },
    ],
  )
  journal.remove('hooks.shop')
  assert.equal(journal.entries().length, 1)
})

test('a lock whose holder cannot be written down is held all the same, and given back', async t => {
  const path = freshState(t).lockPath('shop')
  mkdirSync(`${path}.holder`)
  const lock = await takeLock(path, 'job shop')
  await assert.rejects(takeLock(path, 'job shop'), /job shop is locked: .*holder unknown/)
  lock[Symbol.dispose]()
  ;(await takeLock(path, 'job shop'))[Symbol.dispose]()
})
