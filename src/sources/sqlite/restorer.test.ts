import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { capture } from '../../../test/support/capture.ts'
import { contextOf, folder, isRoot, mounted } from '../../../test/support/places.ts'
import { readerOver } from '../../../test/support/reader.ts'
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
} from '../../../test/support/sqlite-databases.ts'
import { sqliteRestorer } from './restorer.ts'

const pick = { allow: new Set<string>() }

test('a restore into an open database replaces its content for its readers, in one transaction', async t => {
  for (const mode of ['wal', 'delete'] as const) {
    const { dir, path } = hostile(t)
    const ctx = contextOf(t)
    const { manifest, reader } = await capture(sourceOf(path), ctx)
    const target = join(dir, 'target.db')
    make(target, mode, 'CREATE TABLE old (a); INSERT INTO old VALUES (1)')
    using db = new DatabaseSync(target)
    db.prepare('SELECT * FROM old').all()
    const inode = statSync(target).ino
    await sqliteRestorer({ to: target }).apply([manifest], pick, true, reader, ctx)
    assert.equal(statSync(target).ino, inode)
    assert.equal(Number(db.prepare('SELECT count(*) AS n FROM plain').get()?.n), 3)
    db.close()
    assert.deepEqual(dump(target), dump(path))
    assert.deepEqual(
      readdirSync(dir).filter(name => name.startsWith('.')),
      [],
    )
  }
})

test('a restore into a WAL database of another page size works when nobody has it open, and says so when somebody has', async t => {
  const { dir, path } = hostile(t)
  const ctx = contextOf(t)
  const { manifest, reader } = await capture(sourceOf(path), ctx)
  const target = join(dir, 'target.db')
  make(target, 'delete', 'PRAGMA page_size = 16384; VACUUM; PRAGMA journal_mode = wal; CREATE TABLE old (a)')
  const restorer = sqliteRestorer({ to: target })
  const db = new DatabaseSync(target)
  db.prepare('SELECT * FROM old').all()
  await assert.rejects(restorer.apply([manifest], pick, true, reader, ctx), /another page size/)
  assert.equal(db.prepare('SELECT count(*) AS n FROM old').get()?.n, 0)
  db.close()
  await restorer.apply([manifest], pick, true, reader, ctx)
  assert.deepEqual(dump(target), dump(path))
})

test('a target that is locked, or no database, is left as it is', { timeout: 60_000 }, async t => {
  const { dir, path } = hostile(t)
  const ctx = contextOf(t)
  const { manifest, reader } = await capture(sourceOf(path), ctx)
  const locked = join(dir, 'locked.db')
  make(locked, 'delete', 'CREATE TABLE old (a)')
  const db = new DatabaseSync(locked)
  db.exec('BEGIN EXCLUSIVE')
  await assert.rejects(sqliteRestorer({ to: locked }).apply([manifest], pick, true, reader, ctx), /locked/)
  db.exec('ROLLBACK')
  db.close()
  assert.equal(answer(locked, 'SELECT count(*) AS value FROM old'), 0)
  const text = join(dir, 'text.txt')
  writeFileSync(text, 'my diary')
  await assert.rejects(
    sqliteRestorer({ to: text }).apply([manifest], pick, true, reader, ctx),
    /not a SQLite database/,
  )
  assert.equal(readFileSync(text, 'utf8'), 'my diary')
})

test('a backup that breaks off, or is no database, leaves the target and its folder as they were', async t => {
  const { dir, path } = hostile(t)
  const ctx = contextOf(t)
  const { manifest, bytes } = await capture(sourceOf(path), ctx)
  const [name = ''] = bytes.keys()
  const whole = bytes.get(name) ?? new Uint8Array()
  const broken = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
    yield whole.subarray(0, 9000)
    throw new Error('the store went away')
  }
  const target = join(dir, 'old.db')
  make(target, 'delete', 'CREATE TABLE old (a)')
  const before = [readdirSync(dir), digest(target)]
  for (const to of [target, join(dir, 'new.db')]) {
    for (const kept of [broken, whole.subarray(0, whole.length - 5000), Buffer.from('not SQL')]) {
      const reader = readerOver(new Map([[name, kept]]), ctx)
      await assert.rejects(sqliteRestorer({ to }).apply([manifest], pick, true, reader, ctx))
      assert.deepEqual([readdirSync(dir), digest(target)], before)
    }
  }
})

