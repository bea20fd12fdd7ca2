import assert from 'node:assert/strict'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { backup } from '../../src/engine/backup.ts'
import { readCatalog } from '../../src/engine/catalog.ts'
import { exitOf } from '../../src/engine/outcome.ts'
import { exitCode } from '../../src/model/failure.ts'
import type { Source } from '../../src/model/source.ts'
import type { Program } from '../../src/model/step.ts'
import type { Store } from '../../src/model/store.ts'
import { zstdStage } from '../../src/stages/zstd.ts'
import { localStore } from '../../src/stores/local/index.ts'
import { memoryStore } from '../../src/stores/memory.ts'
import { freshFolder } from '../services/index.ts'
import { testContext } from '../support/context.ts'
import { keysOf, testJob } from '../support/job.ts'
import { randomFrom, rounds } from '../support/random.ts'
import { syntheticSource } from '../support/synthetic-source.ts'

/** How a dump program ends: it writes so many bytes of its dump, and then this happens. */
interface Ending {
  readonly bytes: number
  readonly end: string
}

const dumpBytes = 1_000_000

/** A program in a folder of its own that writes noise and ends as its environment says. */
async function fakeDumper(): Promise<(how: Ending) => Program> {
  const folder = await freshFolder()
  const path = join(folder, 'fake_dump')
  writeFileSync(path, '#!/bin/sh\nhead -c "$DUMP_BYTES" /dev/urandom\neval "$DUMP_END"\n')
  chmodSync(path, 0o755)
  return ({ bytes, end }) => ({
    program: path,
    args: [],
    env: { DUMP_BYTES: String(bytes), DUMP_END: end },
  })
}

/** A source whose one artifact is what a program writes. */
function sourceOf(program: Program): Source {
  const synthetic = syntheticSource({ artifacts: [{ name: 'app.dump', bytes: 0 }] })
  return {
    ...synthetic,
    async open(unit, parent, census, ctx) {
      const session = await synthetic.open(unit, parent, census, ctx)
      return {
        ...session,
        async *artifacts() {
          yield { name: 'app.dump', media: 'synthetic', role: 'data' as const, open: () => program }
        },
        [Symbol.asyncDispose]: () => session[Symbol.asyncDispose](),
      }
    },
  }
}

const ends: readonly (readonly [title: string, bytes: (random: number) => number, end: string])[] = [
  ['before its first byte', () => 0, 'exit 1'],
  ['half-way', random => Math.ceil(random * (dumpBytes - 1)), 'exit 1'],
  ['after its last byte', () => dumpBytes, 'exit 1'],
  ['killed after its last byte', () => dumpBytes, 'kill -9 $$'],
  ['with its stdout closed first', () => dumpBytes, 'exec >&-; exit 1'],
  ['late, with its stdout closed first', () => dumpBytes, 'exec >&-; sleep 0.05; exit 3'],
]

for (const [title, bytes, end] of ends) {
  test(`a dump program that fails ${title} never makes a backup, in any store, through any stage`, async () => {
    const random = randomFrom(title.length)
    const dumper = await fakeDumper()
    const ctx = testContext()
    const tries = 10 * rounds
    let next = 0
    const work = async (): Promise<void> => {
      for (let round = next++; round < tries; round = next++) await fail(round)
    }
    const fail = async (round: number): Promise<void> => {
      const stores: Store[] = [memoryStore('memory'), localStore('disk', { path: await freshFolder() })]
      const program = dumper({ bytes: bytes(random.next()), end })
      const job = testJob(sourceOf(program), stores, {
        stages: round % 2 === 0 ? [] : [zstdStage()],
        capture: round % 4 < 2 ? 'stream' : 'spool',
        census: 'none',
      })
      const outcomes = await backup(job, 'host', ctx)
      assert.equal(exitOf(outcomes), exitCode.failed)
      for (const store of stores)
        assert.deepEqual(await keysOf(store, ctx), [], `round ${round} in ${store.name}`)
      assert.deepEqual((await readCatalog(stores, null, ctx)).entries, [])
    }
    await Promise.all(Array.from({ length: 4 }, work))
  })
}

test('the same program makes a backup when it ends well', async () => {
  const ctx = testContext()
  const store = memoryStore('memory')
  const program = (await fakeDumper())({ bytes: dumpBytes, end: 'exec >&-; sleep 0.05; exit 0' })
  const outcomes = await backup(
    testJob(sourceOf(program), [store], { stages: [], census: 'none' }),
    'host',
    ctx,
  )
  assert.equal(exitOf(outcomes), exitCode.ok)
  assert.equal(outcomes[0]?.manifest?.artifacts[0]?.stored.bytes, dumpBytes)
})
