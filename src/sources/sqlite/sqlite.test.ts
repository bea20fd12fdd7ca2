import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { capture } from '../../../test/support/capture.ts'
import { eventually } from '../../../test/support/eventually.ts'
import { canBeNobody, runAsNobody } from '../../../test/support/nobody.ts'
import { contextOf, folder, mounted, smallDisk } from '../../../test/support/places.ts'
import { sourceContract } from '../../../test/support/source-contract.ts'
import {
  answer,
  check,
  digest,
  dump,
  fill,
  hostile,
  killedInWal,
  make,
  rowsOf,
  sourceOf,
  startWriter,
} from '../../../test/support/sqlite-databases.ts'
import { Failure } from '../../model/failure.ts'
import { SqliteOptions, sqliteSource } from './index.ts'
import { sqliteRestorer } from './restorer.ts'

const pick = { allow: new Set<string>() }

sourceContract('sqlite', async t => {
  const { dir, path } = hostile(t)
  const target = join(dir, 'back', 'restored.db')
  mkdirSync(join(dir, 'back'))
  return {
    source: sourceOf(path),
    restorer: sqliteRestorer({ to: target }),
    state: async () => [readdirSync(dir), digest(path), statSync(path).mtimeMs],
    compare: async () => assert.deepEqual(dump(target), dump(path)),
  }
})

for (const mode of ['wal', 'delete'] as const) {
  test(`a database in ${mode} mode is one moment of it, whatever another process writes`, async t => {
    const dir = folder(t)
    const path = join(dir, 'busy.db')
    make(path, mode, `CREATE TABLE ballast (b); ${fill('ballast', 5000, 4000)}; CREATE TABLE t (a, b)`)
    const writer = await startWriter(path, t)
    const ctx = contextOf(t)
    const before = rowsOf(path)
    const { bytes, census } = await capture(sourceOf(path), ctx)
    await eventually('it has gone on writing', () => rowsOf(path) > before + 20)
    const after = rowsOf(path)
    writer.kill('SIGKILL')
    const copy = join(dir, 'copy.db')
    writeFileSync(copy, bytes.get('sqlite/busy.db') ?? '')
    const counted = census.objects.find(object => object.name === 't')?.rows ?? Number.NaN
    assert.equal(rowsOf(copy), counted)
    assert.ok(before <= counted && counted <= after, `${before} <= ${counted} <= ${after}`)
    assert.equal(check(copy), 'ok')
    // Each transaction of the writer adds two rows that cancel each other out.
    assert.equal(answer(copy, 'SELECT coalesce(sum(a), 0) AS value FROM t'), 0)
    t.diagnostic(`${mode}: ${after - before} rows written meanwhile, 20 MB copied`)
  })
}

test('rows that are still in the -wal file are in the backup', async t => {
  const dir = folder(t)
  const path = join(dir, 'wal.db')
  using db = new DatabaseSync(path)
  db.exec('PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (a)')
  db.exec('INSERT INTO t VALUES (1), (2), (3)')
  assert.ok(statSync(`${path}-wal`).size > 0)
  const { census } = await capture(sourceOf(path), contextOf(t))
  assert.deepEqual(census.objects, [{ name: 't', rows: 3 }])
})

test('a -wal file that a killed program left is read in a copy, and stays as it is', async t => {
  const dir = folder(t)
  const path = killedInWal(dir)
  const before = [digest(path), digest(`${path}-wal`), readdirSync(dir)]
  const { census } = await capture(sourceOf(path), contextOf(t))
  assert.deepEqual(census.objects, [{ name: 't', rows: 3 }])
  assert.deepEqual([digest(path), digest(`${path}-wal`), readdirSync(dir)], before)
})

test('a rollback journal that a killed program left is rolled back in a copy, and stays as it is', async t => {
  const dir = folder(t)
  const path = join(dir, 'hot.db')
  make(path, 'delete', `CREATE TABLE t (a); ${fill('t', 2000, 500)}`)
  // Spills to the file before the end of its transaction, then dies.
  const code = `const d = new (require('node:sqlite').DatabaseSync)(process.argv[1])
    d.exec('PRAGMA cache_size = 5; BEGIN; DELETE FROM t; CREATE TABLE u (a)')
    d.exec("WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 2000) INSERT INTO u SELECT randomblob(500) FROM c")
    process.kill(process.pid, 'SIGKILL')`
  await once(spawn(process.execPath, ['--no-warnings', '-e', code, path]), 'exit')
  const before = [digest(path), digest(`${path}-journal`)]
  const { census } = await capture(sourceOf(path), contextOf(t))
  assert.deepEqual(census.objects, [{ name: 't', rows: 2000 }])
  assert.deepEqual([digest(path), digest(`${path}-journal`)], before)
})

