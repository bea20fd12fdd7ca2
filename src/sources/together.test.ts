import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { capture } from '../../test/support/capture.ts'
import { placeFor, sourceContract } from '../../test/support/source-contract.ts'
import { syntheticBytes, syntheticRestorer, syntheticSource } from '../../test/support/synthetic-source.ts'
import type { Source } from '../model/source.ts'
import { FilesOptions, filesSource } from './files/index.ts'
import { SqliteOptions, sqliteSource } from './sqlite/index.ts'
import { together } from './together.ts'

sourceContract('together', async () => {
  const restored = new Map<string, Uint8Array>()
  const part = (name: string): Source =>
    syntheticSource({ artifacts: [{ name, bytes: 200_000 }], census: [{ name, rows: 1 }] })
  return {
    source: together('all', [part('a'), part('b')]),
    restorer: syntheticRestorer(restored),
    state: async () => null,
    async compare() {
      assert.deepEqual([...restored.keys()], ['a', 'b'])
      for (const [name, bytes] of restored)
        assert.ok(Buffer.from(bytes).equals(syntheticBytes(name, 200_000)))
    },
  }
})

test('a database and files together are one unit with one census', async t => {
  const dir = mkdtempSync(join(tmpdir(), 'cairn-together-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  mkdirSync(join(dir, 'uploads'))
  writeFileSync(join(dir, 'uploads', 'a'), 'a')
  using db = new DatabaseSync(join(dir, 'app.db'))
  db.exec('CREATE TABLE t (a); INSERT INTO t VALUES (1)')
  const place = placeFor(t)
  const source = together('app', [
    sqliteSource(SqliteOptions.parse({ path: join(dir, 'app.db') })),
    filesSource(FilesOptions.parse({ paths: [join(dir, 'uploads')] })),
  ])
  const { bytes, census, facts, manifest } = await capture(source, place.ctx)
  assert.deepEqual([...bytes.keys()], ['sqlite/app.db', 'files/uploads.tar'])
  assert.equal(census.at, 'near')
  assert.deepEqual(census.objects, [
    { name: 't', rows: 1 },
    { name: 'uploads', rows: 2 },
  ])
  assert.equal(manifest.unit, 'app')
  assert.equal(source.engine, 'together')
  assert.match(facts.client, /^sqlite .*, GNU tar/)
  place.demandClean()
})

test('names stay unique', async t => {
  const twin = (): Source =>
    syntheticSource({
      artifacts: [
        { name: 'x/data.tar', bytes: 1 },
        { name: 'x/.hidden', bytes: 1 },
      ],
    })
  const { bytes, census, facts } = await capture(together('all', [twin(), twin(), twin()]), placeFor(t).ctx)
  const names = ['x/data.tar', 'x/.hidden', 'x/data-2.tar', 'x/.hidden-2', 'x/data-3.tar', 'x/.hidden-3']
  assert.deepEqual([...bytes.keys()], names)
  assert.deepEqual(
    census.objects.map(object => object.name),
    names,
  )
  const told = facts.options.sources as { artifacts: string[] }[]
  assert.deepEqual(
    told.map(one => one.artifacts),
    [names.slice(0, 2), names.slice(2, 4), names.slice(4)],
  )
})

test('all sessions are held until the last artifact is read, and disposed whatever one of them throws', async t => {
  const first = syntheticSource({ artifacts: [{ name: 'a', bytes: 10 }] })
  const second = syntheticSource({ artifacts: [{ name: 'b', bytes: 10 }], failIn: 'dispose' })
  const third = syntheticSource({ artifacts: [{ name: 'c', bytes: 10 }] })
  const place = placeFor(t)
  await capture(together('all', [first, second, third]), place.ctx)
  const times = [first, second, third].map(({ observed }) => observed.sessions[0])
  const opened = times.map(one => one?.openedAt ?? 0)
  const disposed = times.map(one => one?.disposedAt ?? 0)
  assert.deepEqual(
    opened.toSorted((a, b) => a - b),
    opened,
  )
  assert.deepEqual(
    disposed.toSorted((a, b) => b - a),
    disposed,
  )
  assert.ok(Math.max(...opened) < Math.min(...disposed))
})

test('a source that cannot be opened closes those before it, and one that fails at the end fails all', async t => {
  for (const failIn of ['open', 'artifacts', 'census', 'finish'] as const) {
    const first = syntheticSource({ artifacts: [{ name: 'a', bytes: 10 }] })
    const second = syntheticSource({ artifacts: [{ name: 'b', bytes: 10 }], failIn })
    await assert.rejects(
      capture(together('all', [first, second]), placeFor(t).ctx),
      new RegExp(`in ${failIn}`),
    )
    assert.ok(
      first.observed.sessions.every(session => session.disposedAt !== null),
      failIn,
    )
  }
})

test('what builds upon an earlier backup has to stand alone', async t => {
  const chained = syntheticSource({
    artifacts: [{ name: 'a', bytes: 1 }],
    chain: { parent: 'p', full: 'f', depth: 1 },
  })
  await assert.rejects(capture(together('all', [chained]), placeFor(t).ctx), /earlier backup/)
})
