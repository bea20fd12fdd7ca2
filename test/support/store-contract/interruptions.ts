import assert from 'node:assert/strict'
import type { Bytes } from '../../../src/model/step.ts'
import { bodyError, collect, failing, hostileBytes, inChunks, KiB, MiB } from './bytes.ts'
import type { Rule } from './subject.ts'

export function interruptions(rule: Rule): void {
  for (const after of [0, 1, 100 * KiB, 6 * MiB]) {
    rule(
      `a body that fails after ${after} bytes leaves nothing, and its error is what put throws`,
      async s => {
        const error = await s.put('job/id/broken', failing(after)).then(
          () => assert.fail('the put resolved'),
          (thrown: unknown) => thrown,
        )
        assert(isOrIsCausedBy(error, bodyError), `another error was thrown: ${error}`)
        await s.isNotLeft('job/id/broken')
      },
    )
  }

  for (const after of [0, 100 * KiB, 6 * MiB]) {
    rule(`an abort after ${after} bytes leaves nothing, and its reason is what put throws`, async s => {
      const reason = new Error('told to stop')
      const abort = new AbortController()
      let ended = false
      async function* body(): Bytes {
        try {
          yield* inChunks(hostileBytes(after), [64 * KiB])
          abort.abort(reason)
          for (;;) yield hostileBytes(64 * KiB)
        } finally {
          ended = true
        }
      }
      const ctx = s.context(abort.signal)
      await assert.rejects(s.store.put('job/id/aborted', body(), {}, ctx), error => error === reason)
      assert(ended, 'the body was not told to stop')
      await s.isNotLeft('job/id/aborted')
    })
  }

  rule('an abort while the body hangs ends the put', async s => {
    const reason = new Error('told to stop')
    const abort = new AbortController()
    async function* body(): Bytes {
      yield hostileBytes(100 * KiB)
      setTimeout(() => abort.abort(reason), 50)
      await new Promise(() => {})
    }
    const ctx = s.context(abort.signal)
    await assert.rejects(s.store.put('job/id/hung', body(), {}, ctx), error => error === reason)
    await s.isNotLeft('job/id/hung')
  })

  rule('work that was aborted before it began does nothing', async s => {
    const reason = new Error('told to stop')
    const ctx = s.context(AbortSignal.abort(reason))
    const isReason = (error: unknown): boolean => error === reason
    await s.put('there', Buffer.from('x'))
    await assert.rejects(s.store.put('not-there', Buffer.from('x'), {}, ctx), isReason)
    if (s.store.can.read) await assert.rejects(collect(s.store.get('there', {}, ctx)), isReason)
    if (s.store.can.list) await assert.rejects(Array.fromAsync(s.store.list('', ctx)), isReason)
    if (s.store.can.remove) await assert.rejects(s.store.remove('there', undefined, ctx), isReason)
    await s.lists('', ['there'])
  })

  rule('memory taken from the budget is given back, whether a put ends well or not', async s => {
    const all = 1024 * MiB
    const free = (): number => {
      using claim = s.ctx.budget.claim(all, 0)
      return claim.bytes
    }
    const before = free()
    await s.put('job/id/good', inChunks(hostileBytes(9 * MiB), [64 * KiB]))
    await assert.rejects(s.put('job/id/bad', failing(9 * MiB)))
    if (s.store.can.read) for await (const _ of s.store.get('job/id/good', {}, s.ctx)) break
    assert.equal(free(), before)
  })

  rule('a key can be put after a put of it failed', async (s, t) => {
    if (!s.store.can.hidesPartial) return t.skip('this store shows what is half written')
    await assert.rejects(s.put('job/again', failing(2 * MiB)))
    await s.put('job/again', Buffer.from('second try'))
    await s.holds('job/again', Buffer.from('second try'))
  })

  rule('sweeping removes no object and says how much it removed', async s => {
    await s.put('job/id/whole', hostileBytes(100))
    assert.equal(await s.store.sweep('job/', s.ctx), 0)
    assert.equal(await s.store.sweep('nobody-was-here/', s.ctx), 0)
    await s.holds('job/id/whole', hostileBytes(100))
  })

  rule('a probe of a store that works finds no fault and changes nothing', async s => {
    await s.store.probe(s.ctx)
    await s.put('a', Buffer.from('a'))
    await s.store.probe(s.ctx)
    await s.lists('', ['a'])
    await s.hasNoLeftovers('')
  })
}

function isOrIsCausedBy(error: unknown, cause: unknown): boolean {
  if (error === cause) return true
  return error instanceof Error && error.cause !== undefined && isOrIsCausedBy(error.cause, cause)
}
