import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { testContext } from '../../test/support/context.ts'
import { faulty } from '../../test/support/faulty-store.ts'
import { keysOf, testJob, wholeBackup } from '../../test/support/job.ts'
import { syntheticSource } from '../../test/support/synthetic-source.ts'
import type { RunEvent } from '../model/event.ts'
import type { Store } from '../model/store.ts'
import { memoryStore } from '../stores/memory.ts'
import { backup } from './backup.ts'

const host = 'here/1'
const three = [
  { name: 'synthetic/App', bytes: 100_000 },
  { name: 'synthetic/app', bytes: 3 },
  { name: '../x', bytes: 0 },
]

test('an artifact that fails while the session still looks for the next one fails the backup, and nothing else', async () => {
  const ctx = testContext()
  const store = memoryStore('one')
  const artifacts = [
    { name: 'first', bytes: 10, breakAfter: { bytes: 0, how: 'throw' } as const },
    { name: 'second', bytes: 10 },
  ]
  const source = syntheticSource({ artifacts, concurrency: 2, msBeforeName: 50 })
  const [outcome] = await backup(testJob(source, [store]), host, ctx)
  assert.match(outcome?.failures[0]?.message ?? '', /first/)
  assert.deepEqual(
    source.observed.sessions.map(({ disposals }) => disposals),
    [1],
  )
  assert.deepEqual(await keysOf(store, ctx), [])
})

test('a source that fails before it is read is not waited for to count', async () => {
  const ctx = testContext()
  const plain = syntheticSource({ artifacts: three })
  const source: typeof plain = {
    ...plain,
    async open(...args) {
      return {
        ...(await plain.open(...args)),
        census: () => new Promise<never>(() => {}),
        // biome-ignore lint/correctness/useYield: it fails before the first
        async *artifacts() {
          throw new Error('nothing can be read')
        },
      }
    },
  }
  const began = performance.now()
  const [outcome] = await backup(testJob(source, [memoryStore('one')]), host, ctx)
  assert.ok(performance.now() - began < ctx.stallMs / 2)
  assert.match(outcome?.failures.join() ?? '', /nothing can be read/)
})

test('an artifact that fails stops those that are on their way beside it', async () => {
  const ctx = testContext()
  const slow = faulty(memoryStore('one'), { put: { bytesPerSecond: 1000 }, only: /\/0002-/ })
  const artifacts = [
    { name: 'first', bytes: 10, breakAfter: { bytes: 0, how: 'throw' } as const },
    { name: 'second', bytes: 50_000 },
  ]
  const began = performance.now()
  const [outcome] = await backup(testJob(syntheticSource({ artifacts, concurrency: 2 }), [slow]), host, ctx)
  assert.ok(performance.now() - began < ctx.stallMs / 2)
  assert.match(outcome?.failures[0]?.message ?? '', /first/)
})

test('when the data fails while the census is on its way, neither is left', async () => {
  const ctx = testContext()
  const store = memoryStore('one')
  const slow = faulty(store, { put: { bytesPerSecond: 500 }, only: /census/ })
  const artifacts = [{ name: 'a', bytes: 200_000, breakAfter: { bytes: 100_000, how: 'throw' as const } }]
  const [outcome] = await backup(testJob(syntheticSource({ artifacts }), [slow]), host, ctx)
  assert.equal(outcome?.manifest, null)
  await sleep(50)
  assert.deepEqual(await keysOf(store, ctx), [])
})

/** Fails when the census comes, a moment after the data has begun to. */
const failingLate = (): Store =>
  faulty(faulty(memoryStore('one'), { put: { failAfter: 1 }, only: /census/ }), {
    put: { bytesPerSecond: 500 },
    only: /census/,
  })

test('a store that fails one of several artifacts on their way is dropped once', async () => {
  const events: RunEvent[] = []
  const ctx = testContext({ emit: event => events.push(event) })
  const twice = faulty(failingLate(), { put: { failAfter: 200_000 }, only: /\/0001-/ })
  const slow = faulty(twice, { put: { bytesPerSecond: 400_000 }, only: /\/0001-/ })
  const artifacts = [{ name: 'a', bytes: 300_000 }]
  wholeBackup(await backup(testJob(syntheticSource({ artifacts }), [slow, memoryStore('two')]), host, ctx))
  assert.equal(events.filter(({ type }) => type === 'failure').length, 1)
})

