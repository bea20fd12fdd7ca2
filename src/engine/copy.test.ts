import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { faulty } from '../../test/support/faulty-store.ts'
import { keysOf, testJob, wholeBackup } from '../../test/support/job.ts'
import { syntheticSource } from '../../test/support/synthetic-source.ts'
import type { Context } from '../model/context.ts'
import { dataPrefix, manifestPrefix } from '../model/key.ts'
import { encodeManifest, type Manifest } from '../model/manifest.ts'
import type { Begin } from '../model/mark.ts'
import { Forbidden, type Store } from '../model/store.ts'
import { memoryStore } from '../stores/memory.ts'
import { backup } from './backup.ts'
import { isLive, readCatalog } from './catalog.ts'
import { copyBackup } from './copy.ts'
import { putMark } from './marking.ts'
import { sweepOrphans } from './sweep.ts'

const artifacts = [
  { name: 'a', bytes: 100_000 },
  { name: 'b', bytes: 10 },
]

async function oneBackup(ctx: Context): Promise<{ from: Store; manifest: Manifest }> {
  const from = memoryStore('from')
  return {
    from,
    manifest: wholeBackup(await backup(testJob(syntheticSource({ artifacts }), [from]), 'here', ctx)),
  }
}

function beginOf({ id, job }: Manifest, host: string): Begin {
  const now = Date.now()
  return {
    cairn: 1,
    id,
    job,
    host,
    startedAt: new Date(now).toISOString(),
    expires: new Date(now + 86_400_000).toISOString(),
    prefixes: [dataPrefix(job, id)],
    parent: null,
  }
}

function copyTo(
  store: Store,
  from: readonly Store[],
  manifest: Manifest,
  ctx: Context,
  host = 'here',
): Promise<void> {
  return copyBackup(
    manifest,
    encodeManifest(manifest),
    from,
    { store, keep: {} },
    beginOf(manifest, host),
    ctx,
  )
}

test('a copy is the same objects under the same keys and the same manifest', async () => {
  const ctx = testContext()
  const { from, manifest } = await oneBackup(ctx)
  const to = memoryStore('to')
  await copyTo(to, [from], manifest, ctx)
  for (const prefix of ['shop/', manifestPrefix])
    assert.deepEqual(await keysOf(to, ctx, prefix), await keysOf(from, ctx, prefix))
})

