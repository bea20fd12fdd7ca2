import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { faulty } from '../../test/support/faulty-store.ts'
import { keysOf, testJob, wholeBackup } from '../../test/support/job.ts'
import { type Random, randomFrom, rounds } from '../../test/support/random.ts'
import { syntheticSource } from '../../test/support/synthetic-source.ts'
import type { Context } from '../model/context.ts'
import { Failure } from '../model/failure.ts'
import type { Destination, Retention } from '../model/job.ts'
import { manifestPrefix, markPrefix } from '../model/key.ts'
import type { Manifest } from '../model/manifest.ts'
import type { Begin } from '../model/mark.ts'
import type { Store } from '../model/store.ts'
import { memoryStore } from '../stores/memory.ts'
import { backup } from './backup.ts'
import { type Copy, isIncomplete, isLive, readCatalog } from './catalog.ts'
import { copyBackup } from './copy.ts'
import { markEverywhere, putMark, undeletableUntil } from './marking.ts'
import { collect } from './objects.ts'
import { applyPrune, planPrune } from './prune.ts'
import { readManifest } from './stated.ts'
import { sweepMarks } from './sweep.ts'

const dir = testContext().dir

const day = 24 * 3_600_000
const job = { name: 'shop', formerly: [], zone: 'UTC', undeleteMs: 7 * day }

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

test('three weeks of incomplete backups leave the last complete ones, and every copy says what it is', async () => {
  const { store, ctx, made, prune, later } = await daily(3)
  const lack = new Failure({ what: 'cannot read uploads', why: 'it does not exist' })
  const source = syntheticSource({ artifacts: [{ name: 'a', bytes: 1000 }], missing: [lack] })
  for (let n = 0; n < 21; n++) {
    later(day)
    const [outcome] = await backup(testJob(source, [store]), 'synthetic:1', ctx)
    assert.deepEqual(outcome?.manifest?.missing, ['cannot read uploads: it does not exist'])
  }
  await prune()
  later(8 * day)
  const { failures } = await prune()
  assert.deepEqual(failures, [])
  const { entries } = await readCatalog([store], null, ctx)
  assert.deepEqual(
    entries.map(entry => isIncomplete(entry)),
    [true, true, false, false],
  )
  assert.deepEqual(
    entries.slice(2).map(({ id }) => id),
    made.slice(0, 2).map(({ id }) => id),
  )
  const [newest] = entries
  assert.ok(newest)
  const { manifest, file } = await readManifest(newest.copies[0] as Copy, ctx)
  const other = memoryStore('other')
  const begin: Begin = {
    ...{ cairn: 1, id: manifest.id, job: 'shop', host: 'here', startedAt: manifest.startedAt },
    ...{ expires: manifest.startedAt, prefixes: [`shop/${manifest.id}/`], parent: null },
  }
  await copyBackup(manifest, file, [store], { store: other, keep: {} }, begin, ctx)
  assert.deepEqual((await readCatalog([other], null, ctx)).entries.map(isIncomplete), [true])
})

test('the announced deletion of the last complete backup waits while only incomplete ones are left', async () => {
  const { store, ctx, made, prune, later } = await daily(1)
  const lack = new Failure({ what: 'cannot read uploads', why: 'it does not exist' })
  const source = syntheticSource({ artifacts: [{ name: 'a', bytes: 1000 }], missing: [lack] })
  later(day)
  await backup(testJob(source, [store]), 'synthetic:1', ctx)
  await putMark(store, made[0]?.id ?? '', 'delete', {}, ctx)
  later(8 * day)
  const { actions, reasons } = await prune()
  assert.deepEqual(actions, ['keep', 'wait'])
  assert.equal(reasons[1], 'it is the last complete one')
})

