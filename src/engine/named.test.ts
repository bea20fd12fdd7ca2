import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { keysOf, testJob } from '../../test/support/job.ts'
import { syntheticSource } from '../../test/support/synthetic-source.ts'
import type { Context } from '../model/context.ts'
import type { RunEvent } from '../model/event.ts'
import { exitCode, Failure } from '../model/failure.ts'
import type { Job } from '../model/job.ts'
import { patternNaming } from '../model/key.ts'
import { keyPattern } from '../model/key-pattern.ts'
import type { Source } from '../model/source.ts'
import { type Store, Unkept } from '../model/store.ts'
import { memoryStore } from '../stores/memory.ts'
import { backup } from './backup.ts'
import { type Catalog, readCatalog, resolve } from './catalog.ts'
import type { NamedObjects } from './foreign.ts'
import { markEverywhere } from './marking.ts'
import { untilOtherNames } from './moment.ts'
import { exitOf } from './outcome.ts'
import { applyPrune, planPrune } from './prune.ts'
import { pruneJob } from './prune-job.ts'
import { verifyCopy } from './verify.ts'

const day = 86_400_000

/** A job that names its objects, in a store, with a clock that can be moved. */
function place(text: string, changes: Partial<Job> = {}, store: Store = memoryStore('one')) {
  let now = Date.parse('2026-11-01T02:00:00Z')
  const ctx = testContext({ clock: { now: () => new Date(now) } })
  const pattern = keyPattern(text, { zone: 'UTC', plain: false })
  const job = (source: Source): Job =>
    testJob(source, [store], {
      naming: patternNaming(pattern, true),
      pattern,
      undeleteMs: 0,
      stages: [],
      ...changes,
    })
  const named: NamedObjects = {
    ...{ job: 'shop', stores: ['one'], pattern, engine: 'synthetic', media: 'sql', unit: 'shop', undo: '' },
    stages: [],
    facts: unit => ({ artifact: unit, options: {} }),
  }
  return {
    store,
    ctx,
    job,
    catalog: (): Promise<Catalog> => readCatalog([store], null, ctx, [named]),
    later: (ms: number) => {
      now += ms
    },
  }
}

const source = (more = {}) => syntheticSource({ artifacts: [{ name: 'a', bytes: 1000 }], ...more })

async function put(store: Store, key: string, ctx: Context, bytes = 10): Promise<void> {
  await store.put(key, Buffer.alloc(bytes), {}, ctx)
}

test('the object has its name, what goes with it lies aside, and it is listed once', async () => {
  const here = place('${DB}-%Y%m%d-%H%M%S.sql')
  await backup(here.job(source()), 'here', here.ctx)
  const keys = await keysOf(here.store, here.ctx)
  const [data = ''] = keys.filter(key => !key.startsWith('.cairn/'))
  assert.match(data, /^unit-20261101-020000\.sql/)
  assert.ok(keys.some(key => /^\.cairn\/v1\/data\/shop\/.*census/.test(key)))
  const { entries } = await here.catalog()
  assert.deepEqual(
    entries.map(({ kind }) => kind),
    ['logical'],
  )
})

test('where a server drops locks or tags, the backup is there, it is told once, and no lock is claimed', async () => {
  for (const extra of ['lock', 'tags'] as const) {
    const events: RunEvent[] = []
    const inner = memoryStore('one')
    const here = place('${DB}-%Y%m%d-%H%M%S.sql', {}, dropping(inner, extra))
    const lock = { mode: 'governance', for: { months: 0, ms: 3 * day } } as const
    const job = { ...here.job(source()), to: [{ store: here.store, keep: {}, lock, tags: { a: 'b' } }] }
    const outcomes = await backup(job, 'here', { ...here.ctx, emit: event => events.push(event) })
    assert.equal(exitOf(outcomes), exitCode.partial, outcomes[0]?.failures.join())
    assert.deepEqual(outcomes[0]?.stores, ['one'])
    assert.equal(outcomes[0]?.manifest?.lockedUntil !== undefined, extra === 'tags')
    assert.deepEqual(
      events.flatMap(event => (event.type === 'failure' ? [event.what] : [])),
      [`the ${extra} cannot be set`],
    )
    const { entries } = await here.catalog()
    assert.deepEqual(
      entries.map(({ kind }) => kind),
      ['logical'],
    )
  }
})

test('where a server drops tags, a job that names its objects in our way fails before it stores any data', async () => {
  const ctx = testContext()
  const store = dropping(memoryStore('one'), 'tags')
  const read = source()
  const [outcome] = await backup(testJob(read, [store]), 'here', ctx)
  assert.equal(outcome?.manifest, null)
  assert.match(outcome?.failures.join() ?? '', /the tags cannot be set/)
  assert.deepEqual(await keysOf(store, ctx, 'shop/'), [])
})

