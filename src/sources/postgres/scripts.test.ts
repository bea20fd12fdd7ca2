// budget: 120 s
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { freshDatabase, freshServer, orSkip, service } from '../../../test/services/index.ts'
import { type Captured, capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import {
  contents,
  definitions,
  fillHostile,
  plainOptions,
  sql,
  type Target,
  urlOf,
} from '../../../test/support/postgres/hostile.ts'
import { inChunks, type Kept, readerOver } from '../../../test/support/reader.ts'
import { secretSource } from '../../platform/secret-source.ts'
import { PostgresOptions, postgresRestorer, postgresSource } from './index.ts'

const nothing = { allow: new Set<string>() }
const fresh = (prefix: string): string => `${prefix}_${randomBytes(4).toString('hex')}`

async function names(server: Target): Promise<string[]> {
  const rows = await sql<{ name: string }>(server, 'SELECT datname AS name FROM pg_database ORDER BY 1')
  return rows.map(({ name }) => name)
}

/** The same backup with another script. */
function scripted({ manifest, bytes }: Captured, change: (script: Buffer) => Buffer) {
  const data = manifest.artifacts.find(({ role }) => role === 'data')?.name ?? ''
  const changed = change(Buffer.from(bytes.get(data) ?? []))
  const kept = new Map<string, Kept>(bytes)
  kept.set(data, () => inChunks(changed, 8_192))
  return readerOver(kept, testContext())
}

for (const [from, to] of [
  [15, 15],
  [18, 18],
  [13, 17],
] as const) {
  test(`a plain dump of PostgreSQL ${from} comes back in ${to}, into a new database and an empty one`, async t => {
    const source = await orSkip(t, freshDatabase(from))
    const target = await orSkip(t, freshDatabase(to))
    if (!source || !target) return
    await fillHostile(source, `role "${fresh('r')}`)
    const ctx = testContext()
    const options = PostgresOptions.parse({ ...plainOptions(source), format: 'plain' })
    const { manifest, reader } = await capture(postgresSource(options), ctx)
    for (const name of [`${target.name}_new`, target.name]) {
      const report = await postgresRestorer({ target: urlOf(target, name) }).apply(
        [manifest],
        nothing,
        false,
        reader,
        ctx,
      )
      assert.ok((report.rows ?? 0) > 1000)
      const back: Target = { ...target, name }
      assert.deepEqual(await contents(back), await contents(source))
      if (from === to) assert.equal(await definitions(back), await definitions(source))
    }
    await sql(target, `DROP DATABASE ${target.name}_new`)
  })
}

test('a plain dump that is cut, or fails half-way, leaves no database and nothing in an empty one', async t => {
  const source = await orSkip(t, freshDatabase(15))
  const target = await orSkip(t, freshDatabase(15))
  if (!source || !target) return
  await sql(source, 'CREATE TABLE a AS SELECT generate_series(1, 20000) n', 'CREATE TABLE b AS SELECT 1 AS n')
  await sql(source, `SELECT lo_from_bytea(0, decode(repeat('00ff', 5000), 'hex'))`)
  const ctx = testContext()
  const options = PostgresOptions.parse({ ...plainOptions(source), format: 'plain' })
  const backup = await capture(postgresSource(options), ctx)
  const size = backup.bytes.get(`postgres/${source.name}.sql`)?.length ?? 0
  // On a server that others use too, they have theirs, which come and go.
  const own = async () => (await names(target)).filter(name => name.startsWith(target.name))
  const changes = [0, 300, size >> 2, size >> 1, size - 2_000, size - 60].map(
    at => (script: Buffer) => script.subarray(0, at),
  )
  changes.push(
    script => Buffer.from(script.toString().replace('\n\\.\n', '\nnot a number\n\\.\n')),
    script =>
      Buffer.from(
        script.toString().replace('\nCREATE TABLE public.b', '\n\\! touch /tmp/evil\nCREATE TABLE public.b'),
      ),
    script =>
      Buffer.from(script.toString().replace('\nCREATE TABLE public.b', '\nROLLBACK;\nCREATE TABLE public.b')),
  )
  for (const change of changes)
    for (const name of [target.name, `${target.name}_new`]) {
      const restorer = postgresRestorer({ target: urlOf(target, name) })
      await assert.rejects(restorer.apply([backup.manifest], nothing, false, scripted(backup, change), ctx))
      assert.deepEqual(await contents(target), { 'large objects': 'null' })
      assert.deepEqual(await own(), [target.name])
    }
  const into = (name: string, pick: object) =>
    postgresRestorer({ target: urlOf(target, name) }).plan([backup.manifest], { ...nothing, ...pick }, ctx)
  await assert.rejects(
    into(`${target.name}_new`, { only: ['a'] }),
    /plain SQL, of which no parts can be taken/,
  )
  await assert.rejects(into(`${target.name}_new`, { options: { jobs: 2 } }), { message: /--jobs/ })
  await assert.rejects(into(source.name, {}), /plain SQL replaces nothing/)
})

test('a whole server comes back: all of it at once, existing roles as they are, or one database of it', async t => {
  const from = await orSkip(t, freshServer(15))
  const shared = await orSkip(t, service('postgres', 15))
  const to = from && shared ? await freshServer(15) : undefined
  if (!from || !to) return
  const source = { ...from, name: 'postgres' }
  const target = { ...to, name: 'postgres' }
  const odd = `it's "odd" =x`
  await sql(
    source,
    `CREATE ROLE keeper LOGIN PASSWORD 'new'`,
    'CREATE DATABASE shop OWNER keeper',
    `CREATE DATABASE "${odd.replaceAll('"', '""')}"`,
    'SET allow_in_place_tablespaces = on',
    `CREATE TABLESPACE "far away" LOCATION ''`,
    `CREATE DATABASE hollow TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' TABLESPACE "far away" CONNECTION LIMIT 5`,
    `ALTER DATABASE shop SET search_path TO 'app', public`,
    `COMMENT ON DATABASE shop IS 'the; shop'`,
    `ALTER DATABASE hollow SET lc_monetary = 'POSIX'`,
    'CREATE TABLE in_postgres AS SELECT 7 AS n',
  )
  const shop = { ...source, name: 'shop' }
  // Filled anew by the restore: tells what its session was set to.
  await sql(
    { ...source, name: 'hollow' },
    `CREATE MATERIALIZED VIEW monetary AS SELECT current_setting('lc_monetary') AS lc`,
  )
  await fillHostile(shop, 'role_of_shop')
  await sql({ ...source, name: odd }, 'CREATE TABLE "o\'" AS SELECT generate_series(1, 10) AS n')
  const ctx = testContext()
  const { database: _, ...login } = plainOptions(source) as { database?: string }
  const backup = await capture(postgresSource(PostgresOptions.parse({ ...login, whole: true })), ctx)
  const { manifest, reader } = backup

  await sql(target, `CREATE ROLE keeper PASSWORD 'old'`, 'CREATE DATABASE shop')
  await sql({ ...target, name: 'shop' }, 'CREATE TABLE precious AS SELECT 1 AS n')
  const server = secretSource(`postgresql://${to.user}:${to.password}@${to.host}:${to.port}`)
  const restorer = postgresRestorer({ target: server })
  assert.deepEqual((await restorer.plan([manifest], nothing, ctx)).replaces, ['database shop'])
  const untouched = async () => {
    assert.deepEqual(await names(target), ['postgres', 'shop', 'template0', 'template1'])
    assert.deepEqual(await sql({ ...target, name: 'shop' }, 'SELECT n FROM precious'), [{ n: 1 }])
    assert.deepEqual(await sql(target, `SELECT FROM pg_roles WHERE rolname = 'role_of_shop'`), [])
  }
  await assert.rejects(restorer.apply([manifest], nothing, false, reader, ctx), {
    exit: 2,
    message: /the databases shop are there, and not empty/,
  })
  await untouched()
  const whole = (script: Buffer) => script.toString()
  for (const change of [
    (script: Buffer) => script.subarray(0, script.length - 100),
    (script: Buffer) => script.subarray(0, script.length >> 1),
    (script: Buffer) =>
      Buffer.from(whole(script).replace('\nCREATE TABLE public.wide', '\n\\! ls\nCREATE TABLE public.wide')),
    (script: Buffer) =>
      Buffer.from(whole(script).replace('\nCREATE TABLE public.wide', '\nCREATE TABEL public.wide')),
  ]) {
    await assert.rejects(restorer.apply([manifest], nothing, true, scripted(backup, change), ctx))
    await untouched()
  }
  const report = await restorer.apply([manifest], nothing, true, reader, ctx)
  assert.match(report.warnings.join('\n'), /the roles postgres, keeper|the roles keeper, postgres/)
  assert.match(
    report.warnings.join('\n'),
    /hollow does not go into the tablespace far away, which is missing/,
  )
  assert.deepEqual(await names(target), await names(source))
  for (const name of ['shop', odd, 'hollow', 'postgres'])
    assert.deepEqual(await contents({ ...target, name }), await contents({ ...source, name }), name)
  assert.equal(await definitions({ ...target, name: 'shop' }), await definitions(shop))
  const kind = `SELECT encoding, datcollate, datconnlimit FROM pg_database WHERE datname = 'hollow'`
  assert.deepEqual(await sql(target, kind), [{ encoding: 8, datcollate: 'C', datconnlimit: 5 }])
  const about = `SELECT pg_get_userbyid(datdba) AS owner, shobj_description(oid, 'pg_database') AS comment,
    (SELECT setconfig FROM pg_db_role_setting s WHERE s.setdatabase = d.oid) AS settings FROM pg_database d WHERE datname = 'shop'`
  assert.deepEqual(await sql(target, about), await sql(source, about))
  const password = (at: Target) => sql(at, `SELECT rolpassword FROM pg_authid WHERE rolname = 'keeper'`)
  assert.notDeepEqual(await password(target), await password(source))

  const one = postgresRestorer({ target: urlOf(target, 'beside') })
  await one.apply([manifest], { ...nothing, only: ['shop'] }, false, reader, ctx)
  assert.deepEqual(await contents({ ...target, name: 'beside' }), await contents(shop))
  await assert.rejects(restorer.plan([manifest], { ...nothing, only: ['shopp'] }, ctx), {
    remedy: /did you mean shop/,
  })
  await assert.rejects(
    one.plan([manifest], nothing, ctx),
    /of a whole server, and the target is one database/,
  )
})
