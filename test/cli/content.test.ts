// What is in backups, and what is not: in files of other tools, which no manifest describes, made by the real programs and then cut; and in our own.

import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { fillShop, sh } from '../dialects/support.ts'
import { freshDatabase, freshSqlDatabase, orSkip } from '../services/index.ts'
import { runSql } from '../services/mariadb.ts'
import { type Machine, machine } from '../support/cli.ts'

/** A host with one job that finds its backups by their names, in a folder. */
function hostWith(source: object, name: string): Machine {
  const host = machine()
  mkdirSync(host.path('old'))
  host.configure({
    stores: { disk: { type: 'local', path: host.path('old') } },
    jobs: { old: { source, to: ['disk'], key: { name } } },
  })
  return host
}

interface Judged {
  readonly exit: number
  readonly why: string
  readonly contents: readonly string[]
}

let looked = 0

/** How verify judges files of these bytes, each under a name of its own. */
async function judge(host: Machine, all: readonly Uint8Array[]): Promise<Judged[]> {
  // Of those that it has read before, Cairn knows what was in them.
  const from = 100_000 + looked
  const nameOf = (index: number): string => `shop-20250101-${from + index}.sql.gz`
  looked += all.length
  for (const [index, bytes] of all.entries()) writeFileSync(host.path('old', nameOf(index)), gzipSync(bytes))
  const { code, json } = await host.run(['verify', '--json'])
  const { copies } = json<{ copies: (Copy & { id: string })[] }>()
  assert.equal(code, copies.every(({ sound }) => sound) ? 0 : 20)
  for (const index of all.keys()) rmSync(host.path('old', nameOf(index)))
  return copies
    .sort((one, other) => (one.id < other.id ? -1 : 1))
    .map(({ failures: [failure], contents }) => ({
      ...{ exit: failure?.exit ?? 0, why: failure ? `${failure.what}: ${failure.why}` : '', contents },
    }))
}

interface Copy {
  readonly sound: boolean
  readonly contents: readonly string[]
  readonly failures: readonly { what: string; why: string; exit: number }[]
}

const postgres = (t: TestContext) => orSkip(t, freshDatabase(15))

test('a plain dump of pg_dump that was cut before it was compressed is found; so is one of pg_dumpall', async t => {
  const database = await postgres(t)
  if (!database) return
  await fillShop(database)
  const env = { URL: database.url, DB: database.name }
  const host = hostWith({ type: 'postgres', database: 'shop', format: 'plain' }, '${DB}-%Y%m%d-%H%M%S.sql')
  const whole = sh('pg_dump -d "$URL"', undefined, env)
  const globals = sh('pg_dumpall --globals-only -d "$URL"', undefined, env)
  assert.deepEqual(
    (await judge(host, [whole, globals])).map(({ exit }) => exit),
    [0, 0],
  )
  const cut = [whole, globals].flatMap(bytes =>
    [0, 60, bytes.length / 2, bytes.length - 50].map(length => bytes.subarray(0, length)),
  )
  for (const { exit, why } of await judge(host, cut)) {
    assert.equal(exit, 20)
    assert.match(why, /postgres\/shop is damaged .*(was cut|does not begin)/)
  }
})

test('a dump of mariadb-dump that was cut is found, as far as its options let it tell', async t => {
  const database = await orSkip(t, freshSqlDatabase('10.11'))
  if (!database) return
  await runSql(database, `CREATE TABLE ${database.name}.item (id int, name text)`)
  const rows = Array.from({ length: 2000 }, (_, n) => `(${n}, '-- Dump completed; ${n}')`)
  await runSql(database, `INSERT INTO ${database.name}.item VALUES ${rows.join()}`)
  const { host: H, port, user: U, password, name: DB } = database
  const env = { H, P: String(port), U, MYSQL_PWD: password, DB }
  const host = hostWith({ type: 'mariadb', database: 'shop' }, '${DB}-%Y%m%d-%H%M%S.sql')
  const dumps = ['', '--skip-dump-date', '--skip-comments', '--compact'].map(options =>
    sh(`mariadb-dump --protocol=tcp -h "$H" -P "$P" -u "$U" ${options} "$DB"`, undefined, env),
  )
  assert.deepEqual(
    (await judge(host, dumps)).map(({ exit }) => exit),
    [0, 0, 0, 0],
  )
  const cut = dumps.map((bytes, index) => bytes.subarray(0, bytes.length - ([30, 10, 90, 30][index] ?? 0)))
  const found = await judge(host, [...cut, Buffer.alloc(0)])
  // Of what was made without comments and settings, nobody can know.
  assert.deepEqual(
    found.map(({ exit }) => exit),
    [20, 20, 20, 0, 20],
  )
  for (const { why } of found.slice(0, 3)) assert.match(why, /mariadb\/shop is damaged .*: it was cut/)
})

