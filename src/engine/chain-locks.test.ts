import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { keysOf, testJob, wholeBackup } from '../../test/support/job.ts'
import { syntheticSource } from '../../test/support/synthetic-source.ts'
import { exitCode } from '../model/failure.ts'
import type { Job } from '../model/job.ts'
import type { Chain } from '../model/manifest.ts'
import type { Store } from '../model/store.ts'
import { memoryStore } from '../stores/memory.ts'
import { backup } from './backup.ts'
import { readCatalog } from './catalog.ts'
import { exitOf } from './outcome.ts'

const day = 86_400_000
const lock = { mode: 'compliance', for: { months: 0, ms: 30 * day } } as const

/** A locking store, and backups into it that build upon each other, ten days apart. */
function chained(changes: Partial<Store> = {}) {
  let now = Date.parse('2026-11-21T02:00:00Z')
  const ctx = testContext({ clock: { now: () => new Date(now) } })
  const locking = memoryStore('locking', { lock: true, versions: true })
  const store = { ...locking, ...changes }
  const run = async (chain?: Chain, into: Store = store) => {
    const source = syntheticSource({
      artifacts: ['a', 'b'].map(name => ({ name, bytes: 1000 })),
      kind: chain ? 'incremental' : 'full',
      ...(chain ? { chain } : {}),
    })
    const job: Job = { ...testJob(source, []), to: [{ store: into, keep: {}, lock }] }
    const outcomes = await backup(job, 'here/1', ctx)
    const at = new Date(now)
    now += 10 * day
    return { outcomes, at }
  }
  /** Until when everything of a backup is locked, as the store says: the earliest date of all its objects. */
  const lockedUntil = async (id: string): Promise<Date> => {
    const keys = (await keysOf(locking, ctx)).filter(key => key.includes(id) && !key.includes('/begin/'))
    assert.ok(keys.length >= 5, String(keys))
    const dates = await Promise.all(keys.map(key => locking.lockUntil?.(key, undefined, new Date(0), ctx)))
    return new Date(Math.min(...dates.map(date => date?.getTime() ?? 0)))
  }
  return { ctx, store, locking, run, lockedUntil }
}

test('what a backup builds on is locked for as long as the backup itself, over the whole chain', async () => {
  const { run, lockedUntil } = chained()
  const full = wholeBackup((await run()).outcomes)
  const first = wholeBackup((await run({ parent: full.id, full: full.id, depth: 1 })).outcomes)
  const { outcomes, at } = await run({ parent: first.id, full: full.id, depth: 2 })
  const second = wholeBackup(outcomes)
  const until = new Date(at.getTime() + lock.for.ms)
  for (const { id } of [full, first, second]) assert.deepEqual(await lockedUntil(id), until, id)
})

test('where a lock cannot be moved there is no backup that would outlive what it needs', async () => {
  const { ctx, store, run } = chained()
  const full = wholeBackup((await run()).outcomes)
  const chain = { parent: full.id, full: full.id, depth: 1 }
  const { lockUntil: _lockUntil, ...without } = store
  const lying: Store = { ...store, lockUntil: async () => new Date(0) }
  const refusing: Store = { ...store, lockUntil: () => Promise.reject(new Error('AccessDenied')) }
  const blind: Store = { ...store, can: { ...store.can, list: false } }
  for (const [into, why] of [
    [without, /cannot be moved there/],
    [lying, /was asked for/],
    [refusing, /AccessDenied/],
    [blind, /cannot be moved there/],
  ] as const) {
    const { outcomes } = await run(chain, into)
    assert.equal(exitOf(outcomes), exitCode.failed)
    assert.match(outcomes[0]?.failures[0]?.message ?? '', why)
  }
  const missing = await run({ ...chain, parent: '20200101T000000Z-aaaaaaaa' })
  assert.match(missing.outcomes[0]?.failures[0]?.message ?? '', /on which the backup builds, is not there/)
  assert.equal((await readCatalog([store], null, ctx)).entries.length, 1)
})