test('when the only store fails one of several artifacts, nobody reads the others to their end', async () => {
  const events: RunEvent[] = []
  const ctx = testContext({ emit: event => events.push(event) })
  const slow = faulty(failingLate(), { put: { bytesPerSecond: 1000 }, only: /\/0001-/ })
  const artifacts = [{ name: 'a', bytes: 300_000 }]
  const began = performance.now()
  const [outcome] = await backup(testJob(syntheticSource({ artifacts }), [slow]), host, ctx)
  assert.ok(performance.now() - began < ctx.stallMs / 2)
  assert.match(outcome?.failures.join() ?? '', /after 1 bytes/)
  assert.equal(outcome?.failures.length, 1)
  assert.equal(events.filter(({ type }) => type === 'failure').length, 1)
})

test('a backup of much data has its census stored while the data is read', async () => {
  const ctx = testContext()
  const store = memoryStore('one')
  const put: string[] = []
  const watched: Store = {
    ...store,
    async put(key, body, options, inner) {
      const stored = await store.put(key, body, options, inner)
      put.push(/(?<=\/)(?:0000-census|0001-a)/.exec(key)?.[0] ?? '')
      return stored
    },
  }
  const slow = faulty(watched, { put: { bytesPerSecond: 1_000_000 }, only: /\/0001-a/ })
  const artifacts = [{ name: 'a', bytes: 300_000 }]
  wholeBackup(await backup(testJob(syntheticSource({ artifacts }), [slow]), host, ctx))
  assert.deepEqual(
    put.filter(name => name !== ''),
    ['0000-census', '0001-a'],
  )
})

test('with capture: spool, or what is spooled already, the source is let go before any store gets data', async () => {
  for (const capture of ['spool', 'stream'] as const) await letGoBeforeStored(capture)
})

async function letGoBeforeStored(capture: 'spool' | 'stream'): Promise<void> {
  const ctx = testContext()
  const plain = syntheticSource({ artifacts: three })
  let removed = 0
  const spooled = {
    async [Symbol.asyncDispose]() {
      removed++
    },
  }
  const source: typeof plain = {
    ...plain,
    async open(...args) {
      const session = await plain.open(...args)
      if (capture === 'spool') return session
      return {
        ...session,
        async *artifacts() {
          for await (const artifact of session.artifacts()) yield { ...artifact, spooled }
        },
      }
    },
  }
  const inner = memoryStore('slow')
  let heldWhileStoring = false
  const store = {
    ...inner,
    put: (...args: Parameters<typeof inner.put>) => {
      if (
        args[0].startsWith('shop/') &&
        !args[0].includes('census') &&
        source.observed.sessions.some(session => session.disposedAt === null)
      ) {
        heldWhileStoring = true
      }
      return inner.put(...args)
    },
  }
  wholeBackup(await backup(testJob(source, [store], { capture }), host, ctx))
  assert.equal(heldWhileStoring, false)
  assert.deepEqual(readdirSync(ctx.spool), [])
  assert.equal(removed, capture === 'spool' ? 0 : three.length)
}

test('a spool without room for what the source expects is refused before the source is opened', async () => {
  const ctx = testContext()
  const source = syntheticSource({ artifacts: three, estimate: 1e19 })
  const outcomes = await backup(testJob(source, [memoryStore('one')], { capture: 'spool' }), host, ctx)
  assert.match(outcomes[0]?.failures[0]?.why ?? '', /are needed/)
  assert.deepEqual(source.observed.sessions, [])
})

test('artifacts of a parallel session are read as many at once as it says, and recorded in its order', async () => {
  const ctx = testContext()
  const artifacts = Array.from({ length: 9 }, (_, n) => ({
    name: `part ${n}`,
    bytes: 50_000 - n,
    msPerChunk: (n * 7) % 5,
  }))
  const source = syntheticSource({ artifacts, concurrency: 3 })
  const manifest = wholeBackup(await backup(testJob(source, [memoryStore('one')]), host, ctx))
  assert.deepEqual(
    manifest.artifacts.slice(0, 9).map(({ name }) => name),
    artifacts.map(({ name }) => name),
  )
})
