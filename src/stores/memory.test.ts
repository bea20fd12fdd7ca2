import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { collect, type Opened, storeContract } from '../../test/support/store-contract.ts'
import { Failure } from '../model/failure.ts'
import { AlreadyExists, NotFound } from '../model/store.ts'
import { type MemoryStore, memoryStore, weakStore } from './memory.ts'

storeContract('memory', async () => opened(memoryStore('memory')))
storeContract('memory with locks', async () => opened(memoryStore('memory', { lock: true })))
storeContract('memory that overwrites', async () => opened(memoryStore('memory', { exclusive: false })))
storeContract('memory that can only be written to', async () => opened(weakStore('weak')))

function opened(store: MemoryStore): Opened {
  return {
    store,
    reader: store.owner,
    leftovers: async () => [],
    facts: async key => store.versions(key).at(-1) ?? {},
  }
}

const bytes = (text: string): Uint8Array => Buffer.from(text)
const ctx = testContext()

async function* dying(): AsyncGenerator<Uint8Array> {
  yield bytes('half')
  throw new Error('the body failed')
}

test('removing without a version leaves a delete marker behind which the bytes stay', async () => {
  const store = memoryStore('memory', { versions: true })
  const { version = '' } = await store.put('a', bytes('x'), {}, ctx)
  assert.equal(await store.remove('a', undefined, ctx), 'locked')
  await assert.rejects(collect(store.get('a', {}, ctx)), NotFound)
  assert.deepEqual(await Array.fromAsync(store.list('', ctx)), [])
  assert.equal(`${await collect(store.get('a', { version }, ctx))}`, 'x')
  const marker = store.versions('a').at(-1)
  assert.equal(marker?.bytes, null)
  assert.equal(await store.remove('a', undefined, ctx), 'absent')
  assert.equal(await store.remove('a', marker?.version, ctx), 'removed')
  assert.equal(`${await collect(store.get('a', {}, ctx))}`, 'x')
})

test('a key under a delete marker is free', async () => {
  const store = memoryStore('memory', { versions: true })
  await store.put('a', bytes('first'), {}, ctx)
  await store.remove('a', undefined, ctx)
  await store.put('a', bytes('second'), {}, ctx)
  assert.equal(`${await collect(store.get('a', {}, ctx))}`, 'second')
  assert.equal(store.versions('a').length, 3)
})

test('a lock in either mode holds until its date, and moves to a later date only', async () => {
  for (const mode of ['governance', 'compliance'] as const) {
    let now = new Date('2030-01-01T00:00:00Z')
    const later = testContext({ clock: { now: () => now }, dir: ctx.dir })
    const store = memoryStore('memory', { lock: true })
    const until = new Date('2030-01-08T00:00:00Z')
    const { version = '' } = await store.put('a', bytes('x'), { lock: { mode, until } }, later)
    assert.equal(await store.remove('a', version, later), 'locked')
    const earlier = await store.lockUntil?.('a', version, now, later)
    assert.deepEqual(earlier, until)
    now = new Date('2030-01-08T00:00:01Z')
    assert.equal(await store.remove('a', version, later), 'removed')
  }
})

test('a lock is refused where there are none', async () => {
  const lock = { mode: 'governance', until: new Date('2030-01-08') } as const
  const store = memoryStore('memory')
  await assert.rejects(store.put('a', bytes('x'), { lock }, ctx), Failure)
  assert.deepEqual(store.versions('a'), [])
})

test('a store that can only be written to says so', async () => {
  const store = weakStore('weak')
  await store.put('a', bytes('x'), {}, ctx)
  const refusal = { name: 'Failure', why: 'this store can only be written to' }
  await assert.rejects(collect(store.get('a', {}, ctx)), refusal)
  await assert.rejects(Array.fromAsync(store.list('', ctx)), refusal)
  await assert.rejects(store.remove('a', undefined, ctx), refusal)
  assert.equal(`${await collect(store.owner.get('a', {}, ctx))}`, 'x')
})

test('where partial objects show, a put that dies leaves one, and a whole one takes its place', async () => {
  const store = memoryStore('memory', { hidesPartial: false, exclusive: false })
  await assert.rejects(store.put('a', dying(), {}, ctx), /the body failed/)
  assert.equal(`${await collect(store.get('a', {}, ctx))}`, 'half')
  await store.put('a', bytes('whole'), {}, ctx)
  assert.equal(`${await collect(store.get('a', {}, ctx))}`, 'whole')
})

test('where partial objects show, what a dead put left takes the key', async () => {
  const store = memoryStore('memory', { hidesPartial: false })
  await assert.rejects(store.put('a', dying(), {}, ctx), /the body failed/)
  await assert.rejects(store.put('a', bytes('whole'), {}, ctx), AlreadyExists)
})

test('an object larger than the store allows is refused', async () => {
  const store = memoryStore('memory', { maxObjectBytes: 3 })
  await store.put('a', bytes('abc'), {}, ctx)
  await assert.rejects(store.put('b', bytes('abcd'), {}, ctx), Failure)
  await assert.rejects(store.put('c', dying(), {}, ctx), Failure)
  assert.equal((await Array.fromAsync(store.list('', ctx))).length, 1)
})

test('bytes that the caller changes after the put are not changed in the store', async () => {
  const store = memoryStore('memory')
  const body = bytes('before')
  await store.put('a', body, {}, ctx)
  body.fill(0)
  assert.equal(`${await collect(store.get('a', {}, ctx))}`, 'before')
})
