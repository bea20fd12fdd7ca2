import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { faulty } from '../../test/support/faulty-store.ts'
import { keysOf, testJob, wholeBackup } from '../../test/support/job.ts'
import { syntheticSource } from '../../test/support/synthetic-source.ts'
import type { Context } from '../model/context.ts'
import type { Destination } from '../model/job.ts'
import { manifestPrefix } from '../model/key.ts'
import type { Manifest } from '../model/manifest.ts'
import { memoryStore } from '../stores/memory.ts'
import { backup } from './backup.ts'
import { isLive, readCatalog } from './catalog.ts'
import { markEverywhere } from './marking.ts'
import { applyPrune, planPrune } from './prune.ts'
import { sweepMarks } from './sweep.ts'

const day = 24 * 3_600_000
const job = { name: 'shop', formerly: [], undeleteMs: 7 * day }

/** Backups a day apart, the last one now; and a clock that can be moved. */
async function daily(count: number, identity = 'synthetic:1', store = memoryStore('one')) {
  let now = Date.now() - (count - 1) * day
  const ctx = testContext({ clock: { now: () => new Date(now) } })
  const source = syntheticSource({ artifacts: [{ name: 'a', bytes: 1000 }], identity })
  const made: Manifest[] = []
  for (let n = 0; n < count; n++) {
    made.unshift(wholeBackup(await backup(testJob(source, [store]), identity, ctx)))
    if (n < count - 1) now += day
  }
  const to: Destination = { store, keep: { last: 2 } }
  const prune = async (dest: Destination = to) => {
    const steps = await planPrune(job, dest, await readCatalog([dest.store], [job.name], ctx), ctx)
    const failures = await applyPrune(steps, ctx)
    return { actions: steps.map(step => step.action), reasons: steps.map(step => step.reason), failures }
  }
  const later = (ms: number): void => {
    now += ms
  }
  return { store, ctx, made, prune, later, to }
}

async function listed(store: Destination['store'], ctx: Context): Promise<string[]> {
  return (await readCatalog([store], null, ctx)).entries.filter(isLive).map(entry => entry.id)
}

test('deletion is announced first, can be taken back, and is carried out when that time is over', async () => {
  const { store, ctx, made, prune, later } = await daily(4)
  assert.deepEqual((await prune()).actions, ['keep', 'keep', 'mark', 'mark'])
  assert.deepEqual(
    await listed(store, ctx),
    made.slice(0, 2).map(({ id }) => id),
  )
  const { entries } = await readCatalog([store], null, ctx)
  const back = entries.find(entry => entry.id === made[3]?.id)
  assert.ok(back)
  await markEverywhere(back, 'undelete', {}, ctx)
  await markEverywhere(back, 'hold', {}, ctx)
  assert.deepEqual((await prune()).actions, ['keep', 'keep', 'wait', 'keep'])
  later(8 * day)
  assert.deepEqual((await prune()).actions, ['keep', 'keep', 'delete', 'keep'])
  assert.deepEqual(await keysOf(store, ctx, `shop/${made[2]?.id}`), [])
  assert.equal((await keysOf(store, ctx)).filter(key => key.includes(made[2]?.id ?? '?')).length, 0)
})

test('a plan changes nothing', async () => {
  const { store, ctx, to } = await daily(3)
  const before = await keysOf(store, ctx)
  await planPrune(job, to, await readCatalog([store], [job.name], ctx), ctx)
  assert.deepEqual(await keysOf(store, ctx), before)
})

test('one manifest that cannot be read stops every deletion of the job, with the reason', async () => {
  const { store, ctx, made, prune } = await daily(4)
  const [damaged] = (await keysOf(store, ctx, manifestPrefix)).filter(key => key.includes(made[1]?.id ?? '?'))
  await store.put(damaged ?? '', Buffer.from('{}'), { replace: true }, ctx)
  const { actions, reasons } = await prune()
  assert.deepEqual(actions, ['keep', 'keep', 'keep', 'keep'])
  assert.match(reasons[3] ?? '', /another manifest of this job cannot be read/)
})

test('only what the catalog owns is deleted: strange keys beside and below stay', async () => {
  const { store, ctx, made, prune, later } = await daily(3)
  const strange = [
    'shop/notes.txt',
    `shop/${made[2]?.id}/mine.txt`,
    'other/0001-a.dump',
    `${manifestPrefix}shop/readme.txt`,
  ]
  for (const key of strange) await store.put(key, Buffer.from('mine'), {}, ctx)
  await prune()
  later(8 * day)
  assert.deepEqual((await prune()).actions, ['keep', 'keep', 'delete'])
  const left = await keysOf(store, ctx)
  for (const key of strange) assert.ok(left.includes(key), key)
})

test('killed between the deletions, a backup is never listed as whole, and the next prune finishes', async () => {
  const { store, ctx, made, prune, later, to } = await daily(3)
  await prune()
  later(8 * day)
  for (const only of [/^shop\//, /manifests\//, /marks\//]) {
    const stuck = { ...to, store: faulty(store, { remove: new Error('killed'), only }) }
    await prune(stuck)
    assert.ok(!(await listed(store, ctx)).includes(made[2]?.id ?? '?'), String(only))
  }
  await prune()
  await sweepMarks(store, ctx)
  assert.equal((await keysOf(store, ctx)).filter(key => key.includes(made[2]?.id ?? '?')).length, 0)
})

test('two hosts with one job name and different sources never prune each other', async () => {
  const first = await daily(3, 'synthetic:1')
  const second = await daily(3, 'synthetic:2', first.store)
  const { actions } = await second.prune()
  assert.equal(actions.filter(action => action === 'mark').length, 2)
  const left = await listed(first.store, first.ctx)
  for (const made of [first.made, second.made])
    assert.equal(made.filter(({ id }) => left.includes(id)).length, 2)
})

test('a locked object ends the deletion of its backup, and nothing of it is hidden by a delete marker', async () => {
  const store = memoryStore('locked', { lock: true, versions: true })
  const { ctx, made, prune, later, to } = await daily(3, 'synthetic:1', store)
  await prune()
  later(8 * day)
  const { failures } = await prune({ ...to, store: { ...store, remove: async () => 'locked' as const } })
  assert.match(failures[0]?.message ?? '', /is locked/)
  assert.ok((await keysOf(store, ctx)).some(key => key.startsWith(`shop/${made[2]?.id}/`)))
})

test('a deletion that was announced waits when the backup has become the last one', async () => {
  const { store, ctx, made, prune, later, to } = await daily(2)
  assert.deepEqual((await prune({ ...to, keep: { last: 1 } })).actions, ['keep', 'mark'])
  for (const key of await keysOf(store, ctx)) {
    if (key.includes(made[0]?.id ?? '?')) await store.remove(key, undefined, ctx)
  }
  later(8 * day)
  const { actions, reasons } = await prune({ ...to, keep: { last: 1 } })
  assert.deepEqual([actions, reasons], [['wait'], ['it is the last one']])
})
