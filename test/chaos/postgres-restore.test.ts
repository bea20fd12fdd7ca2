import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { PostgresOptions, postgresRestorer, postgresSource } from '../../src/sources/postgres/index.ts'
import { freshFolder, freshServer, orSkip } from '../services/index.ts'
import { type Captured, capture } from '../support/capture.ts'
import { testContext } from '../support/context.ts'
import { contents, plainOptions, sql, type Target, urlOf } from '../support/postgres/hostile.ts'

/** How much of the data is read before it stops, from its beginning; the rest never comes. */
const moments = [0.1, 0.6, 1]

/** A process of its own that restores, reads as much of the data as CUT says, and then waits for its end. */
const script = `
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { testContext } from '${import.meta.dirname}/../support/context.ts'
import { inChunks, readerOver } from '${import.meta.dirname}/../support/reader.ts'
import { secretSource } from '${import.meta.dirname}/../../src/platform/secret-source.ts'
import { postgresRestorer } from '${import.meta.dirname}/../../src/sources/postgres/index.ts'
const { folder, target, cut, options, whole } = JSON.parse(process.env.WORK)
const ctx = testContext()
const manifest = JSON.parse(readFileSync(folder + '/manifest', 'utf8'))
let reads = 0
const kept = manifest.artifacts.map(({ name, role }, index) => [name, async function* () {
  const bytes = readFileSync(folder + '/' + index)
  // A whole server is read once to look at it.
  if (role !== 'data' || (whole && ++reads === 1)) return yield* inChunks(bytes)
  yield* inChunks(bytes.subarray(0, Math.floor((bytes.length - 1) * cut)))
  console.log('now')
  await sleep(60_000)
}])
const restorer = postgresRestorer({ target: secretSource(target) })
await restorer.apply([manifest], { allow: new Set(), options }, true, readerOver(new Map(kept), ctx), ctx)`

async function killedAt(cut: number, backup: Captured, work: object): Promise<void> {
  const folder = await freshFolder()
  writeFileSync(join(folder, 'manifest'), JSON.stringify(backup.manifest))
  for (const [index, { name }] of backup.manifest.artifacts.entries())
    writeFileSync(join(folder, String(index)), backup.bytes.get(name) ?? '')
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
    env: { ...process.env, WORK: JSON.stringify({ folder, cut, ...work }) },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  await sleep(300)
  child.kill('SIGKILL')
  await once(child, 'close')
}

async function names(server: Target): Promise<string[]> {
  const rows = await sql<{ name: string }>(server, 'SELECT datname AS name FROM pg_database ORDER BY 1')
  return rows.map(({ name }) => name)
}

test('killed at any moment, a restore into a new database leaves only a database that says what it is, and the next one drops it', async t => {
  const facts = await orSkip(t, freshServer(15))
  if (!facts) return
  const server = { ...facts, name: 'postgres' }
  await sql(server, 'CREATE DATABASE shop')
  const shop = { ...server, name: 'shop' }
  await sql(
    shop,
    'CREATE TABLE t AS SELECT n, md5(n::text) AS m FROM generate_series(1, 30000) n',
    'CREATE INDEX ON t (m)',
    `SELECT lo_from_bytea(0, decode(repeat(md5(n::text), 100), 'hex')) FROM generate_series(1, 50) n`,
  )
  const expected = await contents(shop)
  const ctx = testContext()
  const back = { ...server, name: 'back' }
  for (const [format, options] of [
    ['custom', {}],
    ['directory', { jobs: 2 }],
    ['plain', {}],
  ] as const) {
    const source = postgresSource(PostgresOptions.parse({ ...plainOptions(shop), format }))
    const backup = await capture(source, ctx)
    for (const cut of moments) {
      await killedAt(cut, backup, { target: (await urlOf(server, 'back').read()).reveal(), options })
      const left = (await names(server)).filter(
        name => !['postgres', 'shop', 'template0', 'template1'].includes(name),
      )
      // Before an archive was spooled, there is nothing yet.
      assert.ok(
        left.length <= 1 && left.every(name => /^cairn_restoring_[0-9a-f]{12}$/.test(name)),
        left.join(),
      )
      assert.equal(left.length, format === 'directory' ? 0 : 1)
    }
    const restorer = postgresRestorer({ target: urlOf(server, 'back') })
    const plan = await restorer.plan([backup.manifest], { allow: new Set() }, ctx)
    if (format !== 'directory')
      assert.match(plan.steps.join('\n'), /drops what killed restores left: cairn_restoring_/)
    await restorer.apply([backup.manifest], { allow: new Set(), options }, false, backup.reader, ctx)
    assert.deepEqual(await contents(back), expected)
    assert.deepEqual(await names(server), ['back', 'postgres', 'shop', 'template0', 'template1'])
    await sql(server, 'DROP DATABASE back')
  }
})

test('killed at any moment, the restore of a whole server leaves every database as it was', async t => {
  const facts = await orSkip(t, freshServer(15))
  if (!facts) return
  const server = { ...facts, name: 'postgres' }
  await sql(server, 'CREATE DATABASE one', 'CREATE DATABASE two')
  const databases = ['one', 'two'].map(name => ({ ...server, name }))
  for (const database of databases)
    await sql(
      database,
      `CREATE TABLE t AS SELECT n, '${database.name}' AS m FROM generate_series(1, 20000) n`,
    )
  const ctx = testContext()
  const { database: _, ...login } = plainOptions(server) as { database?: string }
  const backup = await capture(postgresSource(PostgresOptions.parse({ ...login, whole: true })), ctx)
  const target = `postgresql://${facts.user}:${facts.password}@${facts.host}:${facts.port}`
  for (const database of databases) await sql(database, 'DELETE FROM t WHERE n > 5')
  const before = await Promise.all(databases.map(contents))
  for (const cut of moments) {
    await killedAt(cut, backup, { target, options: {}, whole: true })
    assert.deepEqual(await Promise.all(databases.map(contents)), before)
  }
  const restorer = postgresRestorer({ target: urlOf(server, 'postgres') })
  await restorer.apply([backup.manifest], { allow: new Set() }, true, backup.reader, ctx)
  for (const database of databases) assert.match((await contents(database))['public.t'] ?? '', /^20000 /)
  assert.deepEqual(await names(server), ['one', 'postgres', 'template0', 'template1', 'two'])
})