test('a database on a read-only mount is read, with and without a -wal file', async t => {
  const dir = folder(t)
  const stopped = join(dir, 'stopped.db')
  make(stopped, 'wal', 'CREATE TABLE t (a); INSERT INTO t VALUES (1)')
  const killed = killedInWal(dir)
  const live = join(dir, 'live.db')
  using db = new DatabaseSync(live)
  db.exec('PRAGMA journal_mode = wal; CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)')
  const mount = mounted(t, '--bind', dir)
  if (!mount) return
  execFileSync('mount', ['-o', 'remount,bind,ro', mount])
  for (const [path, rows] of [
    [stopped, 1],
    [killed, 3],
    [live, 2],
  ] as const) {
    const seen: string = path.replace(dir, mount)
    const { census } = await capture(sourceOf(seen), contextOf(t))
    assert.deepEqual(census.objects, [{ name: 't', rows }], seen)
  }
})

test('a reader that may not write makes no -shm file that the program could not open', async t => {
  const dir = folder(t)
  const path = join(dir, 'theirs.db')
  make(path, 'wal', 'CREATE TABLE t (a); INSERT INTO t VALUES (1)')
  await capture(sourceOf(path), contextOf(t))
  assert.deepEqual(readdirSync(dir), ['theirs.db'])
})

test('what is no readable database is refused, saying why', async t => {
  const dir = folder(t)
  const cases: [string, RegExp][] = [
    ['absent.db', /no such file/],
    ['folder.db', /folder/],
    ['garbage.db', /not a SQLite database, or it is encrypted/],
    ['short.db', /not a SQLite database/],
    ['zero.db', /empty database/],
    ['bare.db', /empty database/],
    ['dangling.db', /no such file/],
  ]
  mkdirSync(join(dir, 'folder.db'))
  writeFileSync(join(dir, 'garbage.db'), Buffer.alloc(8192, 'x7'))
  writeFileSync(join(dir, 'short.db'), 'SQLite format 3\0')
  writeFileSync(join(dir, 'zero.db'), '')
  make(join(dir, 'bare.db'), 'delete', 'PRAGMA user_version = 1')
  symlinkSync('/nowhere/at/all', join(dir, 'dangling.db'))
  for (const [name, why] of cases) {
    await assert.rejects(
      sourceOf(join(dir, name)).inspect(contextOf(t)),
      error => {
        return error instanceof Failure && error.exit === 2 && why.test(error.why)
      },
      name,
    )
  }
})

test('an empty database is backed up where that is wanted', async t => {
  const dir = folder(t)
  const path = join(dir, 'empty.db')
  writeFileSync(path, '')
  const ctx = contextOf(t)
  const source = sqliteSource({ path, allowEmpty: true })
  const { manifest, bytes, reader } = await capture(source, ctx)
  assert.equal(bytes.get('sqlite/empty.db')?.length, 0)
  await sqliteRestorer({ to: join(dir, 'back.db') }).apply([manifest], pick, false, reader, ctx)
  assert.equal(statSync(join(dir, 'back.db')).size, 0)
})

test('a damaged database makes no backup', async t => {
  const dir = folder(t)
  const path = join(dir, 'damaged.db')
  make(path, 'delete', `CREATE TABLE t (a); CREATE INDEX i ON t (a); ${fill('t', 2000, 200)}`)
  const file = readFileSync(path)
  file.fill(0x5a, 40_960, 45_056)
  writeFileSync(path, file)
  const ctx = contextOf(t)
  await assert.rejects(capture(sourceOf(path), ctx), /damaged|malformed/)
  assert.deepEqual(readdirSync(ctx.spool), [])
})

test('a database that stays locked is given up when the run is aborted', async t => {
  const dir = folder(t)
  const path = join(dir, 'locked.db')
  make(path, 'delete', 'CREATE TABLE t (a)')
  using db = new DatabaseSync(path)
  db.exec('BEGIN EXCLUSIVE')
  const controller = new AbortController()
  setTimeout(() => controller.abort(new Error('told to stop')), 300)
  await assert.rejects(
    capture(sourceOf(path), { ...contextOf(t), signal: controller.signal }),
    /told to stop/,
  )
})

