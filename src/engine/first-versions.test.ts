import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { collect } from '../../test/support/reader.ts'
import { damage } from '../model/failure.ts'
import { Forbidden, type Store, type VersionEntry } from '../model/store.ts'
import { type MemoryStore, memoryStore } from '../stores/memory.ts'
import { withFirstReadable } from './first-readable.ts'
import { keysToTell, withFirstVersions } from './first-versions.ts'

/** As S3 lists them: the newest first, their times in whole seconds. */
function versioned(store: MemoryStore): Store {
  return {
    ...store,
    async *listVersions(prefix) {
      for (const key of ['a', 'ab', 'b'].filter(each => each.startsWith(prefix)))
        for (const { version, bytes } of store.versions(key).toReversed())
          if (bytes) yield { key, bytes: bytes.length, modified: new Date(0), version } satisfies VersionEntry
    },
  }
}

async function filled() {
  const ctx = testContext()
  const inner = memoryStore('vault', { versions: true, exclusive: false })
  for (const key of ['a', 'ab', 'b']) await inner.put(key, Buffer.from(`first ${key}`), {}, ctx)
  const store = versioned(inner)
  const read = async (from: Store, key: string, version?: string) =>
    String(await collect(from.get(key, version ? { version } : {}, ctx)))
  return { ctx, inner, store, read }
}

test('what somebody has overwritten, or hidden, is read as it was first written', async () => {
  const { ctx, inner, store, read } = await filled()
  await inner.put('a', Buffer.from('ransom'), {}, ctx)
  await inner.put('a', Buffer.from('more'), {}, ctx)
  await inner.remove('b', undefined, ctx)
  for (const keys of [['a', 'b'], ['a'], ['b']]) {
    const first = await withFirstVersions(store, keys, ctx)
    assert.ok(first)
    for (const key of keys) assert.equal(await read(first, key), `first ${key}`)
  }
  const first = await withFirstVersions(store, ['a'], ctx)
  assert.equal(await read(first ?? store, 'a', inner.versions('a')[1]?.version), 'ransom')
})

test('where nothing was changed, or no versions can be seen, there is nothing else to read', async () => {
  const { ctx, inner, store } = await filled()
  assert.equal(await withFirstVersions(store, ['a', 'b'], ctx), null)
  assert.equal(await withFirstVersions(inner, ['a'], ctx), null)
  const refusing: Store = {
    ...store,
    async *listVersions() {
      yield* []
      throw new Error('refused')
    },
  }
  assert.equal(await withFirstVersions(refusing, ['a'], ctx), null)
})

test('the first versions are the last that is tried, once, and only where a copy is damaged', async () => {
  const { ctx, inner, store, read } = await filled()
  await inner.put('a', Buffer.from('ransom'), {}, ctx)
  const other = memoryStore('other')
  const asked: string[] = []
  const work = async (from: Store): Promise<string> => {
    asked.push(from.name)
    const found = await read(from, 'a').catch(() => '')
    if (found !== 'first a') throw damage('it is damaged', 'bytes are wrong')
    return found
  }
  assert.equal(await withFirstReadable([store, other], ['a'], () => '', work, ctx), 'first a')
  assert.deepEqual(asked.splice(0), ['vault', 'other', 'vault (the versions that were there first)'])
  assert.equal(ctx.events.length, 2)
  const never = async (from: Store): Promise<string> => {
    asked.push(from.name)
    throw damage('it is damaged', 'bytes are wrong')
  }
  await assert.rejects(
    withFirstReadable([store], ['a'], () => '', never, ctx),
    { exit: 20 },
  )
  assert.equal(asked.length, 2)
})

test('where first versions may be listed and not be read, or are no better, what is told is the damage', async () => {
  const { ctx, inner, store } = await filled()
  await inner.put('a', Buffer.from('ransom'), {}, ctx)
  for (const error of [
    new Forbidden({ what: 'cannot read a', why: 'the credentials do not permit it' }),
    damage('a is damaged in store vault (the versions that were there first)', 'it has other bytes'),
  ]) {
    const work = async (from: Store): Promise<never> => {
      throw from === store ? damage('a is damaged in store vault', 'bytes are wrong') : error
    }
    const told = { exit: 20, message: 'a is damaged in store vault: bytes are wrong' }
    await assert.rejects(
      withFirstReadable([store], ['a'], () => '', work, ctx),
      told,
    )
  }
})

test('objects whose digest nobody knows, or whose version is known, are read as they are', () => {
  const part = { key: 'a', bytes: 1, sha256: 'x' }
  const record = { objects: [part, { ...part, sha256: null }, { ...part, version: 'v1' }] }
  assert.deepEqual(keysToTell(record as unknown as Parameters<typeof keysToTell>[0]), ['a'])
})
