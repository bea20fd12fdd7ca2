import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { keysOf, testJob, wholeBackup } from '../../test/support/job.ts'
import { syntheticSource } from '../../test/support/synthetic-source.ts'
import type { Context } from '../model/context.ts'
import { manifestPrefix, patternNaming } from '../model/key.ts'
import { keyPattern } from '../model/key-pattern.ts'
import type { Manifest } from '../model/manifest.ts'
import type { Source } from '../model/source.ts'
import type { Store } from '../model/store.ts'
import { type MemoryStore, memoryStore } from '../stores/memory.ts'
import { backup } from './backup.ts'
import { readCatalog } from './catalog.ts'
import type { NamedObjects } from './foreign.ts'
import { verifyCopy } from './verify.ts'

/** A job that writes one name again and again. */
function place(stores: readonly Store[], text = '${DB}.sql') {
  let now = Date.parse('2026-11-01T02:00:00Z')
  const ctx = testContext({ clock: { now: () => new Date(now) } })
  const pattern = keyPattern(text, { zone: 'UTC', plain: false })
  const job = { naming: patternNaming(pattern, true), pattern, stages: [] }
  const run = async (bytes: number, units = ['unit'], source?: Source): Promise<Manifest> => {
    now += 86_400_000
    const census = [{ name: 'a', rows: bytes }]
    const made = source ?? syntheticSource({ artifacts: [{ name: 'a', bytes }], census, units })
    return wholeBackup(await backup(testJob(made, stores, job), 'here', ctx))
  }
  const named: NamedObjects = {
    ...{ job: 'shop', stores: stores.map(({ name }) => name), pattern, engine: 'synthetic', media: 'sql' },
    ...{ unit: 'shop', undo: '', stages: [], facts: (unit: string) => ({ artifact: unit, options: {} }) },
  }
  /** The ids of what is listed; each must read as it was written. */
  const listed = async (store: Store): Promise<string[]> => {
    const { entries } = await readCatalog([store], null, ctx, [named])
    for (const entry of entries) {
      const looking = { stagesOf: () => [], canDecode: () => true, contentOf: () => null }
      for (const copy of entry.copies)
        assert.deepEqual((await verifyCopy(entry, copy, looking, ctx)).failures, [])
    }
    return entries.map(({ id }) => id)
  }
  return { ctx, run, listed }
}

/** The keys that speak of a backup. */
async function about(store: Store, id: string, ctx: Context): Promise<string[]> {
  return (await keysOf(store, ctx, '.cairn/')).filter(key => key.includes(id))
}

/** As S3 does it: removing without a version takes all of them; versions can be listed, or not. */
function versioned(inner: MemoryStore, mayList = true): Store {
  return {
    ...inner,
    async remove(key, version, ctx) {
      if (version !== undefined) return await inner.remove(key, version, ctx)
      for (const each of inner.versions(key)) await inner.remove(key, each.version, ctx)
      return 'removed'
    },
    async *listVersions(prefix, ctx) {
      for await (const entry of inner.list(prefix, ctx)) {
        if (!mayList) yield entry
        for (const { version, bytes } of mayList ? inner.versions(entry.key) : [])
          if (bytes) yield { ...entry, bytes: bytes.byteLength, version }
      }
    },
  }
}

test('what speaks of an object that was replaced goes after the next good backup, and nothing else', async () => {
  const store = memoryStore('one')
  const { ctx, run, listed } = place([store])
  await store.put('.cairn/v1/data/other/x/0002-census.json', Buffer.from('not ours'), {}, ctx)
  const made: Manifest[] = []
  for (let n = 0; n < 3; n++) made.push(await run(1000 + n))
  const [first, second, third] = made.map(({ id }) => id)
  assert.ok(first && second && third)
  for (const id of [first, second]) assert.deepEqual(await about(store, id, ctx), [])
  // Its begin record, its census and its manifest.
  assert.equal((await about(store, third, ctx)).length, 3)
  assert.deepEqual(await listed(store), [third])
  assert.equal((await keysOf(store, ctx, '.cairn/v1/data/other')).length, 1)
})