function dropping(store: Store, extra: 'lock' | 'tags'): Store {
  return {
    ...store,
    async put(key, body, { lock, ...options }, ctx) {
      const object = await store.put(key, body, options, ctx)
      throw new Unkept(
        new Failure({ what: `the ${extra} cannot be set`, why: 'it is refused' }),
        extra,
        object,
      )
    },
  }
}

test('an object without a manifest is a foreign backup with an id that stays, found by its name or a piece of it', async () => {
  const here = place('${DB}-%Y%m%d-%H%M%S.sql')
  await put(here.store, 'my-db-20250102-030405.sql.gz', here.ctx)
  await put(here.store, 'my-db-20250102.sql.gz', here.ctx)
  const [first, second] = [await here.catalog(), await here.catalog()]
  assert.deepEqual(
    first.entries.map(({ id }) => id),
    second.entries.map(({ id }) => id),
  )
  const [entry] = first.entries
  assert.ok(entry)
  assert.deepEqual(
    [entry.kind, entry.unit, entry.startedAt.toISOString()],
    ['foreign', 'my-db', '2025-01-02T03:04:05.000Z'],
  )
  const { pattern } = here.job(source())
  assert.ok(pattern)
  const named = [{ job: 'shop', pattern, unit: 'shop' } as NamedObjects]
  for (const handle of [
    'my-db-20250102-030405.sql.gz',
    'db/my-db-20250102-030405.sql',
    '20250102-030405',
    entry.id,
  ])
    assert.equal(resolve(first, handle, undefined, named).id, entry.id, handle)
  assert.throws(() => resolve(first, 'my-db', undefined, named), { exit: exitCode.noSuchBackup })
})

test('an object that holds nothing is no backup', async () => {
  const here = place('${DB}-%Y%m%d-%H%M%S.sql')
  await put(here.store, 'shop-20260901-030000.sql', here.ctx, 0)
  await put(here.store, 'shop-20260801-030000.sql', here.ctx, 1)
  assert.deepEqual(
    (await here.catalog()).entries.map(({ startedAt }) => startedAt.toISOString()),
    ['2026-08-01T03:00:00.000Z'],
  )
})

test('a source that takes everything back at the end leaves no object under the name', async () => {
  const here = place('${DB}-%s.sql')
  const [outcome] = await backup(here.job(source({ failIn: 'finish' })), 'here', here.ctx)
  assert.equal(outcome?.manifest, null)
  assert.deepEqual(await keysOf(here.store, here.ctx), [])
})

test('a store that takes nothing but the object keeps the backup', async () => {
  const inner = memoryStore('one')
  const store: Store = {
    ...inner,
    put: async (key, body, options, ctx) => {
      if (key.startsWith('.cairn/')) throw new Error('access denied')
      return await inner.put(key, body, options, ctx)
    },
  }
  const here = place('${DB}-%s.sql', {}, store)
  const [outcome] = await backup(here.job(source()), 'here', here.ctx)
  assert.deepEqual(outcome?.failures, [])
  assert.equal((await keysOf(store, here.ctx)).length, 1)
  assert.deepEqual(
    (await here.catalog()).entries.map(({ kind }) => kind),
    ['foreign'],
  )
})

test('one name for two units is refused before anything is read', async () => {
  const here = place('all-%s.sql')
  const two = syntheticSource({ artifacts: [{ name: 'a', bytes: 5 }], units: ['App', 'app'] })
  await assert.rejects(backup(here.job(two), 'here', here.ctx), { exit: exitCode.usage })
  assert.equal(two.observed.sessions.length, 0)
})

test('a unit whose name would lead out of the store is refused before anything is read', async () => {
  const here = place('f/${DB}-%s.sql')
  const two = syntheticSource({ artifacts: [{ name: 'a', bytes: 5 }], units: ['a', '../x'] })
  await assert.rejects(backup(here.job(two), 'here', here.ctx), {
    exit: exitCode.usage,
    message: /f\/\.\.\/x/,
  })
  assert.equal(two.observed.sessions.length, 0)
})

test('a name without the time is overwritten, and only the newest is a backup', async () => {
  const here = place('${DB}.sql')
  for (let n = 0; n < 3; n++) {
    await backup(here.job(source({ artifacts: [{ name: 'a', bytes: 1000 + n }] })), 'here', here.ctx)
    here.later(day)
  }
  const { entries } = await here.catalog()
  assert.equal(entries.length, 1)
  assert.equal(entries[0]?.startedAt.toISOString(), '2026-11-03T02:00:00.000Z')
  const [copy] = entries[0]?.copies ?? []
  assert.ok(entries[0] && copy)
  const verified = await verifyCopy(
    entries[0],
    copy,
    { stagesOf: () => [], canDecode: () => true, contentOf: () => null },
    here.ctx,
  )
  assert.deepEqual([verified.failures, verified.level], [[], 'decoded'])
})

