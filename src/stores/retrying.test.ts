import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { type Faults, faulty } from '../../test/support/faulty-store.ts'
import { collect, hostileBytes, inChunks, storeContract } from '../../test/support/store-contract.ts'
import { exitCode, Failure } from '../model/failure.ts'
import { AlreadyExists, type Store, Transient } from '../model/store.ts'
import { memoryStore, weakStore } from './memory.ts'
import { retrying } from './retrying.ts'

const MiB = 1024 * 1024
const quick = { attempts: 3, baseMs: 1, jitter: 0 }

storeContract('retrying', async () => ({ store: retrying(memoryStore('memory'), quick) }))
storeContract('retrying over locks', async () => ({
  store: retrying(memoryStore('memory', { lock: true }), quick),
}))
storeContract('retrying over a bad line', async () => {
  const store = memoryStore('memory')
  const cut = faulty(store, { get: { cutAfter: 100_000 } })
  const broken = faulty(cut, { transient: { method: 'list', calls: [1, 2], when: 'after' } })
  return { store: retrying(losingAnswers(broken), quick), reader: store }
})

/** Every other put of a buffer arrives, but its answer does not. */
function losingAnswers(store: Store): Store {
  const calls = Array.from({ length: 500 }, (_, n) => 2 * n + 1)
  const lossy = faulty(store, { transient: { method: 'put', calls, when: 'after' } })
  return {
    ...store,
    put: (key, body, options, context) =>
      (body instanceof Uint8Array ? lossy : store).put(key, body, options, context),
  }
}

const ctx = testContext()
const x = Buffer.from('x')
const weak = (faults: Faults): Store => retrying(faulty(weakStore('weak'), faults), quick)
const watched = (): ReturnType<typeof testContext> => testContext({ dir: ctx.dir })

test('a read that breaks goes on where it was, as often as it gets further', async () => {
  const bytes = hostileBytes(2 * MiB + 1)
  const store = memoryStore('memory')
  await store.put('a', bytes, {}, ctx)
  const events = watched()
  const cut = retrying(faulty(store, { get: { cutAfter: 300_000 } }), quick)
  assert.deepEqual(await collect(cut.get('a', {}, events)), bytes)
  assert.equal(events.events.length, 6)
  const [warning] = events.events
  assert(warning?.type === 'warning')
  assert.match(warning.what, /reading a failed in the store memory/)
  assert.match(warning.why, /a planned fault/)
  assert.match(warning.remedy, /attempt 2 of 3/)
  assert.equal(warning.store, 'memory')
})

test('a read that breaks after the very last byte asks for nothing beyond the end', async () => {
  const bytes = hostileBytes(1000)
  const store = memoryStore('memory')
  await store.put('a', bytes, {}, ctx)
  const asked: unknown[] = []
  const spied: Store = {
    ...faulty(store, { get: { cutAfter: 1000 }, calls: [1] }),
  }
  const get = spied.get.bind(spied)
  const cut = retrying(
    {
      ...spied,
      get(key, options, context) {
        asked.push(options.range)
        return get(key, options, context)
      },
    },
    quick,
  )
  assert.deepEqual(await collect(cut.get('a', {}, ctx)), bytes)
  assert.deepEqual(asked, [undefined, [999, Number.MAX_SAFE_INTEGER - 1]])
  asked.length = 0
  const ranged = retrying(faulty(store, { get: { cutAfter: 11 } }), quick)
  assert.deepEqual(await collect(ranged.get('a', { range: [10, 20] }, ctx)), bytes.subarray(10, 21))
})

test('a range that breaks goes on within the range', async () => {
  const bytes = hostileBytes(MiB)
  const store = memoryStore('memory')
  await store.put('a', bytes, {}, ctx)
  const cut = retrying(faulty(store, { get: { cutAfter: 1000 } }), quick)
  assert.deepEqual(await collect(cut.get('a', { range: [5000, 9999] }, ctx)), bytes.subarray(5000, 10_000))
})

test('a read that never gets further fails with the store’s own error', async () => {
  const store = memoryStore('memory')
  await store.put('a', x, {}, ctx)
  const events = watched()
  const dead = retrying(faulty(store, { get: { cutAfter: 0 } }), quick)
  await assert.rejects(collect(dead.get('a', {}, events)), Transient)
  assert.equal(events.events.length, 2)
})

test('an object that changes while it is read is damage, not a mixture', async () => {
  const store = memoryStore('memory')
  await store.put('a', Buffer.alloc(MiB, 1), {}, ctx)
  await store.put('b', Buffer.alloc(MiB, 2), {}, ctx)
  let call = 0
  const changing: Store = {
    ...store,
    get: (key, options, context) =>
      ++call === 1
        ? faulty(store, { get: { cutAfter: 1000 } }).get(key, options, context)
        : store.get('b', options, context),
  }
  await assert.rejects(collect(retrying(changing, quick).get('a', {}, ctx)), { exit: exitCode.damaged })
})

