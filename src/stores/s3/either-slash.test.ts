import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../../test/support/context.ts'
import { collect } from '../../../test/support/store-contract.ts'
import type { Store } from '../../model/store.ts'
import { memoryStore } from '../memory.ts'
import { eitherSlash } from './either-slash.ts'
import { BadRequest } from './error.ts'

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

test('on a server that refuses the slash, everything is written, read, locked and removed without it', async () => {
  const bare = memoryStore('bare')
  const refuse = (): never => {
    throw new BadRequest({ what: 'cannot write', why: 'InvalidArgument, HTTP 400' })
  }
  const refusing: Store = {
    ...memoryStore('slashed'),
    put: async () => refuse(),
    remove: async () => refuse(),
    // biome-ignore lint/correctness/useYield: it fails before there is anything
    async *get() {
      refuse()
    },
  }
  const writer = eitherSlash(refusing, bare)
  await writer.put('.cairn/begin', Buffer.from('{}'), {}, ctx)
  await writer.put('shop', stream('dump'), {}, ctx)
  const reader = eitherSlash(refusing, bare)
  assert.equal(String(await collect(reader.get('shop', {}, ctx))), 'dump')
  assert.deepEqual(await keysOf(reader.list('.cairn/', ctx)), ['.cairn/begin'])
  assert.equal(await eitherSlash(refusing, bare).remove('shop', undefined, ctx), 'removed')
  assert.deepEqual(await keysOf(bare.list('', ctx)), ['.cairn/begin'])
})

test('what refuses an object with and without the slash is not asked for the others without', async () => {
  const bare = memoryStore('bare')
  const slashed = memoryStore('slashed')
  const bad = async (): Promise<never> => {
    throw new BadRequest({ what: 'cannot write', why: 'InvalidRequest, HTTP 400' })
  }
  const state = { bad: true }
  const moody = (store: Store): Store => ({
    ...store,
    put: (...args) => (state.bad ? bad() : store.put(...args)),
  })
  const store = eitherSlash(moody(slashed), moody(bare))
  await assert.rejects(store.put('begin', Buffer.from('{}'), {}, ctx), BadRequest)
  state.bad = false
  await store.put('shop', stream('dump'), {}, ctx)
  assert.deepEqual(await keysOf(slashed.list('', ctx)), ['shop'])
})

async function* stream(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text)
}
