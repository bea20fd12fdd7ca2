import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { mounted } from '../../test/support/places.ts'
import { Config } from '../config/schema.ts'
import { oldScratch } from './scratch.ts'

const memory = '/dev/shm'

function storesAt(path: string): Config['stores'] {
  return Config.parse({ stores: { disk: { type: 'local', path } } }).stores
}

test('the old folder for dumps is used where it is mounted, can be written and holds no store', t => {
  if (statSync(memory).dev === statSync('/').dev) return t.skip(`${memory} is no mount`)
  const folder = mkdtempSync(join(memory, 'cairn-test-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const none = storesAt('/elsewhere')
  assert.equal(oldScratch(none, [join(folder, 'absent'), '/', '/dev/null', folder]), folder)
  assert.equal(oldScratch(none, [join(folder, 'absent'), '/']), null)
  for (const path of [folder, join(folder, 'shop')]) assert.equal(oldScratch(storesAt(path), [folder]), null)
  assert.equal(oldScratch(storesAt(`${folder}-2`), [folder]), folder)
})

test('one that cannot be written is passed over', t => {
  const folder = mounted(t, '-t', 'tmpfs', '-o', 'ro', 'tmpfs')
  if (folder) assert.equal(oldScratch(storesAt('/elsewhere'), [folder]), null)
})
