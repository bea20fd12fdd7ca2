import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../model/failure.ts'
import { parseConfig } from './read.ts'

/** What is wrong with a configuration, one line each. */
function faults(text: string): string[] {
  try {
    parseConfig(text, 'cairn.yaml')
    return []
  } catch (error) {
    assert.ok(error instanceof Failure && error.exit === 2)
    return error.why
      .split('\n')
      .slice(1)
      .map(line => line.trim())
  }
}

const job = (to: string): string => `stores:
  one: { type: local, path: /a }
  two: { type: local, path: /b }
jobs:
  wiki:
    source: { type: sqlite, path: /wiki.db }
    to: ${to}
`

test('a sound configuration has no faults', () => {
  assert.deepEqual(faults(job('[one, { store: two, after: one }]')), [])
})

test('all faults are told at once, each with its line and what was probably meant', () => {
  const found = faults(`stores:
  disk: { type: locl, path: /a }
  far: { type: s3, bucket: b, regoin: x }
jobs:
  wiki:
    source: { type: sqlite, path: relative.db }
    to: [disk]
    kep: { last: 1 }
`)
  assert.equal(found.length, 4)
  assert.match(found[0] ?? '', /^line 2: .*did you mean "local"\?/)
  assert.match(found[1] ?? '', /^line 3: unknown key "regoin".*did you mean "region"\?/)
  assert.match(found[2] ?? '', /^line 6: .*absolute/)
  assert.match(found[3] ?? '', /^line 8: unknown key "kep".*did you mean "keep"\?/)
})

test('a store that is not there, or stands twice, or is fed by nobody, is a fault', () => {
  assert.match(faults(job('[oen]'))[0] ?? '', /^line 7: there is no store "oen"; did you mean "one"\?/)
  assert.match(faults(job('[one, one]'))[0] ?? '', /store "one" stands there twice/)
  assert.match(faults(job('[{ store: one, after: two }]'))[0] ?? '', /"after: two" must name a store/)
  assert.match(faults(job('[one]').replace('/b', '/a/')).join(), /stores one and two are the same folder/)
})

test('a name that means something else, or that stores do not tell apart, is refused', () => {
  assert.match(faults(job('[one]').replace('wiki:', 'latest:'))[0] ?? '', /"latest" means the newest backup/)
  assert.match(faults(job('[one]').replace('wiki:', 'Wiki:'))[0] ?? '', /upper case/)
})

test('a duration is a whole number and a unit, and nothing ambiguous', () => {
  for (const wrong of ['"30"', '1 month', '-5m', '1.5h', '']) {
    assert.notDeepEqual(faults(`${job('[one]')}    undelete: ${wrong}\n`), [], wrong)
  }
  assert.deepEqual(faults(`${job('[one]')}    undelete: 30 days\n`), [])
})

test('what YAML would pass over is an error: duplicate keys, unknown tags', () => {
  assert.match(faults('stores: {}\nstores: {}\n')[0] ?? '', /^line 2: .*unique/)
  assert.notDeepEqual(faults('stores: !secret {}\n'), [])
})
