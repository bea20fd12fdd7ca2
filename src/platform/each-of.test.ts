import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { eachOf } from './each-of.ts'

test('at most so many are worked on at once, and the results keep their order', async () => {
  let running = 0
  let most = 0
  const done = await eachOf([30, 1, 20, 5, 10, 1], 3, async ms => {
    most = Math.max(most, ++running)
    await sleep(ms)
    running--
    return ms
  })
  assert.deepEqual(done, [30, 1, 20, 5, 10, 1])
  assert.equal(most, 3)
  assert.deepEqual(await eachOf([], 3, async () => 1), [])
})

test('after a failure nothing more is begun', async () => {
  const begun: number[] = []
  const work = async (n: number): Promise<void> => {
    begun.push(n)
    await sleep(1)
    if (n === 2) throw new Error('two')
  }
  await assert.rejects(eachOf([1, 2, 3, 4, 5, 6, 7, 8], 2, work), /two/)
  await sleep(20)
  assert.ok(begun.length <= 4, String(begun))
})
