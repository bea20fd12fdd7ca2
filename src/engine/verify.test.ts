import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { faulty } from '../../test/support/faulty-store.ts'
import { keysOf, readingWith, testJob, wholeBackup } from '../../test/support/job.ts'
import { syntheticSource } from '../../test/support/synthetic-source.ts'
import { type ContentCheck, NotWhole } from '../model/content.ts'
import type { Context } from '../model/context.ts'
import { exitCode } from '../model/failure.ts'
import { manifestPrefix, markPrefix } from '../model/key.ts'
import type { Store } from '../model/store.ts'
import { memoryStore } from '../stores/memory.ts'
import { backup } from './backup.ts'
import { readCatalog } from './catalog.ts'
import { collect } from './objects.ts'
import { verifyCopy } from './verify.ts'

const artifacts = [
  { name: 'first', bytes: 90_000 },
  { name: 'second', bytes: 90_000, as: 'program' as const },
  { name: 'empty', bytes: 0 },
]

/** A store with one backup, and a look at it through another store in its place. */
async function oneBackup(ctx: Context) {
  const store = memoryStore('one')
  const manifest = wholeBackup(await backup(testJob(syntheticSource({ artifacts }), [store]), 'here', ctx))
  const verify = async (seen: Store, key = 7, canDecode = true, check: ContentCheck | null = null) => {
    const { entries } = await readCatalog([seen], null, ctx)
    const [entry] = entries
    const [copy] = entry?.copies ?? []
    assert.ok(entry && copy)
    const looking = { stagesOf: readingWith(key), canDecode: () => canDecode, contentOf: () => check }
    return verifyCopy(entry, copy, looking, ctx)
  }
  const keyOf = (name: string): string => {
    const key = manifest.artifacts.find(artifact => artifact.name === name)?.objects[0]?.key
    assert.ok(key)
    return key
  }
  return { store, manifest, verify, keyOf }
}

/** Puts other bytes where an object was. */
async function overwrite(store: Store, key: string, bytes: Uint8Array, ctx: Context): Promise<void> {
  await store.put(key, bytes, { replace: true }, ctx)
}

test('a sound backup is read to the last byte, and the first full reading writes down the plain digests', async () => {
  const ctx = testContext()
  const { store, manifest, verify } = await oneBackup(ctx)
  const result = await verify(store)
  assert.deepEqual([result.failures, result.level], [[], 'decoded'])
  assert.equal(
    result.bytes,
    manifest.artifacts.reduce((sum, artifact) => sum + artifact.stored.bytes, 0),
  )
  assert.equal((await keysOf(store, ctx, markPrefix)).filter(key => key.endsWith('.verified.json')).length, 1)
  await verify(store)
  assert.equal((await keysOf(store, ctx, markPrefix)).length, 1)
})

test('a mark that rotted, at whatever byte, calls no sound backup damaged', async () => {
  const ctx = testContext()
  const { store, verify } = await oneBackup(ctx)
  await verify(store)
  const [key = ''] = await keysOf(store, ctx, markPrefix)
  const mark = await collect(store.get(key, {}, ctx))
  for (let at = 0; at < mark.length; at++) {
    const rotten = Buffer.from(mark)
    rotten[at] = (mark[at] ?? 0) ^ 1
    await overwrite(store, key, rotten, ctx)
    assert.deepEqual((await verify(store)).failures, [], `byte ${at}`)
    for (const other of await keysOf(store, ctx, markPrefix))
      if (other !== key) await store.remove(other, undefined, ctx)
  }
})

test('without a key the stored digests alone are checked, and that is said', async () => {
  const ctx = testContext()
  const { store, verify } = await oneBackup(ctx)
  const result = await verify(store, 7, false)
  assert.deepEqual([result.failures, result.level], [[], 'stored'])
})

for (const offset of [0, 1, 17, 4095, 65_536, 89_999, 90_000, 90_020]) {
  test(`a bit that flipped at offset ${offset} is damage of that artifact, with a key and without`, async () => {
    const ctx = testContext()
    const { store, verify, keyOf } = await oneBackup(ctx)
    const key = keyOf('second')
    const bytes = await collect(store.get(key, {}, ctx))
    const at = Math.min(offset, bytes.length - 1)
    bytes[at] = (bytes[at] ?? 0) ^ 0x10
    await overwrite(store, key, bytes, ctx)
    for (const decode of [true, false]) {
      const { failures } = await verify(store, 7, decode)
      assert.deepEqual(
        failures.map(failure => [failure.exit, failure.what]),
        [[exitCode.damaged, 'second is damaged in store one']],
      )
    }
  })
}