test('what is no transient failure is not tried again', async () => {
  const error = new Error('refused')
  const store = memoryStore('memory')
  await store.put('a', x, {}, ctx)
  const events = watched()
  const bad = retrying(
    faulty(store, {
      remove: error,
      list: { error },
      get: { cutAfter: 0, error },
      put: { failAfter: 0, error },
    }),
    quick,
  )
  const same = (thrown: unknown): boolean => thrown === error
  await assert.rejects(bad.remove('a', undefined, events), same)
  await assert.rejects(Array.fromAsync(bad.list('', events)), same)
  await assert.rejects(collect(bad.get('a', {}, events)), same)
  await assert.rejects(bad.put('b', x, {}, events), same)
  assert.deepEqual(events.events, [])
})

test('a listing that breaks again and again gives each object once', async () => {
  const store = memoryStore('memory')
  const keys = Array.from({ length: 50 }, (_, n) => `key-${n}`)
  for (const key of keys) await store.put(key, x, {}, ctx)
  let round = 0
  const breaking: Store = {
    ...store,
    async *list(prefix, context) {
      round++
      let left = round * 9
      for await (const entry of store.list(prefix, context)) {
        if (left-- === 0) throw new Transient({ what: 'listing', why: 'the connection broke' })
        yield entry
      }
    },
  }
  const listed = await Array.fromAsync(retrying(breaking, quick).list('', ctx))
  assert.deepEqual(
    listed.map(entry => entry.key),
    keys,
  )
  assert.equal(round, 6)
})

test('removals and locks are tried again', async () => {
  const store = memoryStore('memory', { lock: true })
  const until = new Date(Date.now() + 3_600_000)
  const { version = '' } = await store.put('a', x, { lock: { mode: 'governance', until } }, ctx)
  const locking = retrying(faulty(store, { transient: { method: 'lockUntil', calls: [1] } }), quick)
  const later = new Date(until.getTime() + 1000)
  assert.deepEqual(await locking.lockUntil?.('a', version, later, ctx), later)
  const removing = retrying(faulty(store, { transient: { method: 'remove', calls: [1, 2] } }), quick)
  assert.equal(await removing.remove('a', version, ctx), 'locked')
})

test('a buffer whose first put arrived although its answer was lost is stored', async () => {
  const store = memoryStore('memory')
  const events = watched()
  const lossy = retrying(faulty(store, { transient: { method: 'put', calls: [1], when: 'after' } }), quick)
  assert.deepEqual(await lossy.put('a', Buffer.from('ours'), {}, events), { key: 'a', bytes: 4 })
  assert.equal(events.events.length, 1)
})

test('somebody else’s object under the key is not taken for ours after a lost answer', async () => {
  for (const theirs of ['them', 'our', 'ours!']) {
    const store = memoryStore('memory')
    await store.put('a', Buffer.from(theirs), {}, ctx)
    const lossy = retrying(faulty(store, { transient: { method: 'put', calls: [1] } }), quick)
    await assert.rejects(lossy.put('a', Buffer.from('ours'), {}, ctx), AlreadyExists)
  }
})

test('an object that is there at the first attempt is never taken for ours', async () => {
  const store = memoryStore('memory')
  await store.put('a', x, {}, ctx)
  await assert.rejects(retrying(store, quick).put('a', x, {}, ctx), AlreadyExists)
})

test('where nobody can read, only a key with the digest of the body proves that it is ours', async () => {
  const digest = createHash('sha256').update(x).digest('hex').slice(0, 16)
  const memory = (): Store =>
    retrying(
      faulty(memoryStore('write-only', { read: false, list: false, remove: false }), {
        transient: { method: 'put', calls: [1], when: 'after' },
      }),
      quick,
    )
  const named = `.cairn/v1/manifests/${digest}.json`
  assert.deepEqual(await memory().put(named, x, {}, ctx), { key: named, bytes: 1 })
  await assert.rejects(memory().put('begin.json', x, {}, ctx), (error: unknown) => {
    assert(error instanceof Failure && !(error instanceof Transient))
    assert.match(error.message, /cannot tell whether begin.json was stored/)
    return true
  })
})

test('where a put overwrites, it is simply repeated', async () => {
  const store = weak({ transient: { method: 'put', calls: [1, 2], when: 'after' } })
  assert.deepEqual(await store.put('a', x, {}, ctx), { key: 'a', bytes: 1 })
})

test('the put of a stream is not repeated', async () => {
  const store = retrying(faulty(memoryStore('memory'), { transient: { method: 'put', calls: [1] } }), quick)
  await assert.rejects(store.put('a', inChunks(x, [1]), {}, ctx), Transient)
})

test('an abort ends the wait with its reason', async () => {
  const reason = new Error('told to stop')
  const abort = new AbortController()
  const stopped = testContext({ signal: abort.signal, dir: ctx.dir, emit: () => abort.abort(reason) })
  const store = retrying(faulty(memoryStore('memory'), { transient: { method: 'remove', calls: [1] } }), {
    baseMs: 3_600_000,
  })
  await assert.rejects(store.remove('a', undefined, stopped), error => error === reason)
})
