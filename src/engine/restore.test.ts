import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manifestOf, recordOf } from '../../test/support/capture.ts'
import { testContext } from '../../test/support/context.ts'
import { collect, inChunks } from '../../test/support/reader.ts'
import { syntheticStage } from '../../test/support/synthetic-stage.ts'
import type { Context } from '../model/context.ts'
import type { Manifest } from '../model/manifest.ts'
import type { Restorer } from '../model/restore.ts'
import { flow } from '../platform/flow.ts'
import { memoryStore } from '../stores/memory.ts'
import { planRestore, restore } from './restore.ts'

function someManifest(ctx: Context): Manifest {
  const at = new Date()
  const facts = {
    kind: 'files',
    capturedAt: at,
    consistentAt: at,
    client: 'tar',
    options: {},
    warnings: [],
  } as const
  return manifestOf({ engine: 'files', identity: 'x', version: '1', unit: 'x' }, [], facts, ctx)
}

test('options and names that a restorer does not know are refused before it is asked', async () => {
  const ctx = testContext()
  const manifest = someManifest(ctx)
  const plan = { target: 'x', steps: [], replaces: [], warnings: [] }
  const restorer = (more: Partial<Restorer>): Restorer => ({
    plan: async () => plan,
    apply: () => Promise.reject(new Error('not here')),
    ...more,
  })
  const store = memoryStore('disk')
  const planned = (more: Partial<Restorer>, pick: object) =>
    planRestore(manifest, [store], restorer(more), { allow: new Set(), ...pick }, () => [], ctx)
  await assert.rejects(planned({}, { options: { schemaOnly: true } }), {
    exit: 2,
    message: /cannot restore with --schema-only: it means nothing for a backup of files/,
  })
  assert.equal(await planned({ options: ['schemaOnly'] }, { options: { schemaOnly: true } }), plan)
  await assert.rejects(planned({}, { only: ['t'] }), { exit: 2, message: /only "t"/ })
  assert.equal(await planned({ picksInside: true }, { only: ['t'] }), plan)
})

test('nothing stands still before the key was tried; who reads all before it writes says itself when', async () => {
  const ctx = testContext()
  const store = memoryStore('disk')
  const plain = Buffer.from('data')
  const stored = await collect(flow(inChunks(plain), [syntheticStage(7).encode()], ctx))
  await store.put('test/0', inChunks(stored), {}, ctx)
  const record = recordOf({ name: 'data', media: 'file', role: 'data' }, stored)
  const manifest = { ...someManifest(ctx), artifacts: [record] }
  const told: string[] = []
  const ready = async (): Promise<void> => void told.push('ready')
  const restored = async (key: number, more: Partial<Restorer>) => {
    const restorer: Restorer = {
      plan: () => Promise.reject(new Error('not here')),
      async apply(_chain, _pick, _replace, _read, _ctx, say) {
        told.push('apply')
        // Another copy may be tried.
        for (const _ of more.readsFirst ? [1, 2] : []) await say?.()
        return { target: 'x', objects: null, rows: null, warnings: [] }
      },
      ...more,
    }
    const pick = { allow: new Set<string>() }
    await restore(manifest, [store], restorer, pick, true, () => [syntheticStage(key)], ctx, ready)
    return told.splice(0)
  }
  await assert.rejects(restored(8, {}), { exit: 12 })
  assert.deepEqual(told, [])
  assert.deepEqual(await restored(7, {}), ['ready', 'apply'])
  assert.deepEqual(await restored(8, { readsFirst: true }), ['apply', 'ready'])
})

test('fewer rows than the source held are told, and are a part only; what was not asked for is not missed', async () => {
  const ctx = testContext()
  const census = { level: 'counts', objects: 2, rows: 1000, artifact: 'census.json' } as const
  const brought = async (at: 'snapshot' | 'near', rows: number | null, objects = 2, pick: object = {}) => {
    const manifest = { ...someManifest(ctx), census: { ...census, at, unseen: [] } }
    const restorer: Restorer = {
      picksInside: true,
      plan: () => Promise.reject(new Error('not here')),
      apply: async () => ({ target: 'x', objects, rows, warnings: ['a'] }),
    }
    const chosen = { allow: new Set<string>(), ...pick }
    const { warnings, isShort } = await restore(
      manifest,
      [memoryStore('disk')],
      restorer,
      chosen,
      false,
      () => [],
      ctx,
    )
    return [warnings.slice(1).map(text => /1000 rows .* and (\d+) are there/.exec(text)?.[1]), isShort]
  }
  assert.deepEqual(await brought('snapshot', 999), [['999'], true])
  assert.deepEqual(await brought('snapshot', 1000), [[], undefined])
  // Who restored may not see the other table.
  assert.deepEqual(await brought('snapshot', 500, 1), [['500'], undefined])
  assert.deepEqual(await brought('near', 990), [[], undefined])
  assert.deepEqual(await brought('near', 900), [['900'], undefined])
  assert.deepEqual(await brought('snapshot', null), [[], undefined])
  assert.deepEqual(await brought('snapshot', 3, 1, { only: ['t'] }), [[], undefined])
})