test('retention counts foreign backups and own ones together, and removes no object that is neither', async () => {
  const here = place('${DB}-%Y%m%d-%H%M%S.sql', { to: [] })
  for (const at of ['20261001', '20261002', '20261003'])
    await put(here.store, `unit-${at}-000000.sql.gz`, here.ctx)
  await put(here.store, 'unit-of-somebody.txt', here.ctx)
  const to = { store: here.store, keep: { last: 2 } }
  const job = { ...here.job(source()), to: [to] }
  await backup(job, 'here', here.ctx)
  const steps = await planPrune(job, to, await here.catalog(), here.ctx)
  assert.deepEqual(
    steps.map(({ action }) => action),
    ['keep', 'keep', 'delete', 'delete'],
  )
  assert.deepEqual(await applyPrune(steps, here.ctx), [])
  const left = (await keysOf(here.store, here.ctx)).filter(key => !key.startsWith('.cairn/'))
  assert.equal(left.length, 3)
  assert.ok(
    left.includes('unit-of-somebody.txt') && left.includes('unit-20261003-000000.sql.gz'),
    left.join(),
  )
})

test('a backup without a manifest keeps what was said of it when another job of the store is pruned, which does not know it', async () => {
  const here = place('${DB}-%Y%m%d-%H%M%S.sql')
  for (const at of ['20261001', '20261002']) await put(here.store, `unit-${at}-000000.sql.gz`, here.ctx)
  const [, old] = (await here.catalog()).entries
  assert.ok(old)
  await markEverywhere(old, 'delete', {}, here.ctx)
  await markEverywhere(old, 'hold', {}, here.ctx)
  const other = testJob(source(), [here.store], { name: 'wiki' })
  await backup(other, 'here', here.ctx)
  await pruneJob(other, [], 'here', here.ctx)
  const [copy] = (await here.catalog()).entries.find(({ id }) => id === old.id)?.copies ?? []
  assert.ok(copy?.marks.held && copy.marks.deletedAt, JSON.stringify(copy?.marks))
})

test('what lies under names of units that the job does not have is never let go', async () => {
  const here = place('${DB}_%Y%m%d-%H%M%S.sql', { to: [], units: ['unit', 'a b'] })
  const others = ['unit_test', 'uni', 'else/unit', 'other'].map(unit => `${unit}_20261001-000000.sql.gz`)
  const own = ['unit', 'a b'].flatMap(unit =>
    ['20261001', '20261002'].map(day => `${unit}_${day}-000000.sql.gz`),
  )
  for (const key of [...others, ...others.map(key => key.replace('1001', '1002')), ...own])
    await put(here.store, key, here.ctx)
  const stranger = syntheticSource({ artifacts: [{ name: 'a', bytes: 9 }], units: ['other'] })
  const to = { store: here.store, keep: { last: 1 } }
  const job = { ...here.job(source()), to: [to] }
  for (let n = 0; n < 2; n++) {
    await backup({ ...job, sources: [stranger] }, 'there', here.ctx)
    here.later(day)
  }
  const steps = await planPrune(job, to, await here.catalog(), here.ctx)
  assert.deepEqual(await applyPrune(steps, here.ctx), [])
  const left = (await keysOf(here.store, here.ctx)).filter(key => !key.startsWith('.cairn/'))
  assert.equal(left.length, 2 * others.length + 2 + 2, left.join())
  assert.ok(!left.includes('unit_20261001-000000.sql.gz') && !left.includes('a b_20261001-000000.sql.gz'))
})

test('a unit whose name is spelled otherwise in keys is itself again, and no other one', async () => {
  const pattern = keyPattern('${DB}-%Y%m%d-%H%M%S.sql', { zone: 'UTC', plain: true })
  const store = memoryStore('one')
  const ctx = testContext()
  const named: NamedObjects = {
    ...{ job: 'shop', stores: ['one'], pattern, engine: 'synthetic', media: 'sql', unit: 'shop', undo: '' },
    ...{ stages: [], units: ['a b', 'fooÄ'], facts: unit => ({ artifact: unit, options: {} }) },
  }
  for (const key of ['a-b-20261001-000000.sql.gz', 'foo-20261002-000000.sql.gz', 'c-20261003-000000.sql.gz'])
    await put(store, key, ctx)
  const catalog = await readCatalog([store], null, ctx, [named])
  assert.deepEqual(
    catalog.entries.map(({ unit }) => unit),
    ['c', 'fooÄ', 'a b'],
  )
  assert.equal(resolve(catalog, 'a-b-20261001-000000.sql.gz', undefined, [named]).unit, 'a b')
})

