import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { link as linkFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { testContext } from '../../../test/support/context.ts'
import { eventually } from '../../../test/support/eventually.ts'
import { keysOf } from '../../../test/support/job.ts'
import type { Store } from '../../model/store.ts'
import { localStore } from './index.ts'
import type { Link } from './write.ts'

const ctx = testContext()
const x = Buffer.from('x')

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'cairn-answering-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** A store whose file system does not answer when it is asked for a link, until it is told to. */
function hanging(t: TestContext): { store: Store; asked: Promise<void>; answer(): void } {
  const asked = Promise.withResolvers<void>()
  const answer = Promise.withResolvers<void>()
  const link: Link = async (from, to) => {
    asked.resolve()
    await answer.promise
    await linkFile(from, to)
  }
  return {
    store: localStore('nas', { path: folder(t) }, link),
    asked: asked.promise,
    answer: answer.resolve,
  }
}

test('a file system that does not answer fails after a stall, then at once, alone, and until it answers', async t => {
  const { store, answer } = hanging(t)
  await assert.rejects(store.put('a', x, {}, testContext({ stallMs: 200 })), /store nas has stalled/)
  const silent = /store nas does not answer/
  await assert.rejects(keysOf(store, ctx), silent)
  await assert.rejects(Array.fromAsync(store.get('b', {}, ctx)), silent)
  await assert.rejects(store.put('b', x, {}, ctx), silent)
  await assert.rejects(store.remove('b', undefined, ctx), silent)
  await assert.rejects(store.sweep('b', ctx), silent)
  await assert.rejects(store.probe(ctx), silent)
  await localStore('disk', { path: folder(t) }).put('b', x, {}, ctx)
  answer()
  await eventually('it answers', () =>
    keysOf(store, ctx).then(
      () => true,
      () => false,
    ),
  )
  assert.deepEqual(await keysOf(store, ctx), ['a'])
})

test('whoever waits at a terminal waits less', async t => {
  const { store, answer } = hanging(t)
  await assert.rejects(store.put('a', x, {}, testContext({ patienceMs: 40 })), /store nas has stalled/)
  answer()
})

test('an abort ends what waits for a file system that does not answer', async t => {
  const { store, asked, answer } = hanging(t)
  const controller = new AbortController()
  const stopped = new Error('stopped')
  const putting = store.put('a', x, {}, testContext({ signal: controller.signal }))
  void asked.then(() => controller.abort(stopped))
  await assert.rejects(putting, stopped)
  answer()
  await eventually('it answers', () =>
    keysOf(store, ctx).then(
      () => true,
      () => false,
    ),
  )
})
