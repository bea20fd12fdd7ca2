import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { memoryStore } from '../stores/memory.ts'
import { whereElse } from './astray.ts'

const id = '20261122T010203Z-abcdefgh'
const manifest = `.cairn/v1/manifests/data/${id}.files.files.none.1.0123456789abcdef.files.json`
const data = `data/${id}/0001-data.tar.zst`

/** What is said of a store with these keys. */
async function said(...keys: string[]): Promise<string | null> {
  const ctx = testContext()
  const store = memoryStore('disk')
  for (const key of keys) await store.put(key, Buffer.from('x'), {}, ctx)
  return await whereElse(store, ctx)
}

test('who looks a folder or a prefix too high, too low, or into half a copy, hears where the backups are', async () => {
  assert.match((await said(`deep/er/${data}`, `deep/er/${manifest}`)) ?? '', /a store below it, in deep\/er$/)
  for (const above of ['.cairn/', '.cairn/v1/'])
    assert.match((await said(manifest.slice(above.length))) ?? '', /look one folder or prefix higher/)
  assert.match((await said(data)) ?? '', /without the folder \.cairn/)
  assert.match((await said(data.slice('data/'.length), 'readme')) ?? '', /without the folder \.cairn/)
})

test('a store with backups, with nothing, or with other things says nothing', async () => {
  assert.equal(await said(data, manifest, `copy/${manifest}`), null)
  assert.equal(await said(), null)
  assert.equal(await said('photos/v1/manifests/readme', '2026/0001-x'), null)
})

test('a store that cannot be listed says nothing', async () => {
  assert.equal(await whereElse(memoryStore('disk', { list: false }), testContext()), null)
})
