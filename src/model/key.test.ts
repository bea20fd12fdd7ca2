import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  beginKey,
  type ManifestKey,
  manifestKey,
  parseBeginKey,
  parseManifestKey,
  parseMarkKey,
} from './key.ts'

const key: ManifestKey = {
  id: '20261121T020000Z-k7f3q9x2'.replace('9', '7'),
  job: 'shop',
  engine: 'postgres',
  kind: 'logical',
  encryption: 'age',
  bytes: 12345,
  digest: '0123456789abcdef',
  unit: 'shop',
}

test('a unit of any name stands in the key of its manifest, in characters that every store keeps apart', () => {
  for (const unit of [
    'shop',
    'App',
    'app',
    'a/b',
    'a"b\n',
    '🐘.db',
    '_5f',
    '',
    'latest',
    '../x',
    'host=evil',
  ]) {
    const spelled = manifestKey({ ...key, unit })
    assert.match(spelled, /^[a-zTZ0-9._/-]+$/)
    assert.deepEqual(parseManifestKey(spelled), { ...key, unit })
  }
  assert.notEqual(manifestKey({ ...key, unit: 'App' }), manifestKey({ ...key, unit: 'app' }))
})

test('of a name that is too long for a file the beginning stands there, in whole characters', () => {
  const spelled = manifestKey({ ...key, unit: '🐘'.repeat(60) })
  assert.ok((spelled.split('/').at(-1) ?? '').length < 255)
  assert.equal(parseManifestKey(spelled)?.unit, '🐘'.repeat(10))
})

test('a key of an earlier Cairn tells no unit', () => {
  const spelled = manifestKey({ ...key, unit: null })
  assert.match(spelled, /0123456789abcdef\.json$/)
  assert.deepEqual(parseManifestKey(spelled), { ...key, unit: null })
})

test('a key whose time is none is a stranger: not a manifest, a mark or a begin record', () => {
  const id = '20261399T996199Z-k7f3q7x2'
  assert.equal(parseManifestKey(manifestKey({ ...key, id })), null)
  assert.equal(parseBeginKey(beginKey('shop', id)), null)
  assert.ok(parseBeginKey(beginKey('shop', key.id)))
  const mark = (at: string) => parseMarkKey(`.cairn/v1/marks/${key.id}/${at}-k7f3q7x2.hold.json`)
  assert.deepEqual([mark('20261399T020000000Z'), mark('20261121T020000123Z')?.mark], [null, 'hold'])
})