test('an abort amid the copy ends it, and leaves nothing in the spool', async t => {
  const path = join(folder(t), 'large.db')
  make(path, 'delete', `CREATE TABLE t (a); ${fill('t', 50_000, 4000)}`)
  const controller = new AbortController()
  const ctx = { ...contextOf(t), signal: controller.signal }
  let copying = false
  const alive = (what: string): void => {
    copying ||= what.startsWith('copying')
    if (copying) controller.abort(new Error('told to stop'))
  }
  const source = sourceOf(path)
  await assert.rejects(source.open({ name: 'large.db' }, null, 'counts', { ...ctx, alive }), /told to stop/)
  assert.ok(copying)
  assert.deepEqual(readdirSync(ctx.spool), [])
})

test('who may only read a database backs it up, and puts no files beside it', async t => {
  if (!canBeNobody(t)) return
  const dir = folder(t)
  chmodSync(dir, 0o777)
  const stopped = join(dir, 'stopped.db')
  make(stopped, 'wal', 'CREATE TABLE t (a); INSERT INTO t VALUES (1)')
  const live = join(dir, 'live.db')
  using db = new DatabaseSync(live)
  db.exec('PRAGMA journal_mode = wal; CREATE TABLE t (a); INSERT INTO t VALUES (1)')
  const before = readdirSync(dir)
  const said = runAsNobody(
    t,
    `const { capture } = await from('test/support/capture.ts')
    const { testContext } = await from('test/support/context.ts')
    const { sourceOf } = await from('test/support/sqlite-databases.ts')
    for (const path of process.argv.slice(1)) console.log((await capture(sourceOf(path), testContext())).census.objects[0].rows)`,
    stopped,
    live,
  )
  if (said === null) return
  assert.equal(said, '1\n1\n')
  assert.deepEqual(readdirSync(dir), before)
})

test('a spool without room is noticed before anything is copied', async t => {
  const spool = smallDisk(t, 1)
  if (!spool) return
  const path = join(folder(t), 'large.db')
  make(path, 'delete', `CREATE TABLE t (a); ${fill('t', 600, 4000)}`)
  await assert.rejects(capture(sourceOf(path), { ...contextOf(t), spool }), /are needed in .* are free/)
  assert.deepEqual(readdirSync(spool), [])
})

test('a spool that fills up while it is copied leaves nothing there', async t => {
  const spool = smallDisk(t, 4)
  if (!spool) return
  const path = join(folder(t), 'large.db')
  make(path, 'delete', `CREATE TABLE t (a); ${fill('t', 600, 4000)}`)
  const ctx = { ...contextOf(t), spool }
  // Somebody else takes the room after the look at it.
  const opening = sourceOf(path).open({ name: 'large.db' }, null, 'none', ctx)
  const { bavail, bsize } = statfsSync(spool)
  writeFileSync(join(spool, 'other'), Buffer.alloc(bavail * bsize - 600_000))
  await assert.rejects(opening, /cannot copy|not enough space/)
  assert.deepEqual(readdirSync(spool), ['other'])
})

test('a database whose collation only its program knows is backed up, with a warning', async t => {
  const path = join(folder(t), 'foreign.db')
  make(path, 'delete', 'CREATE TABLE t (a TEXT); CREATE INDEX i ON t (a); INSERT INTO t VALUES (1)')
  using db = new DatabaseSync(path)
  db.enableDefensive?.(false)
  db.exec(
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON t (a COLLATE icu_root)' WHERE name = 'i'",
  )
  db.close()
  const { facts, census } = await capture(sourceOf(path), contextOf(t))
  assert.match(facts.warnings[0]?.what ?? '', /could not be checked: .*icu_root/)
  assert.deepEqual(census.objects, [{ name: 't', rows: 1 }])
})

test('odd paths are paths', async t => {
  const dir = join(folder(t), 'a b?c#d%20\n"é😀')
  mkdirSync(dir)
  const path = join(dir, "we'ird?mode=memory.db")
  for (const mode of ['wal', 'delete'] as const) {
    rmSync(path, { force: true })
    make(path, mode, 'CREATE TABLE t (a); INSERT INTO t VALUES (1)')
    const ctx = contextOf(t)
    const { manifest, reader } = await capture(sourceOf(path), ctx)
    const to = join(dir, `back ${mode}?.db`)
    await sqliteRestorer({ to }).apply([manifest], pick, false, reader, ctx)
    assert.equal(rowsOf(to), 1)
  }
})

test('options are an absolute path, and nothing unknown', () => {
  assert.throws(() => SqliteOptions.parse({ path: 'relative.db' }))
  assert.throws(() => SqliteOptions.parse({ path: '/a.db', tables: [] }))
})