test('an object that one store returns damaged is taken from the next', async () => {
  const ctx = testContext()
  const { from, manifest } = await oneBackup(ctx)
  const to = memoryStore('to')
  await copyTo(to, [faulty(from, { get: { flipBit: 77 }, only: /^shop\// }), from], manifest, ctx)
  assert.equal((await readCatalog([to], null, ctx)).entries.length, 1)
})

test('that an object is damaged is told also where its first version may be listed and not be read', async () => {
  const ctx = testContext()
  const { from, manifest } = await oneBackup(ctx)
  const damaged = faulty(from, { get: { flipBit: 77 }, only: /^shop\// })
  const closed: Store = {
    ...damaged,
    get(key, options, at) {
      if (options.version === undefined) return damaged.get(key, options, at)
      throw new Forbidden({ what: `cannot read ${key}`, why: 'the credentials do not permit it' })
    },
    async *listVersions(prefix, at) {
      for await (const entry of from.list(prefix, at))
        for (const version of ['2', '1']) yield { ...entry, version }
    },
  }
  await assert.rejects(copyTo(memoryStore('to'), [closed], manifest, ctx), { exit: 20 })
})

test('a copy that fails leaves nothing behind', async () => {
  const ctx = testContext()
  const { from, manifest } = await oneBackup(ctx)
  const to = memoryStore('to')
  await assert.rejects(
    copyTo(to, [faulty(from, { get: { cutAfter: 50_000 }, only: /^shop\// })], manifest, ctx),
  )
  assert.deepEqual(await keysOf(to, ctx), [])
})

test('a whole copy is never cleared away: not by a second copy, not by one that fails', async () => {
  const ctx = testContext()
  const { from, manifest } = await oneBackup(ctx)
  const to = memoryStore('to')
  await copyTo(to, [from], manifest, ctx)
  const before = await keysOf(to, ctx)
  await assert.rejects(copyTo(to, [from], manifest, ctx, 'there'), /it has a copy already/)
  assert.deepEqual(await keysOf(to, ctx), before)
})

test('a half copy of another host is left alone until it expires', async () => {
  const ctx = testContext()
  const { from, manifest } = await oneBackup(ctx)
  const to = memoryStore('to')
  const stuck = faulty(to, { put: { failAfter: 0 }, only: /manifests/, remove: new Error('killed') })
  await assert.rejects(copyTo(stuck, [from], manifest, ctx, 'there'))
  await assert.rejects(copyTo(to, [from], manifest, ctx), /there is making a copy/)
})

test('a copy that begins long after its backup counts as running from then on', async () => {
  const ctx = testContext()
  const { from, manifest } = await oneBackup(ctx)
  const to = memoryStore('to')
  const stuck = faulty(to, { put: { failAfter: 0 }, only: /manifests/, remove: new Error('killed') })
  const old = { ...beginOf(manifest, 'there'), expires: '2020-01-02T00:00:00Z' }
  const file = encodeManifest(manifest)
  await assert.rejects(copyBackup(manifest, file, [from], { store: stuck, keep: {} }, old, ctx))
  assert.equal(await sweepOrphans(to, 'shop', 'here', ctx), 0)
})

test('a copy is live though marks of an earlier, deleted copy were left', async () => {
  const ctx = testContext()
  const { from, manifest } = await oneBackup(ctx)
  const to = memoryStore('to')
  await putMark(to, manifest.id, 'delete', {}, ctx)
  await copyTo(to, [from], manifest, ctx)
  const { entries } = await readCatalog([to], null, ctx)
  assert.ok(entries[0] && isLive(entries[0]))
})

test('a forged begin record cannot have anything swept but its own prefix', async () => {
  const ctx = testContext()
  const { from, manifest } = await oneBackup(ctx)
  const forged = {
    ...beginOf(manifest, 'evil'),
    id: '20200101T000000Z-aaaaaaaa',
    expires: '2020-01-02T00:00:00Z',
    prefixes: ['shop/', manifestPrefix],
  }
  await from.put(`.cairn/v1/begin/shop/${forged.id}.json`, Buffer.from(JSON.stringify(forged)), {}, ctx)
  assert.equal(await sweepOrphans(from, 'shop', 'here', ctx), 0)
  assert.equal((await readCatalog([from], null, ctx)).entries.length, 1)
})

test('what is said last about a backup counts, whatever the clocks of those who said it', async () => {
  const ctx = testContext()
  const { from, manifest } = await oneBackup(ctx)
  const ahead = testContext({ clock: { now: () => new Date(Date.now() + 600_000) } })
  await putMark(from, manifest.id, 'hold', {}, ahead)
  await putMark(from, manifest.id, 'release', {}, ctx)
  const held = async () => (await readCatalog([from], null, ctx)).entries[0]?.copies[0]?.marks.held
  assert.equal(await held(), false)
})

test('a backup whose data somebody swept away before its manifest is no backup', async () => {
  const ctx = testContext()
  const store = memoryStore('one')
  const source = syntheticSource({ artifacts })
  const open = source.open.bind(source)
  source.open = async (...args) => {
    const session = await open(...args)
    const finish = session.finish.bind(session)
    return Object.assign(session, {
      async finish() {
        for (const key of await keysOf(store, ctx, 'shop/'))
          if (/0001/.test(key)) await store.remove(key, undefined, ctx)
        return finish()
      },
    })
  }
  const [outcome] = await backup(testJob(source, [store]), 'here', ctx)
  assert.equal(outcome?.manifest, null)
  assert.match(outcome?.failures[0]?.why ?? '', /not there any more/)
})
