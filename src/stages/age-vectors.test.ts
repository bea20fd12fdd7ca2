// The test vectors that implementations of age share (C2SP/CCTV), with the keys that a stage can have.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { suite, test } from 'node:test'
import { inflateSync } from 'node:zlib'
import * as files from 'cctv-age'
import { testContext } from '../../test/support/context.ts'
import { inChunks, seeded } from '../../test/support/samples.ts'
import { exitCode, Failure } from '../model/failure.ts'
import { Secret } from '../model/secret.ts'
import type { Stage } from '../model/step.ts'
import { flow } from '../platform/flow.ts'
import { AgeOptions, agePassphraseStage, ageStage } from './age.ts'

const ctx = testContext()

type Implementation = 'program' | 'library'

interface Vector {
  readonly name: string
  readonly expect: string
  readonly identities: readonly string[]
  readonly passphrases: readonly string[]
  readonly armored: boolean
  readonly payload: string | null
  readonly file: Buffer
}

// The post-quantum keys of age 1.3 are not ours to write.
function isOurs(head: string): boolean {
  return (
    /^(identity: AGE-SECRET-KEY-1|passphrase: )/m.test(head) && !/^identity: AGE-SECRET-KEY-PQ/m.test(head)
  )
}

function vectorOf(name: string, bytes: Uint8Array): Vector | null {
  const all = Buffer.from(bytes)
  const end = all.indexOf('\n\n')
  const head = all.toString('latin1', 0, end)
  if (!isOurs(head)) return null
  const fields = (key: string): string[] =>
    [...head.matchAll(new RegExp(`^${key}: (.*)$`, 'gm'))].map(([, value = '']) => value)
  const body = all.subarray(end + 2)
  return {
    name,
    expect: fields('expect')[0] ?? '',
    identities: fields('identity'),
    passphrases: fields('passphrase'),
    armored: fields('armored')[0] === 'yes',
    payload: fields('payload')[0] ?? null,
    file: fields('compressed')[0] === 'zlib' ? inflateSync(body) : body,
  }
}

/** White space around an armor, about which age 1.1 of Debian 12 thought differently. */
const newerThanProgram = ['armor_empty_last_line', 'armor_whitespace_outside']

/** The program takes identities, armored or not; the library takes passphrases too, and no armor. */
function canTake({ name, passphrases, armored }: Vector, implementation: Implementation): boolean {
  if (implementation === 'library') return !armored
  return passphrases.length === 0 && !newerThanProgram.includes(name)
}

function stageFor({ identities, passphrases }: Vector, implementation: Implementation): Promise<Stage> {
  if (passphrases.length > 0)
    return Promise.resolve(agePassphraseStage(passphrases.map(each => new Secret(each))))
  const options = AgeOptions.parse({ identity: identities.join('\n') })
  return ageStage(options, { reading: true, implementation })
}

/** What came out, and how it ended. */
async function decrypt(vector: Vector, implementation: Implementation, seed: number) {
  const age = await stageFor(vector, implementation)
  const hash = createHash('sha256')
  try {
    const input = inChunks(vector.file, seeded(seed), 12)
    for await (const chunk of flow(input, [age.decode()], ctx)) hash.update(chunk)
    return { failure: null, payload: hash.digest('hex') }
  } catch (failure) {
    return { failure, payload: hash.digest('hex') }
  }
}

async function check(vector: Vector, implementation: Implementation): Promise<void> {
  const { failure, payload } = await decrypt(vector, implementation, vector.file.length)
  if (vector.expect === 'success') {
    assert.equal(failure, null)
    assert.equal(payload, vector.payload)
    return
  }
  assert.ok(failure instanceof Failure)
  const exit = vector.expect === 'no match' ? exitCode.wrongKey : exitCode.failed
  assert.equal(failure.exit, exit, `${failure.message}`)
}

const vectors = Object.entries(files).flatMap(([name, bytes]) => vectorOf(name, bytes) ?? [])

suite('the shared test vectors of age', () => {
  for (const implementation of ['program', 'library'] as const) {
    for (const vector of vectors.filter(each => canTake(each, implementation))) {
      test(`${vector.name} by the ${implementation}: ${vector.expect}`, () => check(vector, implementation))
    }
  }
})
