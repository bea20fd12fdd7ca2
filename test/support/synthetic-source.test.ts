import assert from 'node:assert/strict'
import { test } from 'node:test'
import { flow } from '../../src/platform/flow.ts'
import { capture } from './capture.ts'
import { testContext } from './context.ts'
import { collect } from './reader.ts'
import { sourceContract } from './source-contract.ts'
import { syntheticBytes, syntheticRestorer, syntheticSource } from './synthetic-source.ts'

for (const as of ['bytes', 'program'] as const) {
  sourceContract(`a synthetic source of ${as}`, async () => {
    const restored = new Map<string, Uint8Array>()
    return {
      source: syntheticSource({ artifacts: ['a', 'b/é'].map(name => ({ name, bytes: 300_001, as })) }),
      restorer: syntheticRestorer(restored),
      state: async () => null,
      async compare() {
        assert.equal(restored.size, 2)
        for (const [name, bytes] of restored)
          assert.ok(Buffer.from(bytes).equals(syntheticBytes(name, 300_001)))
      },
    }
  })

  test(`a synthetic artifact of ${as} breaks where it was told to`, async () => {
    const breakAfter = { bytes: 100_000, how: 'throw' } as const
    const source = syntheticSource({ artifacts: [{ name: 'a', bytes: 300_000, as, breakAfter }] })
    const ctx = testContext()
    await using session = await source.open({ name: 'unit' }, null, 'none', ctx)
    for await (const artifact of session.artifacts()) {
      await assert.rejects(collect(flow(artifact.open(ctx), [], ctx)), /synthetic/)
    }
  })
}

test('a synthetic source fails after its last byte', async () => {
  const source = syntheticSource({ artifacts: [{ name: 'a', bytes: 10 }], failIn: 'finish', estimate: 1e13 })
  await assert.rejects(capture(source, testContext()), /in finish/)
  assert.deepEqual(source.observed.drained, ['a'])
  assert.equal(source.observed.sessions[0]?.disposals, 1)
})

test('a synthetic source that hangs is ended by an abort', async () => {
  const controller = new AbortController()
  const source = syntheticSource({ hangIn: 'census' })
  setTimeout(() => controller.abort(new Error('enough')), 50)
  await assert.rejects(capture(source, testContext({ signal: controller.signal })), /enough/)
})