test('what a killed run has finished in the second of the next one is a backup of its own', async () => {
  const here = place('${DB}_%Y-%m-%dT%H:%M:%S.%LZ.sql')
  here.later(300)
  await put(here.store, 'unit_2026-11-01T02:00:00.100Z.sql', here.ctx)
  await backup(here.job(source()), 'here', here.ctx)
  const { entries } = await here.catalog()
  assert.deepEqual(entries.map(({ kind }) => kind).sort(), ['foreign', 'logical'])
  assert.equal(entries.find(({ kind }) => kind === 'foreign')?.bytes, 10)
})

test('two runs in one second, one after the other, do not meet under one name', async () => {
  const store = memoryStore('one')
  const ctx = testContext()
  const pattern = keyPattern('${DB}-%Y%m%d-%H%M%S.sql', { zone: 'UTC', plain: false })
  const job = testJob(source(), [store], { naming: patternNaming(pattern, true), pattern, stages: [] })
  for (let n = 0; n < 2; n++)
    assert.deepEqual(
      (await backup(job, 'here', ctx)).flatMap(({ failures }) => failures),
      [],
    )
})

test('a run lasts until its second is over, on whatever part of a millisecond the clock counts', async () => {
  const pattern = keyPattern('${DB}-%Y%m%d-%H%M%S.sql', { zone: 'UTC', plain: false })
  const ctx = testContext()
  const ended = Array.from({ length: 1000 }, async (_, n) => {
    const now = () => new Date(performance.timeOrigin + performance.now() + n * 0.99)
    const at = now()
    await untilOtherNames(testJob(source(), [], { pattern }), at, { ...ctx, clock: { now } })
    return pattern.key('', now()) !== pattern.key('', at)
  })
  assert.equal((await Promise.all(ended)).filter(isOver => !isOver).length, 0)
})

/** A run in the hour that Berlin's clocks show twice, and one an hour later, at the same time of day. */
async function twiceAtHalfPastTwo(text: string, change: (store: Store) => Store = store => store) {
  const inner = memoryStore('one')
  const store = change(inner)
  const pattern = keyPattern(text, { zone: 'Europe/Berlin', plain: false })
  const job = testJob(source(), [store], { naming: patternNaming(pattern, true), pattern, stages: [] })
  const failures: unknown[] = []
  let ctx = testContext()
  // The clock stands still, however long a run takes to find its name; the end of each second is not far.
  for (const begin of ['2026-10-25T00:30:00.850Z', '2026-10-25T01:30:00.850Z']) {
    ctx = testContext({ clock: { now: () => new Date(begin) } })
    for (const outcome of await backup(job, 'here', ctx)) failures.push(...outcome.failures)
  }
  const keys = await keysOf(inner, ctx)
  return { failures, keys: keys.filter(key => !key.startsWith('.cairn/')), ctx, pattern, store }
}

test('in the hour that the clocks show twice, a name that is taken is not met again: the next second is waited for', async () => {
  const { failures, keys, ctx, pattern, store } = await twiceAtHalfPastTwo('${DB}-%Y%m%d-%H%M%S.sql')
  assert.deepEqual(failures, [])
  assert.deepEqual(keys, ['unit-20261025-023000.sql', 'unit-20261025-023001.sql'])
  const named: NamedObjects = {
    ...{ job: 'shop', stores: ['one'], pattern, engine: 'synthetic', media: 'sql', unit: 'shop', undo: '' },
    ...{ stages: [], facts: unit => ({ artifact: unit, options: {} }) },
  }
  const { entries } = await readCatalog([store], null, ctx, [named])
  assert.deepEqual(
    entries.map(({ kind, startedAt }) => [kind, startedAt.toISOString()]),
    [
      ['logical', '2026-10-25T01:30:01.000Z'],
      ['logical', '2026-10-25T00:30:00.000Z'],
    ],
  )
})

test('where nobody may look, or putting overwrites, nothing is overwritten in that hour either', async () => {
  const blind = await twiceAtHalfPastTwo('${DB}-%Y%m%d-%H%M%S.sql', store => ({
    ...store,
    can: { ...store.can, list: false, exclusive: false },
    put: (key, body, options, ctx) => store.put(key, body, { ...options, replace: true }, ctx),
  }))
  assert.deepEqual(blind.failures, [])
  assert.equal(blind.keys.length, 2)
})

test('a name that tells the offset is free at once', async () => {
  const { failures, keys, ctx } = await twiceAtHalfPastTwo('${DB}-%Y%m%d-%H%M%S%z.sql')
  assert.deepEqual([failures, keys.length], [[], 2])
  assert.ok(!ctx.events.some(event => event.type === 'notice' && event.text.includes('waits')))
})
