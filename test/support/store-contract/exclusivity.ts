import assert from 'node:assert/strict'
import { AlreadyExists } from '../../../src/model/store.ts'
import { failing, hostileBytes, inOddChunks, KiB, MiB, slowly } from './bytes.ts'
import type { Excuses, Rule } from './subject.ts'

export function exclusivity(rule: Rule, excuses: Excuses): void {
  rule('a key that is taken is not replaced', async (s, t) => {
    if (!s.store.can.exclusive) return t.skip('this store does not notice that a key is taken')
    await s.put('job/id/taken', Buffer.from('first'))
    await assert.rejects(s.put('job/id/taken', Buffer.from('second')), AlreadyExists)
    await assert.rejects(s.put('job/id/taken', inOddChunks(hostileBytes(MiB))), AlreadyExists)
    await s.holds('job/id/taken', Buffer.from('first'))
    await s.lists('', ['job/id/taken'])
    await s.hasNoLeftovers('job/')
  })

  rule('a put that may replace does, and is whole', async s => {
    const bytes = hostileBytes(2 * MiB)
    await s.put('fixed-key', Buffer.from('first'))
    await s.put('fixed-key', inOddChunks(bytes), { replace: true })
    await s.holds('fixed-key', bytes)
    await s.put('fixed-key', Buffer.from('third'), { replace: true })
    await s.holds('fixed-key', Buffer.from('third'))
    await s.lists('', ['fixed-key'])
    await s.put('new-key', Buffer.from('new'), { replace: true })
    await s.holds('new-key', Buffer.from('new'))
  })

  rule('a put that may replace and fails leaves what was there', async (s, t) => {
    if (!s.store.can.hidesPartial) return t.skip('this store shows what is half written')
    await s.put('fixed-key', Buffer.from('first'))
    await assert.rejects(s.put('fixed-key', failing(2 * MiB), { replace: true }))
    await s.holds('fixed-key', Buffer.from('first'))
  })

  rule('of eight puts to one key at once exactly one wins, and its bytes are whole', async (s, t) => {
    if (!s.store.can.exclusive) return t.skip('this store does not notice that a key is taken')
    if (excuses.sameKeyRace) return t.skip(excuses.sameKeyRace)
    const bodies = Array.from({ length: 8 }, (_, n) => hostileBytes(100 * KiB + n, n))
    const puts = bodies.map((body, n) => s.put('race/key', n % 2 ? body : slowly(inOddChunks(body), 1)))
    const outcomes = await Promise.allSettled(puts)
    const winners = outcomes.flatMap((outcome, n) => (outcome.status === 'fulfilled' ? [n] : []))
    const [winner = -1] = winners
    assert.equal(winners.length, 1)
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') assert(outcome.reason instanceof AlreadyExists, outcome.reason)
    }
    await s.holds('race/key', bodies[winner] ?? new Uint8Array())
    await s.hasNoLeftovers('race/')
  })
}