test('a backup that is held while others are removed stays', async () => {
  const { store, ctx, made, to } = await daily(3)
  const [, second, oldest] = (await readCatalog([store], null, ctx)).entries
  assert.ok(second && oldest)
  const held = [second, oldest]
  const remove: Store['remove'] = async (key, version, ctx) => {
    // Whichever is removed first, the other one is held meanwhile.
    const other = held.find(({ id }) => !key.includes(id))
    if (other && held.length === 2) {
      held.splice(held.indexOf(other), 1)
      await markEverywhere(other, 'hold', {}, ctx)
    }
    return await store.remove(key, version, ctx)
  }
  const meanwhile = { ...to, keep: { last: 1 }, store: { ...store, remove } }
  const catalog = await readCatalog([meanwhile.store], [job.name], ctx)
  const steps = await planPrune({ ...job, undeleteMs: 0 }, meanwhile, catalog, ctx)
  assert.deepEqual(
    steps.map(({ action }) => action),
    ['keep', 'delete', 'delete'],
  )
  assert.deepEqual(await applyPrune(steps, ctx), [])
  assert.equal((await listed(store, ctx)).length, 2)
  assert.ok((await listed(store, ctx)).includes(made[0]?.id ?? '?'))
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

test('marks of which some are removed when the prune is killed go with the next one, where nothing had been announced too', async () => {
  const { store, ctx, made, to } = await daily(2)
  const [, old] = (await readCatalog([store], null, ctx)).entries
  assert.ok(old)
  await markEverywhere(old, 'hold', {}, ctx)
  await markEverywhere(old, 'release', {}, ctx)
  let marks = 0
  const remove: Store['remove'] = async (key, version, ctx) => {
    if (key.startsWith(markPrefix) && ++marks > 1) throw new Error('killed')
    return await store.remove(key, version, ctx)
  }
  // As a listing may answer that knows no order: what was said last comes first.
  const list: Store['list'] = async function* (prefix, ctx) {
    yield* (await Array.fromAsync(store.list(prefix, ctx))).toReversed()
  }
  const dying = { ...to, keep: { last: 1 }, store: { ...store, remove, list } }
  const steps = await planPrune(
    { ...job, undeleteMs: 0 },
    dying,
    await readCatalog([dying.store], [job.name], ctx),
    ctx,
  )
  assert.equal((await applyPrune(steps, ctx)).length, 1)
  assert.ok((await sweepMarks(store, ctx)) > 0)
  assert.equal((await keysOf(store, ctx)).filter(key => key.includes(made[1]?.id ?? '?')).length, 0)
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
  const locked = { ...to, store: { ...store, remove: async () => 'locked' as const } }
  const { failures, actions } = await prune(locked)
  assert.deepEqual([failures, actions], [[], ['keep', 'keep', 'delete']])
  assert.ok(ctx.events.some(event => event.type === 'warning' && /has locked shop/.test(event.why)))
  assert.ok((await keysOf(store, ctx)).some(key => key.startsWith(`shop/${made[2]?.id}/`)))
})

test('a store whose clock was behind and is put right has no deletion carried out before its time', async () => {
  const { store, ctx, prune, later, to } = await daily(4)
  const behind = new Date(ctx.clock.now().getTime() - 12 * 3_600_000)
  const slow = { ...to, store: Object.assign(store, { now: async () => behind }) }
  assert.equal((await prune(slow)).actions.at(-1), 'mark')
  later(7 * day - 3_600_000)
  behind.setTime(ctx.clock.now().getTime())
  assert.equal((await prune(slow)).actions.at(-1), 'wait')
})

test('with a clock that is ahead of the store no announced deletion is carried out before its time', async () => {
  const { store, ctx, made, prune, later, to } = await daily(4)
  assert.deepEqual((await prune()).actions, ['keep', 'keep', 'mark', 'mark'])
  const real = ctx.clock.now()
  later(400 * day)
  const behind = { ...to, store: Object.assign(store, { now: async () => real }) }
  const { actions, reasons } = await prune(behind)
  assert.deepEqual(actions, ['keep', 'keep', 'wait', 'wait'])
  assert.match(reasons[3] ?? '', /can be taken back until/)
  assert.equal((await keysOf(store, ctx, `shop/${made[3]?.id}`)).length > 0, true)
  real.setTime(real.getTime() + 8 * day)
  assert.deepEqual((await prune(behind)).actions, ['keep', 'keep', 'delete', 'delete'])
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

test('the time in which a deletion can be taken back stands in its mark, whatever others have configured', async () => {
  const { store, ctx, made, prune, later } = await daily(3)
  await prune()
  later(6 * day)
  const hasty = { ...job, undeleteMs: 0 }
  const to: Destination = { store, keep: { last: 2 } }
  const steps = await planPrune(hasty, to, await readCatalog([store], [job.name], ctx), ctx)
  assert.deepEqual(
    steps.map(({ action }) => action),
    ['keep', 'keep', 'wait'],
  )
  const { entries } = await readCatalog([store], null, ctx)
  const [copy] = entries.find(({ id }) => id === made[2]?.id)?.copies ?? []
  assert.ok(copy)
  const until = await undeletableUntil(copy, made[2]?.id ?? '', 0, ctx)
  assert.equal(until?.getTime(), (copy.marks.deletedAt?.getTime() ?? 0) + 7 * day)
})

test('the mark of an older Cairn, which says no time, is good for the time that is configured', async () => {
  const { store, ctx, made, prune, later } = await daily(3)
  await putMark(store, made[2]?.id ?? '', 'delete', { reason: 'last 2' }, ctx)
  later(6 * day)
  assert.deepEqual((await prune()).actions, ['keep', 'keep', 'wait'])
  later(2 * day)
  assert.deepEqual((await prune()).actions, ['keep', 'keep', 'delete'])
})

test('a thousand manifests are read sixteen at a time, each once', async () => {
  const { store, ctx, to } = await daily(1)
  const [first] = await keysOf(store, ctx, '.cairn/v1/manifests/')
  assert.ok(first)
  const catalog = await readCatalog([store], null, ctx)
  const [entry] = catalog.entries
  assert.ok(entry)
  let reading = 0
  let most = 0
  let reads = 0
  const watched: Destination['store'] = {
    ...store,
    get: async function* (...args) {
      if (args[0].startsWith(manifestPrefix)) reads++
      most = Math.max(most, ++reading)
      yield* store.get(...args)
      reading--
    },
  }
  const copies = entry.copies.map(copy => ({ ...copy, store: watched }))
  const thousand = Array.from({ length: 1000 }, () => ({ ...entry, copies }))
  await planPrune(job, { ...to, store: watched }, { entries: thousand, silent: [] }, ctx)
  assert.deepEqual([reads, most], [1000, 16])
})

/** The store, with every operation begun at another time: the hosts that use it interleave in many ways. */
function jittery(store: Store, random: Random): Store {
  const wait = async (): Promise<void> => {
    for (let n = random.int(0, 6); n > 0; n--) await new Promise(resolve => setImmediate(resolve))
  }
  return {
    ...store,
    put: async (...args) => {
      await wait()
      return await store.put(...args)
    },
    get: async function* (...args) {
      await wait()
      yield* store.get(...args)
    },
    list: async function* (...args) {
      await wait()
      yield* store.list(...args)
    },
    remove: async (...args) => {
      await wait()
      return await store.remove(...args)
    },
  }
}

test(`two hosts with one job name that back up and prune at once never prune each other (${rounds * 10} rounds)`, async () => {
  for (let seed = 1; seed <= rounds * 10; seed++) {
    const random = randomFrom(seed)
    const shared = memoryStore('shared')
    const keep = random.pick<Retention>([{ last: 2 }, { last: 1, daily: 2 }, { withinMs: 1000, hourly: 2 }])
    const start = Date.parse('2026-11-21T00:00Z')
    const runHost = async (host: string): Promise<{ made: Manifest[]; ctx: Context }> => {
      let now = start + random.int(-600_000, 600_000)
      const ctx = testContext({ dir, clock: { now: () => new Date(now) } })
      const store = jittery(shared, random)
      const own = { ...job, undeleteMs: random.pick([0, 3_600_000]) }
      const source = syntheticSource({ artifacts: [{ name: 'a', bytes: 10 }], identity: `synthetic:${host}` })
      const made: Manifest[] = []
      for (let n = 0; n < 4; n++) {
        made.unshift(wholeBackup(await backup(testJob(source, [store]), host, ctx)))
        now += 3_700_000
        const catalog = await readCatalog([store], [job.name], ctx)
        const failures = await applyPrune(await planPrune(own, { store, keep }, catalog, ctx), ctx)
        assert.deepEqual(failures, [], `seed ${seed}`)
        await sweepMarks(store, ctx)
      }
      return { made, ctx }
    }
    const hosts = await Promise.all([runHost('one'), runHost('two')])
    for (const { made, ctx } of hosts) {
      const { entries } = await readCatalog([shared], null, ctx)
      for (const { id } of made.slice(0, keep.last === 1 ? 1 : 2)) {
        const entry = entries.find(each => each.id === id)
        assert.ok(entry && isLive(entry), `seed ${seed}: ${id} is gone`)
        const { manifest } = await readManifest(entry.copies[0] as Copy, ctx)
        for (const { key } of manifest.artifacts.flatMap(({ objects }) => objects))
          assert.ok((await collect(shared.get(key, {}, ctx))).byteLength > 0, `seed ${seed}: ${key}`)
      }
    }
  }
})