test('a truncated, a lengthened, a missing and two swapped objects are damage of the right artifacts', async () => {
  const ctx = testContext()
  const damaged = async (
    change: (bytes: { first: Buffer; second: Buffer }) => Record<string, Uint8Array | null>,
  ) => {
    const { store, verify, keyOf } = await oneBackup(ctx)
    const first = await collect(store.get(keyOf('first'), {}, ctx))
    const second = await collect(store.get(keyOf('second'), {}, ctx))
    for (const [name, bytes] of Object.entries(change({ first, second }))) {
      if (bytes) await overwrite(store, keyOf(name), bytes, ctx)
      else await store.remove(keyOf(name), undefined, ctx)
    }
    const { failures } = await verify(store)
    assert.ok(failures.every(failure => failure.exit === exitCode.damaged))
    return failures.map(failure => failure.what.split(' ')[0])
  }
  assert.deepEqual(await damaged(({ first }) => ({ first: first.subarray(0, -1) })), ['first'])
  assert.deepEqual(await damaged(() => ({ second: Buffer.alloc(0) })), ['second'])
  assert.deepEqual(await damaged(({ first }) => ({ first: Buffer.concat([first, Buffer.from('x')]) })), [
    'first',
  ])
  assert.deepEqual(await damaged(() => ({ empty: null })), ['empty'])
  assert.deepEqual(await damaged(({ first, second }) => ({ first: second, second: first })), [
    'first',
    'second',
  ])
})

test('a manifest that was changed but still parses is damage', async () => {
  const ctx = testContext()
  const { store, verify } = await oneBackup(ctx)
  const [key = ''] = await keysOf(store, ctx, manifestPrefix)
  const text = (await collect(store.get(key, {}, ctx))).toString()
  const changed = text.replace('"unit": "unit"', '"unit": "Unit"')
  assert.notEqual(changed, text)
  await overwrite(store, key, Buffer.from(changed), ctx)
  const { failures } = await verify(store)
  assert.equal(failures[0]?.exit, exitCode.damaged)
  assert.match(failures[0]?.what ?? '', /the manifest of .* is damaged/)
})

test('the wrong key is a wrong key, not damage; with damage beside it, damage', async () => {
  const ctx = testContext()
  const { store, verify, keyOf } = await oneBackup(ctx)
  const wrong = await verify(store, 8)
  assert.ok(wrong.failures.length > 0 && wrong.failures.every(failure => failure.exit === exitCode.wrongKey))
  const bytes = await collect(store.get(keyOf('first'), {}, ctx))
  await overwrite(store, keyOf('first'), Buffer.from(bytes.map(byte => byte ^ 1)), ctx)
  const both = await verify(store, 8)
  assert.equal(both.failures.find(failure => failure.what.startsWith('first'))?.exit, exitCode.damaged)
})

test('a store that returns other bytes than it lists, cuts or truncates them, is never called sound', async () => {
  const ctx = testContext()
  const { store, verify, keyOf } = await oneBackup(ctx)
  const only = new RegExp(`^${keyOf('first')}$`)
  const codes = async (get: NonNullable<Parameters<typeof faulty>[1]['get']>) =>
    (await verify(faulty(store, { get, only }))).failures.map(failure => failure.exit)
  assert.deepEqual(await codes({ flipBit: 1000 }), [exitCode.damaged])
  assert.deepEqual(await codes({ endAfter: 50_000 }), [exitCode.damaged])
  assert.deepEqual(await codes({ insteadOf: keyOf('second') }), [exitCode.damaged])
  assert.deepEqual(await codes({ cutAfter: 50_000 }), [exitCode.failed])
})

test('bytes that decode to something else than at the first full reading are damage', async () => {
  const ctx = testContext()
  const { store, verify } = await oneBackup(ctx)
  await verify(store)
  const [key = ''] = await keysOf(store, ctx, markPrefix)
  const { plain } = JSON.parse((await collect(store.get(key, {}, ctx))).toString())
  for (const each of Object.values<{ sha256: string }>(plain)) each.sha256 = '0'.repeat(64)
  const digest = createHash('sha256').update(JSON.stringify(plain)).digest('hex').slice(0, 16)
  await overwrite(store, key, Buffer.from(JSON.stringify({ cairn: 1, plain, digest })), ctx)
  const { failures } = await verify(store)
  // Where the plain bytes passed through us, the manifest has their digest, and that one counts.
  assert.deepEqual(
    failures.map(failure => [failure.exit, failure.what]),
    [[exitCode.damaged, 'second is damaged in store one']],
  )
})

test('bytes that are not what they should be are damage, unless the stored ones are: that says more', async () => {
  const ctx = testContext()
  const { store, verify, keyOf } = await oneBackup(ctx)
  const never: ContentCheck = async bytes => {
    for await (const _ of bytes) throw new NotWhole('it is no such thing')
    return 'nothing'
  }
  const { failures, contents } = await verify(store, 7, true, never)
  assert.deepEqual(
    failures.map(({ exit, message }) => [exit, message]),
    ['first', 'second', 'census.json'].map(name => [
      20,
      `${name} is damaged in store one: it is no such thing`,
    ]),
  )
  assert.deepEqual(contents, ['empty: nothing'])
  assert.deepEqual(await keysOf(store, ctx, markPrefix), [])
  const key = keyOf('first')
  const bytes = await collect(store.get(key, {}, ctx))
  await overwrite(store, key, bytes.subarray(0, -1), ctx)
  const [first] = (await verify(store, 7, true, never)).failures
  assert.match(first?.why ?? '', /of the .* bytes that were written/)
})