test('after a backup that failed everything is as it was', async () => {
  const store = memoryStore('one')
  const { ctx, run, listed } = place([store])
  const { id } = await run(1000)
  await assert.rejects(
    run(0, ['unit'], syntheticSource({ artifacts: [{ name: 'a', bytes: 9 }], failIn: 'finish' })),
  )
  assert.equal((await about(store, id, ctx)).length, 3)
  assert.deepEqual(await listed(store), [id])
})

test('the manifests of other units, whose objects have other names, stay', async () => {
  const store = memoryStore('one')
  const { run, listed } = place([store])
  const { id } = await run(1000, ['other'])
  const { id: own } = await run(1000)
  const { id: again } = await run(1001)
  assert.deepEqual((await listed(store)).sort(), [id, again].sort())
  assert.notEqual(own, again)
})

test('where versions are kept, a manifest stays as long as its version, and goes when that is gone', async () => {
  const inner = memoryStore('one', { versions: true })
  const store = versioned(inner)
  const { ctx, run, listed } = place([store])
  const made = [await run(1000), await run(1001), await run(1002)]
  assert.equal((await listed(store)).length, 3)
  const [first] = made
  const [part] = first?.artifacts[0]?.objects ?? []
  assert.ok(first && part?.version)
  await inner.remove(part.key, part.version, ctx)
  const last = await run(1003)
  assert.deepEqual(await about(store, first.id, ctx), [])
  assert.deepEqual((await listed(store)).sort(), [...made.slice(1), last].map(({ id }) => id).sort())
})

test('where versions may not be listed, or no manifest names them, nothing is certain and nothing goes', async () => {
  const hidden = versioned(memoryStore('one', { versions: true }), false)
  const two = [versioned(memoryStore('one', { versions: true })), memoryStore('two')]
  for (const stores of [[hidden], two]) {
    const { ctx, run } = place(stores)
    for (let n = 0; n < 3; n++) await run(1000 + n)
    for (const store of stores)
      assert.equal((await keysOf(store, ctx, manifestPrefix)).length, store.name === 'two' ? 1 : 3)
  }
})

test('a store that refuses to remove keeps it all, and the backup is none the worse for it', async () => {
  const inner = memoryStore('one')
  const refusing: Store = {
    ...inner,
    remove: async () => {
      throw new Error('access denied')
    },
  }
  const { ctx, run, listed } = place([refusing])
  for (let n = 0; n < 3; n++) await run(1000 + n)
  assert.equal((await keysOf(refusing, ctx, manifestPrefix)).length, 3)
  assert.equal((await listed(refusing)).length, 1)
  assert.deepEqual(
    ctx.events.filter(({ type }) => type === 'failure' || type === 'warning'),
    [],
  )
})

test('killed after any removal, the list is right, and the next run leaves nothing behind', async () => {
  for (let killAt = 1; killAt <= 4; killAt++) {
    const inner = memoryStore('one')
    let left = Number.POSITIVE_INFINITY
    const dying: Store = {
      ...inner,
      async remove(key, version, ctx) {
        if (left-- <= 0) throw new Error('killed')
        return await inner.remove(key, version, ctx)
      },
    }
    const { ctx, run, listed } = place([dying])
    const first = await run(1000)
    left = killAt - 1
    const second = await run(1001)
    assert.deepEqual(await listed(dying), [second.id], `${killAt}`)
    left = Number.POSITIVE_INFINITY
    const third = await run(1002)
    assert.deepEqual(await listed(dying), [third.id])
    for (const { id } of [first, second]) assert.deepEqual(await about(inner, id, ctx), [], `${killAt}`)
  }
})

test('a manifest that another host writes while this one works is not touched', async () => {
  const store = memoryStore('one')
  const { ctx, run } = place([store])
  await run(1000)
  const source = syntheticSource({ artifacts: [{ name: 'a', bytes: 1001 }] })
  let meanwhile: Manifest | null = null
  const slow: Source = {
    ...source,
    async open(...args) {
      meanwhile = await run(1002)
      return await source.open(...args)
    },
  }
  await run(0, ['unit'], slow)
  const { id } = meanwhile as unknown as Manifest
  assert.ok((await about(store, id, ctx)).some(key => key.startsWith(manifestPrefix)))
})

test('where versions may not be listed, the newest backup is the object that is', async () => {
  const store = versioned(memoryStore('one', { versions: true }), false)
  const { run, listed } = place([store])
  await run(20)
  const second = await run(10)
  assert.deepEqual(await listed(store), [second.id])
})
