import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { damage, Failure } from '../model/failure.ts'
import { memoryStore } from '../stores/memory.ts'
import { withFirstReadable } from './first-readable.ts'

const stores = ['a', 'b', 'c'].map(name => memoryStore(name))

/** What becomes of it where reading from these stores fails, and which were asked. */
async function attempted(failing: Record<string, Error>, mayGoOn?: () => boolean) {
  const ctx = testContext()
  const asked: string[] = []
  const work = async ({ name }: { name: string }): Promise<string> => {
    asked.push(name)
    if (failing[name]) throw failing[name]
    return name
  }
  const result = await withFirstReadable(
    stores,
    [],
    ({ name }) => `cannot use ${name}`,
    work,
    ctx,
    mayGoOn,
  ).catch((error: unknown) => error)
  return { result, asked: asked.join(''), told: ctx.events.length }
}

const damaged = damage('it is damaged', 'bytes are wrong')
const silent = new Failure({ what: 'cannot read it', why: 'nobody answers' })

test('the next store is asked where a copy is damaged or out of reach, and each is told of', async () => {
  assert.deepEqual(await attempted({}), { result: 'a', asked: 'a', told: 0 })
  assert.deepEqual(await attempted({ a: damaged, b: silent }), { result: 'c', asked: 'abc', told: 2 })
  const none = await attempted({ a: damaged, b: damaged, c: silent })
  assert.deepEqual(none, { result: silent, asked: 'abc', told: 2 })
})

test('what fails the same from everywhere ends it, and so does what cannot be done again', async () => {
  const { result, asked } = await attempted({ a: new Error('the target is full') })
  assert.deepEqual([asked, String(result)], ['a', 'Failure: cannot use a: the target is full'])
  assert.deepEqual(await attempted({ a: damaged }, () => false), { result: damaged, asked: 'a', told: 0 })
})
