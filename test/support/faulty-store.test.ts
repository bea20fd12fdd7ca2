import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../../src/model/failure.ts'
import { NotFound, Transient } from '../../src/model/store.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { testContext } from './context.ts'
import { type Faults, faulty } from './faulty-store.ts'
import { collect, hostileBytes, inChunks } from './store-contract.ts'

const ctx = testContext()
const bytes = hostileBytes(10_000)

function broken(faults: Faults) {
  const memory = memoryStore('memory')
  return { memory, store: faulty(memory, faults) }
}

test('a planned put fails after its bytes, and the store under it cleans up as it does', async () => {
  for (const body of [bytes, inChunks(bytes, [999])]) {
    const { memory, store } = broken({ put: { failAfter: 5000 } })
    await assert.rejects(store.put('a', body, {}, ctx), Failure)
    assert.deepEqual(memory.versions('a'), [])
  }
})

test('a body shorter than the planned fault is stored', async () => {
  const { memory, store } = broken({ put: { failAfter: 10_001 } })
  await store.put('a', inChunks(bytes, [999]), {}, ctx)
  assert.deepEqual(await collect(memory.get('a', {}, ctx)), bytes)
})

test('a put that hangs stops reading, and ends when it is told to', async () => {
  const { store } = broken({ put: { hangAfter: 5000 } })
  const abort = new AbortController()
  const reason = new Error('given up')
  let read = 0
  async function* counted() {
    for await (const chunk of inChunks(bytes, [1000])) {
      read += chunk.byteLength
      yield chunk
    }
  }
  const put = store.put('a', counted(), {}, testContext({ signal: abort.signal, dir: ctx.dir }))
  setTimeout(() => abort.abort(reason), 50)
  await assert.rejects(put, error => error === reason)
  assert.equal(read, 5000)
})

test('a slow put takes its time', async () => {
  const { memory, store } = broken({ put: { bytesPerSecond: 50_000 } })
  const started = performance.now()
  await store.put('a', bytes, {}, ctx)
  assert(performance.now() - started > 150)
  assert.deepEqual(await collect(memory.get('a', {}, ctx)), bytes)
})

test('a planned read is cut, flipped, ended early or another object', async () => {
  const read = async (faults: Faults): Promise<Buffer> => {
    const { memory, store } = broken(faults)
    await memory.put('a', bytes, {}, ctx)
    await memory.put('b', Buffer.from('other'), {}, ctx)
    return collect(store.get('a', {}, ctx))
  }
  await assert.rejects(read({ get: { cutAfter: 5000 } }), Transient)
  assert.deepEqual(await read({ get: { endAfter: 5000 } }), bytes.subarray(0, 5000))
  assert.equal(`${await read({ get: { insteadOf: 'b' } })}`, 'other')
  const flipped = await read({ get: { flipBit: 8 * 7000 + 3 } })
  assert.equal((flipped[7000] ?? 0) ^ (bytes[7000] ?? 0), 8)
  flipped[7000] = bytes[7000] ?? 0
  assert.deepEqual(flipped, bytes)
  assert.deepEqual(await read({ get: { endAfter: 0 }, only: /^b/ }), bytes)
})

test('planned calls fail before or after their work, and the others do not', async () => {
  const { memory, store } = broken({ transient: { method: 'put', calls: [1, 3], when: 'after' } })
  await assert.rejects(store.put('a', bytes, {}, ctx), Transient)
  await store.put('b', bytes, {}, ctx)
  await assert.rejects(store.put('c', bytes, {}, ctx), Transient)
  assert.deepEqual(
    (await Array.fromAsync(memory.list('', ctx))).map(entry => entry.key),
    ['a', 'b', 'c'],
  )
  const before = broken({ transient: { method: 'put', calls: [1] } })
  await assert.rejects(before.store.put('a', bytes, {}, ctx), Transient)
  await assert.rejects(collect(before.memory.get('a', {}, ctx)), NotFound)
})

test('a planned listing breaks after so many entries', async () => {
  const { store } = broken({ list: { after: 1 } })
  await store.put('a', bytes, {}, ctx)
  await store.put('b', bytes, {}, ctx)
  const seen: string[] = []
  const list = async (): Promise<void> => {
    for await (const { key } of store.list('', ctx)) seen.push(key)
  }
  await assert.rejects(list(), Failure)
  assert.deepEqual(seen, ['a'])
})
