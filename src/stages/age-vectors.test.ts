// The test vectors that implementations of age share (C2SP/CCTV), with the keys that a stage can have.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { suite, test } from 'node:test'
import { inflateSync } from 'node:zlib'
import * as files from 'cctv-age'
import { testContext } from '../../test/support/context.ts'
import { inChunks, seeded } from '../../test/support/samples.ts'
import { exitCode, Failure } from '../model/failure.ts'
import { flow } from '../platform/flow.ts'
import { AgeOptions, ageStage } from './age.ts'

const ctx = testContext()

interface Vector {
  readonly name: string
  readonly expect: string
  readonly identities: readonly string[]
  readonly payload: string | null
  readonly file: Buffer
}

// A passphrase is no identity; armor and the post-quantum keys of age 1.3 are not ours to write.
function isOurs(head: string): boolean {
  return (
    /^identity: AGE-SECRET-KEY-1/m.test(head) &&
    !/^(passphrase|armored|identity: AGE-SECRET-KEY-PQ)/m.test(head)
  )
}

function vectorOf(name: string, bytes: Uint8Array): Vector | null {
  const all = Buffer.from(bytes)
  const end = all.indexOf('\n\n')
  const head = all.toString('latin1', 0, end)
  if (!isOurs(head)) return null
  const field = (key: string): string | undefined => new RegExp(`^${key}: (.*)$`, 'm').exec(head)?.[1]
  const body = all.subarray(end + 2)
  return {
    name,
    expect: field('expect') ?? '',
    identities: [...head.matchAll(/^identity: (.*)$/gm)].map(([, identity = '']) => identity),
    payload: field('payload') ?? null,
    file: field('compressed') === 'zlib' ? inflateSync(body) : body,
  }
}

/** What came out, and how it ended. */
async function decrypt(vector: Vector, implementation: 'program' | 'library', seed: number) {
  const options = AgeOptions.parse({ identity: vector.identities.join('\n') })
  const age = await ageStage(options, { reading: true, implementation })
  const hash = createHash('sha256')
  try {
    const input = inChunks(vector.file, seeded(seed), 12)
    for await (const chunk of flow(input, [age.decode()], ctx)) hash.update(chunk)
    return { failure: null, payload: hash.digest('hex') }
  } catch (failure) {
    return { failure, payload: hash.digest('hex') }
  }
}

async function check(vector: Vector, implementation: 'program' | 'library'): Promise<void> {
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
    for (const vector of vectors) {
      test(`${vector.name} by the ${implementation}: ${vector.expect}`, () => check(vector, implementation))
    }
  }
})