test('a database that is damaged itself cannot be written into: once it is moved away as the hint says, the restore works', async t => {
  const { dir, path } = hostile(t)
  const ctx = contextOf(t)
  const { manifest, reader } = await capture(sourceOf(path), ctx)
  const target = join(dir, 'target.db')
  make(target, 'wal', 'CREATE TABLE old (a)')
  writeFileSync(target, readFileSync(target).subarray(0, 3000))
  const restorer = sqliteRestorer({ to: target })
  await assert.rejects(restorer.apply([manifest], pick, true, reader, ctx), {
    message: /cannot write into .*malformed/,
    remedy: /move it away together with .*-wal and .*-shm/,
  })
  for (const end of ['', '-wal', '-shm']) rmSync(target + end, { force: true })
  await restorer.apply([manifest], pick, false, reader, ctx)
  assert.deepEqual(dump(target), dump(path))
})

test('a -wal file of a database that is gone is not mixed into the restored one', async t => {
  const dir = folder(t)
  const path = killedInWal(dir)
  const ctx = contextOf(t)
  const { manifest, reader } = await capture(sourceOf(path), ctx)
  rmSync(path)
  const restorer = sqliteRestorer({})
  const plan = await restorer.plan([manifest], pick, ctx)
  assert.deepEqual(plan.replaces, [`${path}-wal`])
  await assert.rejects(restorer.apply([manifest], pick, false, reader, ctx), /-wal/)
  await restorer.apply([manifest], pick, true, reader, ctx)
  assert.deepEqual(readdirSync(dir), ['killed.db'])
  assert.equal(rowsOf(path), 3)
})

test('a restored database has the mode and the owner it had', async t => {
  if (!isRoot) return t.skip('only root can give files away')
  const dir = folder(t)
  const path = join(dir, 'owned.db')
  make(path, 'delete', 'CREATE TABLE t (a)')
  chmodSync(path, 0o640)
  execFileSync('chown', ['1234:4321', path])
  const ctx = contextOf(t)
  const { manifest, reader } = await capture(sourceOf(path), ctx)
  rmSync(path)
  await sqliteRestorer({}).apply([manifest], pick, false, reader, ctx)
  const { mode, uid, gid } = statSync(path)
  assert.deepEqual([mode & 0o777, uid, gid], [0o640, 1234, 4321])
})

test('a restore killed while it writes into a database leaves the old content', async t => {
  const dir = folder(t)
  const target = join(dir, 'target.db')
  make(target, 'delete', `CREATE TABLE old (a); ${fill('old', 3000, 1000)}`)
  const large = join(dir, 'large.db')
  make(large, 'delete', `CREATE TABLE t (a); ${fill('t', 20_000, 4000)}`)
  // The very call the restorer makes, stopped in the middle until it is killed.
  const code = `const { DatabaseSync, backup } = require('node:sqlite')
    const [from, to] = process.argv.slice(1)
    let steps = 0
    backup(new DatabaseSync(from, { readOnly: true }), to, { rate: 100, progress: () => {
      if (++steps !== 40) return
      require('node:fs').writeSync(1, 'half-way')
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60_000)
    } })`
  const child = spawn(process.execPath, ['--no-warnings', '-e', code, large, target], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await exited
  assert.ok(statSync(`${target}-journal`).size > 0)
  assert.equal(answer(target, 'SELECT count(*) AS value FROM old'), 3000)
  assert.equal(check(target), 'ok')
})

test('a target that is mounted read-only is refused by the plan, whether a database is there or not', async t => {
  const { dir, path } = hostile(t)
  const ctx = contextOf(t)
  const { manifest } = await capture(sourceOf(path), ctx)
  const shut = mounted(t, '--bind', '-o', 'ro', dir)
  if (shut === null) return
  for (const to of [join(shut, basename(path)), join(shut, 'new.db'), join(shut, 'not/there.db')])
    await assert.rejects(sqliteRestorer({ to }).plan([manifest], pick, ctx), {
      exit: 2,
      message: /read-only/,
    })
  await sqliteRestorer({ to: path }).plan([manifest], pick, ctx)
})

test('a target that ends with a slash is a folder, there or not, and the database keeps its name in it', async t => {
  const { dir, path } = hostile(t)
  const ctx = contextOf(t)
  const { manifest, reader } = await capture(sourceOf(path), ctx)
  await sqliteRestorer({ to: `${join(dir, 'new', 'folder')}/` }).apply([manifest], pick, false, reader, ctx)
  assert.deepEqual(dump(join(dir, 'new', 'folder', basename(path))), dump(path))
})
