import assert from 'node:assert/strict'
import { test } from 'node:test'
import { manifestOf } from '../../test/support/capture.ts'
import { testContext } from '../../test/support/context.ts'
import type { Restorer } from '../model/restore.ts'
import { memoryStore } from '../stores/memory.ts'
import { planRestore } from './restore.ts'

test('options and names that a restorer does not know are refused before it is asked', async () => {
  const ctx = testContext()
  const at = new Date()
  const facts = {
    kind: 'files',
    capturedAt: at,
    consistentAt: at,
    client: 'tar',
    options: {},
    warnings: [],
  } as const
  const manifest = manifestOf({ engine: 'files', identity: 'x', version: '1', unit: 'x' }, [], facts, ctx)
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
