import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { Failure } from '../../../src/model/failure.ts'
import { NotFound } from '../../../src/model/store.ts'
import { collect, hostileBytes, inOddChunks, MiB, sameBytes, slowly } from './bytes.ts'
import type { Rule, Subject } from './subject.ts'

export function reading(rule: Rule): void {
  rule('a key that holds nothing is not found', async (s, t) => {
    if (!s.store.can.read) return readIsRefused(s, t)
    await s.put('a/b', Buffer.from('x'))
    for (const key of ['absent', 'a', 'a/b/c', 'a/bc', 'A/B']) await assert.rejects(s.read(key), NotFound)
  })

  rule('a range is given exactly, and one that reaches beyond the end ends with the object', async (s, t) => {
    if (!s.store.can.read) return t.skip('this store cannot read')
    const size = 3 * MiB + 7
    const bytes = hostileBytes(size)
    await s.put('ranged', inOddChunks(bytes))
    const ranges = [
      [0, 0],
      [5, 9],
      [0, size - 1],
      [size - 1, size - 1],
      [MiB - 1, MiB],
      [MiB, 2 * MiB + 5],
      [17, 2 * MiB + 17],
      [size - 3, size + 1000],
      [size - 3, Number.MAX_SAFE_INTEGER],
    ] as const
    for (const [first, last] of ranges) {
      const got = await collect(s.store.get('ranged', { range: [first, last] }, s.ctx))
      sameBytes(got, bytes.subarray(first, last + 1), `bytes ${first} to ${last}`)
    }
  })

  rule('a reader that comes slowly gets all, and one that goes away disturbs nobody', async (s, t) => {
    if (!s.store.can.read) return t.skip('this store cannot read')
    const bytes = hostileBytes(4 * MiB)
    await s.put('read', bytes)
    for await (const chunk of s.store.get('read', {}, s.ctx)) {
      assert(chunk.byteLength > 0)
      break
    }
    sameBytes(await collect(slowly(s.store.get('read', {}, s.ctx), 5)), bytes, 'read')
  })

  rule('an abort half-way ends a read with its reason', async (s, t) => {
    if (!s.store.can.read) return t.skip('this store cannot read')
    await s.put('read', hostileBytes(9 * MiB))
    const reason = new Error('told to stop')
    const abort = new AbortController()
    const ctx = s.context(abort.signal)
    const read = async (): Promise<void> => {
      for await (const _ of s.store.get('read', {}, ctx)) abort.abort(reason)
    }
    await assert.rejects(read(), error => error === reason)
  })
}

async function readIsRefused(s: Subject, t: TestContext): Promise<void> {
  t.diagnostic('this store cannot read: it must say so')
  await s.put('a', Buffer.from('x'))
  await assert.rejects(s.read('a'), Failure)
}

export function listing(rule: Rule): void {
  rule('a listing gives the objects whose keys start with the prefix, and only those', async (s, t) => {
    if (!s.store.can.list) {
      t.diagnostic('this store cannot list: it must say so')
      await assert.rejects(Array.fromAsync(s.store.list('', s.ctx)), Failure)
      return
    }
    const keys = ['a/bc', 'a/bd/e', 'a/b-/f', 'a/c', 'ab', 'b/a/b', '.cairn/v1/x', 'a/.b']
    for (const key of keys) await s.put(key, Buffer.from(key))
    const prefixes = [
      '',
      'a',
      'a/',
      'a/b',
      'a/bc',
      'a/bd',
      'a/bd/',
      'a/.',
      '.cairn/v1/',
      '.',
      'a/bc/',
      'c',
      'n/o',
    ]
    for (const prefix of prefixes) {
      await s.lists(
        prefix,
        keys.filter(key => key.startsWith(prefix)),
      )
    }
    for (const prefix of ['/', '../', 'a//', './', 'a/../']) await s.lists(prefix, [])
  })

  rule('an entry tells size and time', async (s, t) => {
    if (!s.store.can.list) return t.skip('this store cannot list')
    await s.put('a', hostileBytes(12_345))
    const [entry] = await Array.fromAsync(s.store.list('a', s.ctx))
    assert.equal(entry?.bytes, 12_345)
    const age = Math.abs(Date.now() - Number(entry?.modified))
    assert(age < 10 * 60_000, `modified ${entry?.modified}`)
  })

  rule('300 objects are listed, each once', async s => {
    const keys = Array.from({ length: 300 }, (_, n) => `many/${n % 7}/${n}`)
    for (let n = 0; n < keys.length; n += 20) {
      await Promise.all(keys.slice(n, n + 20).map(key => s.put(key, Buffer.from(key))))
    }
    await s.lists('many/', keys)
    await s.lists(
      'many/3/',
      keys.filter(key => key.startsWith('many/3/')),
    )
  })

  rule('a listing may be left half-way', async (s, t) => {
    if (!s.store.can.list) return t.skip('this store cannot list')
    for (const key of ['a', 'b', 'c']) await s.put(key, Buffer.from(key))
    for await (const entry of s.store.list('', s.ctx)) {
      assert(entry.key)
      break
    }
    await s.lists('', ['a', 'b', 'c'])
  })
}
