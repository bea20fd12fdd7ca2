import assert from 'node:assert/strict'
import { Failure } from '../../../src/model/failure.ts'
import type { Bytes } from '../../../src/model/step.ts'
import { hostileBytes, inChunks, inOddChunks, KiB, MiB, slowly } from './bytes.ts'
import type { Excuses, Rule } from './subject.ts'

export function bodies(rule: Rule): void {
  const sizes = [0, 1, 64 * KiB - 1, 64 * KiB, 64 * KiB + 1, MiB, 5 * MiB + 3, 9 * MiB + 11]
  for (const size of sizes) {
    rule(`an object of ${size} bytes comes back byte by byte, from a buffer and from a stream`, async s => {
      const bytes = hostileBytes(size)
      const whole = await s.put('data/whole', bytes)
      const streamed = await s.put('data/streamed', inOddChunks(bytes), { sizeHint: size })
      assert.equal(whole.bytes, size)
      assert.equal(streamed.bytes, size)
      assert.equal(streamed.key, 'data/streamed')
      await s.holds('data/whole', bytes)
      await s.holds('data/streamed', bytes)
    })
  }

  rule('a wrong size hint changes nothing', async s => {
    const bytes = hostileBytes(70 * KiB)
    await s.put('short', inOddChunks(bytes), { sizeHint: 10 })
    await s.put('long', inOddChunks(bytes), { sizeHint: 9 * MiB })
    await s.holds('short', bytes)
    await s.holds('long', bytes)
  })

  rule('a body of many tiny chunks, empty ones among them, arrives whole', async s => {
    const bytes = hostileBytes(20_000)
    await s.put('tiny', inChunks(bytes, [1, 0, 0, 3, 2, 0]))
    await s.holds('tiny', bytes)
  })

  rule('a body that comes slowly arrives whole', async s => {
    const bytes = hostileBytes(300 * KiB)
    await s.put('slow', slowly(inChunks(bytes, [50 * KiB]), 30))
    await s.holds('slow', bytes)
  })

  rule('an object is not there before the end of its body, and is there when put returns', async (s, t) => {
    if (!s.store.can.hidesPartial) return t.skip('this store shows what is half written')
    const bytes = hostileBytes(3 * MiB)
    let looked = 0
    async function* watched(): Bytes {
      for await (const chunk of inChunks(bytes, [MiB])) {
        yield chunk
        await s.isAbsent('growing')
        looked++
      }
    }
    await s.put('growing', watched())
    assert.equal(looked, 3)
    await s.holds('growing', bytes)
  })

  rule('eight puts of different keys at once do not disturb each other', async s => {
    const keys = Array.from({ length: 8 }, (_, n) => `new/folder/${n % 2}/object-${n}`)
    const body = (n: number): Uint8Array => hostileBytes(200 * KiB + n, n)
    await Promise.all(keys.map((key, n) => s.put(key, slowly(inOddChunks(body(n)), n % 3))))
    for (const [n, key] of keys.entries()) await s.holds(key, body(n))
    await s.lists('', keys)
  })
}

const hurtingKeys = [
  'plain',
  'with space/ leading and trailing /x',
  `quotes/'single' "double" \`back\``,
  'shell/$(touch x);&|<>!*?[a-z]{b,c}~',
  '-rf/--help/-',
  'percent/100%/%2F/%2e%2e/%00',
  'query/a?b=c&d#e+f;g=h:i@j,k',
  'backslash/a\\b\\..\\c',
  'newline/a\nb\r\nc',
  'control/\u0001\u001f\u007f\t',
  'emoji/😀👩‍👩‍👧‍👦/ß/漢字/עברית',
  'composed/\u00e9',
  'composed/e\u0301',
  'case/App',
  'case/app',
  'Case/app',
  '.hidden/..double/...triple/.x.part',
  'trailing./dot./end.',
  'xml/<a>&amp;]]>"',
  `long/${'n'.repeat(200)}/${'é'.repeat(100)}`,
  `deep/${'d/'.repeat(30)}end`,
  'windows/lost+found/CON/aux.txt/desktop.ini',
]

export function names(rule: Rule, excuses: Excuses): void {
  rule('names that hurt are kept byte by byte and kept apart', async (s, t) => {
    const keys = hurtingKeys.filter(key => {
      const excuse = excuses.keys?.find(each => each.matching.test(key))
      if (excuse) t.diagnostic(`left out ${JSON.stringify(key)}: ${excuse.because}`)
      return !excuse
    })
    for (const key of keys) await s.put(key, Buffer.from(key))
    for (const key of keys) await s.holds(key, Buffer.from(key))
    await s.lists('', keys)
  })

  const faulty = ['', '/', '/a', 'a/', 'a//b', '.', '..', '../x', 'a/../b', 'a/./b', 'a/..', 'a\0b']
  for (const key of faulty) {
    rule(`the key ${JSON.stringify(key)} is refused before anything is touched`, async s => {
      let pulled = false
      async function* body(): Bytes {
        pulled = true
        yield Buffer.from('x')
      }
      await assert.rejects(s.put(key, body()), Failure)
      await assert.rejects(s.put(key, Buffer.from('x')), Failure)
      assert.equal(pulled, false, 'the body was read')
      if (s.store.can.read) await assert.rejects(s.read(key), Failure)
      if (s.store.can.remove) await assert.rejects(s.store.remove(key, undefined, s.ctx), Failure)
      await s.lists('', [])
      await s.hasNoLeftovers('')
    })
  }
}
