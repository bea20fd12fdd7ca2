import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../../test/support/context.ts'
import { collect } from '../../../test/support/store-contract.ts'
import { memoryStore } from '../memory.ts'
import { eitherSlash } from './either-slash.ts'

const ctx = testContext()
const keysOf = async (keys: AsyncIterable<{ key: string }>): Promise<string[]> =>
  (await Array.fromAsync(keys)).map(({ key }) => key).sort()

test('keys are found with the slash and without, each is read and removed where it is, the slash wins', async () => {
  const [slashed, bare] = [memoryStore('slashed'), memoryStore('bare')]
  const store = eitherSlash(slashed, bare)
  await store.put('shop', Buffer.from('with'), {}, ctx)
  await store.put('.cairn/a', Buffer.from('ours'), {}, ctx)
  for (const key of ['shop', 'old', 'folder/old', '.cairn/b'])
    await bare.put(key, Buffer.from('without'), {}, ctx)
  assert.deepEqual(await keysOf(store.list('', ctx)), ['.cairn/a', 'old', 'shop'])
  assert.deepEqual(await keysOf(store.list('.cairn/', ctx)), ['.cairn/a'])
  assert.equal(String(await collect(store.get('shop', {}, ctx))), 'with')
  assert.equal(String(await collect(store.get('old', {}, ctx))), 'without')
  assert.equal(await store.remove('old', undefined, ctx), 'removed')
  assert.equal(await store.remove('shop', undefined, ctx), 'removed')
  assert.deepEqual(await keysOf(bare.list('', ctx)), ['.cairn/b', 'folder/old', 'shop'])
})

test('on a server that takes the slash off, everything is found without it', async () => {
  const kept = memoryStore('kept')
  const none = memoryStore('none')
  const stripping = {
    ...kept,
    list: none.list,
    ...(none.listVersions && { listVersions: none.listVersions }),
  }
  const store = eitherSlash(stripping, kept)
  await store.put('.cairn/v1/manifests/a', Buffer.from('{}'), {}, ctx)
  await store.put('shop', Buffer.from('x'), {}, ctx)
  assert.deepEqual(await keysOf(store.list('.cairn/v1/', ctx)), ['.cairn/v1/manifests/a'])
  assert.deepEqual(await keysOf(store.list('', ctx)), ['shop'])
  assert.equal(String(await collect(store.get('shop', {}, ctx))), 'x')
})
