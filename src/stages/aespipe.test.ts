import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { collect, inChunks, sampleBytes, seeded } from '../../test/support/samples.ts'
import { stageContract } from '../../test/support/stage-contract.ts'
import { exitCode } from '../model/failure.ts'
import type { Stage } from '../model/step.ts'
import { flow } from '../platform/flow.ts'
import { AespipeOptions, aespipeReader, aespipeWriter } from './aespipe.ts'
import { gzipStage } from './gzip.ts'

const ctx = testContext()
const dir = mkdtempSync(join(tmpdir(), 'cairn-aespipe-'))
after(() => rmSync(dir, { recursive: true }))

const line = (): string => randomBytes(30).toString('base64')
/** With a single key aespipe takes most of a second to start, on purpose; not with 64 of them. */
const lines = (count: number): string => `${Array.from({ length: count }, line).join('\n')}\n`
const mine = keyFile('mine', lines(64))
const other = keyFile('other', lines(64))
const plain = sampleBytes(seeded(8), 300_000)

function keyFile(name: string, text: string): string {
  const path = join(dir, name)
  writeFileSync(path, text, { mode: 0o600 })
  return path
}

stageContract(
  'aespipe around gzip',
  async () => ({
    writing: [gzipStage(), await aespipeWriter({ keyFile: mine })],
    reading: [gzipStage(), aespipeReader([mine])],
    wrongKey: [gzipStage(), aespipeReader([other])],
    key: mine,
  }),
  { encrypts: true, lean: true },
)

function decoded(bytes: Buffer, reader: Stage): Promise<Buffer> {
  const steps = [reader.decode(), gzipStage().decode()]
  return collect(flow(inChunks(bytes, seeded(1)), steps, ctx))
}

test('one key, 64 keys and 65 keys: both ways with aespipe itself', async () => {
  for (const keys of [1, 64, 65]) {
    const path = keyFile(`keys-${keys}`, lines(keys))
    const options = ['-e', 'AES256', '-C', '10000', '-P', path]
    const theirs = execFileSync('aespipe', options, { input: execFileSync('gzip', { input: plain }) })
    assert.ok((await decoded(theirs, aespipeReader([path]))).equals(plain))
    const steps = [gzipStage().encode(), (await aespipeWriter({ keyFile: path })).encode()]
    const ours = await collect(flow(inChunks(plain, seeded(2)), steps, ctx))
    assert.equal(ours.length % (keys === 1 ? 16 : 512), 0)
    const undone = execFileSync('gzip', ['-d'], {
      input: execFileSync('aespipe', ['-d', ...options], { input: ours }),
    })
    assert.ok(undone.equals(plain))
    const readers = keys === 1 ? [path] : [other, path]
    assert.ok((await decoded(ours, aespipeReader(readers))).equals(plain))
  }
})

test('a key that aespipe would not take as it is meant is refused before anything is encrypted', async () => {
  const short = Array.from({ length: 64 }, (_, index) => (index === 40 ? 'short' : line())).join('\n')
  for (const path of [
    keyFile('short', 'too short\n'),
    keyFile('one-short', `${short}\n`),
    join(dir, 'nowhere'),
  ])
    await assert.rejects(aespipeWriter({ keyFile: path }), { exit: exitCode.usage })
})

test('without a key nothing can be read, and a wrong one is exit 12', async () => {
  assert.throws(() => aespipeReader([]).decode(), { exit: exitCode.wrongKey })
  const steps = [gzipStage().encode(), (await aespipeWriter({ keyFile: mine })).encode()]
  const bytes = await collect(flow(inChunks(plain, seeded(2)), steps, ctx))
  await assert.rejects(decoded(bytes, aespipeReader([other])), {
    exit: exitCode.wrongKey,
    remedy: /key file/,
  })
})

test('that nothing is authenticated must be agreed to, and is said', async () => {
  assert.equal(AespipeOptions.safeParse({ keyFile: mine }).success, false)
  assert.equal(AespipeOptions.safeParse({ keyFile: mine, unauthenticated: false }).success, false)
  assert.equal(AespipeOptions.safeParse({ keyFile: mine, unauthenticated: true }).success, true)
  const stage = await aespipeWriter({ keyFile: mine })
  assert.match(stage.warning?.what ?? '', /without authenticating/)
  assert.equal(stage.facts.authenticated, false)
})