test('an archive is a tar with its end, and its members are judged by their own formats', async t => {
  const database = await postgres(t)
  if (!database) return
  await fillShop(database)
  const work = machine()
  const at = { type: 'postgres', database: 'shop' }
  const members = [
    { name: 'shop-backup', source: { ...at, format: 'directory' }, required: true },
    { name: 'db-globals', source: { ...at, globals: 'only' } },
    { name: 'files.tar.gz', source: { type: 'files', paths: ['/srv'] }, gzip: true },
  ]
  const host = hostWith({ type: 'archive', name: 'shop', members }, '${DB}-%Y%m%d-%H%M%S.sql')
  const env = { D: work.folder, URL: database.url }
  sh(
    'cd "$D"; pg_dump -Fd -d "$URL" -f shop-backup; pg_dumpall -g -d "$URL" > db-globals; seq 99999 > numbers; tar -czf files.tar.gz numbers',
    undefined,
    env,
  )
  const tar = (what: string) => sh(`tar -c -C "$D" ${what}`, undefined, env)
  const all = tar('./shop-backup ./db-globals ./files.tar.gz')
  const good = await judge(host, [all, tar('shop-backup')])
  assert.deepEqual(
    good.map(({ contents }) => contents),
    [['archive/shop: 3 members'], ['archive/shop: 1 member']],
  )
  sh('head -c -40 "$D/db-globals" > "$D/x"; mv "$D/x" "$D/db-globals"', undefined, env)
  const cutGlobals = tar('shop-backup db-globals')
  sh('head -c 50000 "$D/files.tar.gz" > "$D/x"; mv "$D/x" "$D/files.tar.gz"', undefined, env)
  sh('mkdir "$D/empty"; touch "$D/empty/db-globals"', undefined, env)
  const faults: [Uint8Array, RegExp][] = [
    [tar('shop-backup -C empty db-globals'), /its member db-globals: it does not begin/],
    [all.subarray(0, all.findLastIndex(byte => byte !== 0) + 1), /breaks off/],
    [all.subarray(0, 70_000), /breaks off in/],
    [sh('cat "$D/numbers"', undefined, env), /it is no tar/],
    [Buffer.alloc(10_240), /a tar without members/],
    [tar('db-globals'), /it lacks its member shop-backup|db-globals: it was cut/],
    [tar('numbers'), /it lacks its member shop-backup/],
    [cutGlobals, /its member db-globals: it was cut/],
    [tar('shop-backup files.tar.gz'), /its member files\.tar\.gz: /],
  ]
  const found = await judge(
    host,
    faults.map(([bytes]) => bytes),
  )
  for (const [index, [, why]] of faults.entries()) {
    assert.equal(found[index]?.exit, 20, `${why}`)
    assert.match(found[index]?.why ?? '', why)
  }
})

test('a backup that lacks a part says so wherever it is shown, and when it is about to be restored', async () => {
  const host = machine()
  mkdirSync(host.path('there'))
  writeFileSync(host.path('there', 'file'), 'x')
  const folder = (name: string) => ({ name, source: { type: 'files', paths: [host.path(name)] } })
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: {
      app: {
        source: { type: 'archive', name: 'app', members: [folder('there'), folder('gone')] },
        to: ['disk'],
      },
    },
  })
  assert.equal((await host.run(['backup'])).code, 3)
  const [listed] = (await host.ok(['list', '--json'])).json<{ status: string }[]>()
  assert.equal(listed?.status, 'incomplete')
  assert.match((await host.ok(['list'])).out, /disk +incomplete\n/)
  assert.match((await host.ok(['show', 'latest'])).out, /^incomplete +.*gone/m)
  const to = ['--to', host.path('back')]
  const plan = (await host.ok(['restore', 'latest', ...to, '--dry-run', '--json'])).json<{
    warnings: string[]
  }>()
  assert.match(plan.warnings[0] ?? '', /^the backup is incomplete: .*gone/)
  assert.match((await host.ok(['restore', 'latest', ...to])).stderr, /the backup is incomplete/)
  mkdirSync(host.path('gone'))
  await host.ok(['backup'])
  const all = (await host.ok(['list', '--json'])).json<{ status: string }[]>()
  assert.deepEqual(
    all.map(({ status }) => status),
    ['complete', 'incomplete'],
  )
})
