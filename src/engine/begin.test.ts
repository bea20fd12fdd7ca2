import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { keysOf, testJob, wholeBackup } from '../../test/support/job.ts'
import { syntheticSource } from '../../test/support/synthetic-source.ts'
import type { Context } from '../model/context.ts'
import { beginKey, beginPrefix, dataPrefix, markPrefix } from '../model/key.ts'
import type { Source } from '../model/source.ts'
import type { Store } from '../model/store.ts'
import { memoryStore } from '../stores/memory.ts'
import { backup } from './backup.ts'
import { expiryFrom, sayRunning, timeIn } from './begin.ts'
import { sweepOrphans } from './sweep.ts'

const day = 24 * 3_600_000

/** A source of one unit that is read to its end only when `go` resolves; `reading` is called before. */
function slow(reading: () => void, go: Promise<void>): Source {
  const source = syntheticSource({ artifacts: [{ name: 'a', bytes: 1000 }] })
  return {
    ...source,
    async open(...args) {
      const session = await source.open(...args)
      return {
        ...session,
        async *artifacts() {
          for await (const artifact of session.artifacts()) {
            reading()
            await go
            yield artifact
          }
        },
        finish: () => session.finish(),
        census: () => session.census(),
        [Symbol.asyncDispose]: () => session[Symbol.asyncDispose](),
      }
    },
  }
}

test('a backup that runs for weeks is not taken for dead by other hosts, and one that died is', async () => {
  const begun = Promise.withResolvers<void>()
  const go = Promise.withResolvers<void>()
  let now = Date.now()
  const ctx = testContext({ clock: { now: () => new Date(now) } })
  const store = memoryStore('one')
  mock.timers.enable({ apis: ['setInterval'] })
  try {
    const running = backup(testJob(slow(begun.resolve, go.promise), [store]), 'here', ctx)
    await begun.promise
    const data = 'data of the running one'
    const [key = ''] = await keysOf(store, ctx, beginPrefix)
    const id = key.split('/').at(-1)?.replace('.json', '') ?? ''
    await store.put(`${dataPrefix('shop', id)}0009-other`, Buffer.from(data), {}, ctx)
    for (let days = 0; days < 20; days++) {
      now += day
      mock.timers.tick(day)
      assert.equal(await sweepOrphans(store, 'shop', 'there', ctx), 0)
    }
    // Its host has died: it says nothing any more.
    const died = now + 7 * day + 1
    const later = testContext({ clock: { now: () => new Date(died) } })
    const dead = await copyOf(store, ctx)
    assert.equal(await sweepOrphans(dead, 'shop', 'there', later), 1)
    assert.deepEqual(await keysOf(dead, ctx), [])
    go.resolve()
    assert.equal(wholeBackup(await running).id, id)
    mock.timers.tick(30 * day)
    const marks = await keysOf(store, ctx, `${markPrefix}${id}/`)
    assert.equal(marks.length, 20)
  } finally {
    mock.timers.reset()
  }
})

async function copyOf(store: Store, ctx: Context): Promise<Store> {
  const copy = memoryStore('copy')
  for (const key of await keysOf(store, ctx)) {
    const chunks: Uint8Array[] = []
    for await (const chunk of store.get(key, {}, ctx)) chunks.push(chunk)
    await copy.put(key, Buffer.concat(chunks), {}, ctx)
  }
  return copy
}

async function sayForADay(store: Store, ctx: Context): Promise<void> {
  mock.timers.enable({ apis: ['setInterval'] })
  try {
    await using _saying = sayRunning('20261121T020000Z-aaaaaaaa', () => [store], ctx)
    mock.timers.tick(day)
  } finally {
    mock.timers.reset()
  }
}

test('a store that does not take that a backup is running is told, and nothing else fails', async () => {
  const ctx = testContext()
  const store: Store = { ...memoryStore('full'), put: () => Promise.reject(new Error('no space')) }
  await sayForADay(store, ctx)
  assert.match(JSON.stringify(ctx.events), /cannot say in full that it is still running.*no space/)
})

test('a store that never answers does not keep a backup from its end', { timeout: 30_000 }, async () => {
  const ctx = testContext({ stallMs: 50 })
  const store: Store = { ...memoryStore('silent'), put: () => new Promise(() => {}) }
  const alive = setInterval(() => {}, 1000)
  await sayForADay(store, ctx).finally(() => clearInterval(alive))
  assert.match(JSON.stringify(ctx.events), /cannot say in silent that it is still running/)
})

test('a clock that is ahead of the store takes no running backup for dead', async () => {
  const real = new Date()
  const ctx = testContext()
  const store: Store = { ...memoryStore('one'), now: async () => real }
  const id = '20261121T020000Z-aaaaaaaa'
  const begin = {
    ...{ cairn: 1, id, job: 'shop', host: 'there', startedAt: real.toISOString() },
    ...{ expires: expiryFrom(real), prefixes: [dataPrefix('shop', id)], parent: null },
  }
  await store.put(beginKey('shop', id), Buffer.from(JSON.stringify(begin)), {}, ctx)
  const ahead = testContext({ clock: { now: () => new Date(real.getTime() + 400 * day) } })
  assert.equal(await sweepOrphans(store, 'shop', 'here', ahead), 0)
  const { now: _, ...silent } = store
  assert.equal(await sweepOrphans(silent, 'shop', 'here', ahead), 1)
})

test('a store tells its time in whole seconds, which does not make it one that is behind', async () => {
  const ours = new Date('2026-01-03T04:05:06.700Z')
  const ctx = testContext({ clock: { now: () => ours } })
  const at = (time: string): Promise<Date> =>
    timeIn({ ...memoryStore('one'), now: async () => new Date(time) }, ctx)
  assert.deepEqual(await at('2026-01-03T04:05:06Z'), ours)
  assert.deepEqual(await at('2026-01-03T04:05:09Z'), ours)
  assert.deepEqual(await at('2026-01-03T04:00:00Z'), new Date('2026-01-03T04:00:01Z'))
})
