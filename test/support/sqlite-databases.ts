import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { copyFileSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { TestContext } from 'node:test'
import type { Source } from '../../src/model/source.ts'
import { SqliteOptions, sqliteSource } from '../../src/sources/sqlite/index.ts'
import { folder } from './places.ts'

// Databases for the tests of this folder.

export function sourceOf(path: string): Source {
  return sqliteSource(SqliteOptions.parse({ path }))
}

export function make(path: string, mode: 'wal' | 'delete', sql: string): void {
  using db = new DatabaseSync(path)
  db.exec(`PRAGMA journal_mode = ${mode}; ${sql}`)
}

export function fill(table: string, rows: number, bytes: number): string {
  return `WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < ${rows})
    INSERT INTO ${table} SELECT randomblob(${bytes}) FROM c`
}

/** Everything that SQLite can hold and a careless copy would lose. */
export function hostile(t: TestContext): { dir: string; path: string } {
  const dir = folder(t)
  const path = join(dir, 'hostile.db')
  make(
    path,
    'wal',
    `CREATE TABLE plain (a, b BLOB);
    INSERT INTO plain VALUES (1, x'00ff00fe'), ('a' || char(0) || 'b', CAST(x'c328ff' AS TEXT)), (-9223372036854775808, 1e308);
    CREATE TABLE made (a INTEGER, twice AS (a * 2) STORED, thrice AS (a * 3) VIRTUAL);
    INSERT INTO made VALUES (1), (2);
    CREATE TABLE keyed (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    INSERT INTO keyed VALUES ('x', 1), ('é😀', NULL);
    CREATE TABLE strict_one (n INTEGER) STRICT;
    CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT);
    INSERT INTO counted DEFAULT VALUES;
    CREATE TABLE "odd ""name""; DROP TABLE plain; --
😀" ("select", "from");
    INSERT INTO "odd ""name""; DROP TABLE plain; --
😀" VALUES (1, 2);
    CREATE VIRTUAL TABLE words USING fts5 (text);
    INSERT INTO words VALUES ('the quick brown fox'), ('jumps');
    CREATE VIRTUAL TABLE boxes USING rtree (id, x0, x1);
    INSERT INTO boxes VALUES (1, 0, 1);
    CREATE VIEW both AS SELECT a FROM plain UNION ALL SELECT a FROM made;
    CREATE TRIGGER late AFTER INSERT ON made BEGIN INSERT INTO counted VALUES (NULL); END;
    CREATE INDEX partial ON made (thrice) WHERE a > 1;
    PRAGMA user_version = 42; PRAGMA application_id = 7`,
  )
  return { dir, path }
}

/** Killed with its last transactions in the -wal file, and without a -shm, as after a restart of the machine's container. */
export function killedInWal(dir: string): string {
  const path = join(dir, 'killed.db')
  const scratch = join(dir, 'scratch.db')
  const db = new DatabaseSync(scratch)
  db.exec(
    'PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (a); INSERT INTO t VALUES (1), (2), (3)',
  )
  for (const end of ['', '-wal']) copyFileSync(scratch + end, path + end)
  db.close()
  rmSync(scratch)
  return path
}

export function dump(path: string): unknown {
  using db = new DatabaseSync(path, { readOnly: true, readBigInts: true })
  const schema = db.prepare('SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name').all()
  const tables = schema.filter(row => ['table', 'view'].includes(String(row.type)))
  const rows = tables.map(({ name }) => {
    const statement = db.prepare(`SELECT * FROM "${String(name).replaceAll('"', '""')}"`)
    const asBytes = db.prepare(`SELECT hex(b) AS h FROM plain`).all()
    return [name, statement.all(), asBytes]
  })
  return [schema, rows, db.prepare('PRAGMA user_version').get(), db.prepare('PRAGMA application_id').get()]
}

export function digest(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}

export function check(path: string): unknown {
  return answer(path, 'SELECT integrity_check AS value FROM pragma_integrity_check')
}

export function rowsOf(path: string): number {
  return Number(answer(path, 'SELECT count(*) AS value FROM t'))
}

export function answer(path: string, sql: string): unknown {
  using db = new DatabaseSync(path, { timeout: 10_000 })
  return db.prepare(sql).get()?.value
}

/** Another process that writes as fast as it can, two rows that cancel each other out in each transaction. */
export async function startWriter(path: string, t: TestContext): Promise<ChildProcess> {
  const code = `const d = new (require('node:sqlite').DatabaseSync)(process.argv[1], { timeout: 20000 })
    d.exec('PRAGMA synchronous = OFF')
    const write = d.prepare('INSERT INTO t VALUES (?, randomblob(200))')
    let n = 0
    setInterval(() => {
      d.exec('BEGIN IMMEDIATE'); write.run(++n); write.run(-n); d.exec('COMMIT')
      if (n === 5) console.log('writing')
    }, 2)`
  const child = spawn(process.execPath, ['--no-warnings', '-e', code, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return child
}
