import assert from 'node:assert/strict'
import { Failure } from '../../../src/model/failure.ts'
import { NotFound } from '../../../src/model/store.ts'
import { collect, hostileBytes, inOddChunks, MiB, sameBytes } from './bytes.ts'
import type { Excuses, Rule } from './subject.ts'

export function removing(rule: Rule): void {
  rule(
    'what was removed is gone, all else stays, and removing it again says that it is absent',
    async (s, t) => {
      if (!s.store.can.remove) {
        t.diagnostic('this store cannot remove: it must say so')
        await s.put('a', Buffer.from('x'))
        await assert.rejects(s.store.remove('a', undefined, s.ctx), Failure)
        return
      }
      const gone = await s.put('job/1/a', Buffer.from('a'))
      await s.put('job/1/b', Buffer.from('b'))
      await s.put('job/2/a', Buffer.from('c'))
      assert.equal(await s.store.remove('job/1/a', gone.version, s.ctx), 'removed')
      assert.equal(await s.store.remove('job/1/a', gone.version, s.ctx), 'absent')
      for (const key of ['absent', 'job', 'job/1', 'job/1/', 'job/1/b/c'].filter(key => !key.endsWith('/'))) {
        assert.equal(await s.store.remove(key, undefined, s.ctx), 'absent', key)
      }
      await s.isAbsent('job/1/a')
      await s.lists('', ['job/1/b', 'job/2/a'])
      await s.put('job/1/a', Buffer.from('new'))
      await s.holds('job/1/a', Buffer.from('new'))
    },
  )

  rule('without a version, only what is really gone is called removed', async (s, t) => {
    if (!s.store.can.remove || !s.store.can.versions) return t.skip('this store has no versions to remove')
    const { version } = await s.put('a', Buffer.from('x'))
    const outcome = await s.store.remove('a', undefined, s.ctx)
    await s.isAbsent('a')
    const kept = collect(s.reading.get('a', { ...(version && { version }) }, s.ctx))
    if (outcome === 'removed') await assert.rejects(kept, NotFound)
    else sameBytes(await kept, Buffer.from('x'), 'a')
  })

  rule('all that is listed can be removed while the listing goes on', async (s, t) => {
    if (!s.store.can.remove || !s.store.can.list) return t.skip('this store cannot list and remove')
    const keys = Array.from({ length: 40 }, (_, n) => `job/${n % 4}/${n}`)
    await Promise.all(keys.map(key => s.put(key, Buffer.from(key))))
    await s.put('stays', Buffer.from('x'))
    const removed: string[] = []
    for await (const { key } of s.store.list('job/', s.ctx)) {
      await s.store.remove(key, undefined, s.ctx)
      removed.push(key)
    }
    assert.deepEqual(removed.sort(), keys.sort())
    await s.lists('', ['stays'])
  })

  rule('objects that are put and removed side by side do not trip over each other', async (s, t) => {
    if (!s.store.can.remove) return t.skip('this store cannot remove')
    const one = async (n: number): Promise<void> => {
      for (let round = 0; round < 5; round++) {
        const { version } = await s.put(`shared/folder/${n}`, Buffer.from(`${n}`))
        assert.equal(await s.store.remove(`shared/folder/${n}`, version, s.ctx), 'removed')
      }
    }
    await Promise.all(Array.from({ length: 8 }, (_, n) => one(n)))
    await s.lists('', [])
  })
}

export function keeping(rule: Rule, excuses: Excuses): void {
  rule('a locked object cannot be removed, and its lock moves to a later date', async (s, t) => {
    const lockUntil = s.store.lockUntil?.bind(s.store)
    assert.equal(s.store.can.lock, lockUntil !== undefined)
    if (!lockUntil) return t.skip('this store has no locks')
    const hours = (n: number): Date => new Date(Date.now() + n * 3_600_000)
    const lock = { mode: 'governance', until: hours(1) } as const
    for (const [key, body] of [
      ['small', Buffer.from('x')],
      ['large', inOddChunks(hostileBytes(9 * MiB))],
    ] as const) {
      const { version } = await s.put(key, body, { lock })
      assert(version, 'a store with locks tells the version')
      if (s.store.can.remove) assert.equal(await s.store.remove(key, version, s.ctx), 'locked')
      const later = hours(2)
      const really = await lockUntil(key, version, later, s.ctx)
      assert(Math.abs(really.getTime() - later.getTime()) <= 1000, `${really.toISOString()}`)
      if (s.store.can.remove) assert.equal(await s.store.remove(key, version, s.ctx), 'locked')
    }
    await s.holds('small', Buffer.from('x'))
  })

  rule('each version stays readable and is removed by itself', async (s, t) => {
    if (!s.store.can.versions) return t.skip('this store has no versions')
    const first = await s.put('v', Buffer.from('first'))
    const second = await s.put('v', Buffer.from('second'), { replace: true })
    assert(first.version && second.version && first.version !== second.version)
    if (!s.reading.can.read) return t.skip('this store cannot read')
    const read = (version: string): Promise<Buffer> => collect(s.reading.get('v', { version }, s.ctx))
    sameBytes(await read(first.version), Buffer.from('first'), 'first')
    sameBytes(await read(second.version), Buffer.from('second'), 'second')
    if (!s.store.can.remove) return
    assert.equal(await s.store.remove('v', second.version, s.ctx), 'removed')
    await s.holds('v', Buffer.from('first'))
    assert.equal(await s.store.remove('v', first.version, s.ctx), 'removed')
    await s.isAbsent('v')
    await assert.rejects(read(first.version), NotFound)
  })

  rule('tags and expiry are part of what is stored', async (s, t) => {
    const tags = { 'backup/schedule': 'nightly +1', plan: 'a b' }
    const expires = new Date('2031-02-03T04:05:06Z')
    if (excuses.noTags) {
      await assert.rejects(s.put('small', Buffer.from('x'), { tags }), /the tags .* cannot be set/)
      return t.skip(excuses.noTags)
    }
    await s.put('small', Buffer.from('x'), { tags, expires })
    await s.put('large', inOddChunks(hostileBytes(9 * MiB)), { tags, expires })
    await s.holds('small', Buffer.from('x'))
    if (!s.opened.facts) return t.skip('this store does not show tags')
    for (const key of ['small', 'large']) {
      const facts = await s.opened.facts(key)
      assert.deepEqual(facts.tags, tags)
      assert.equal(facts.expires?.toISOString(), expires.toISOString())
    }
  })
}
