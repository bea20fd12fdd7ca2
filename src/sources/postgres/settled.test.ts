import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { type FreshDatabase, freshDatabase, freshServer, orSkip } from '../../../test/services/index.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { contents, optionsOf, sql, urlOf } from '../../../test/support/postgres/hostile.ts'
import { postgresRestorer, postgresSource } from './index.ts'

const nothing = { allow: new Set<string>() }

async function pair(t: TestContext): Promise<[FreshDatabase, FreshDatabase] | undefined> {
  const made = await orSkip(t, Promise.all([freshDatabase(15), freshDatabase(15)]))
  if (made) for (const each of made) t.after(() => each.drop())
  return made
}

test('the owner of a database cannot make the superuser who backs it up, or restores it, carry out his functions', async t => {
  const both = await pair(t)
  if (!both) return
  const owner = `role_${randomBytes(4).toString('hex')}`
  await sql(both[0], `CREATE ROLE ${owner}`)
  for (const each of both)
    await sql(
      each,
      `CREATE SCHEMA mine AUTHORIZATION ${owner}; GRANT CREATE ON SCHEMA public TO ${owner}; SET ROLE ${owner};
       CREATE FUNCTION mine.rise() RETURNS void LANGUAGE plpgsql AS
         $$ BEGIN EXECUTE 'ALTER ROLE ${owner} SUPERUSER'; EXCEPTION WHEN OTHERS THEN END $$;
       CREATE FUNCTION mine.pg_export_snapshot() RETURNS text LANGUAGE sql AS 'SELECT mine.rise(); SELECT pg_catalog.pg_export_snapshot()';
       CREATE FUNCTION mine.current_setting(text) RETURNS text LANGUAGE sql AS 'SELECT mine.rise(); SELECT pg_catalog.current_setting($1)';
       CREATE FUNCTION mine.is(oid, int) RETURNS boolean LANGUAGE sql AS 'SELECT mine.rise(); SELECT $1 OPERATOR(pg_catalog.>=) $2::oid';
       CREATE OPERATOR mine.>= (LEFTARG = oid, RIGHTARG = int, FUNCTION = mine.is);
       CREATE FUNCTION public.row_to_json(pg_catalog.pg_database) RETURNS json LANGUAGE sql AS 'SELECT mine.rise(); SELECT pg_catalog.row_to_json($1)';
       CREATE TABLE mine.t AS SELECT 1 AS n; RESET ROLE`,
      `ALTER DATABASE ${each.name} SET search_path = mine, pg_catalog, public`,
    )
  const [from, to] = both
  const ctx = testContext()
  const { manifest, reader, census } = await capture(postgresSource(optionsOf(from)), ctx)
  assert.deepEqual(census.objects, [{ name: 'mine.t', rows: 1 }])
  await postgresRestorer({ target: urlOf(to, to.name) }).apply([manifest], nothing, true, reader, ctx)
  assert.deepEqual(await sql(from, `SELECT rolsuper FROM pg_roles WHERE rolname = '${owner}'`), [
    { rolsuper: false },
  ])
})

test('what the role or the database is set to does not keep backups and restores from their work', async t => {
  const both = await pair(t)
  if (!both) return
  const [from, to] = both
  const role = `role_${randomBytes(4).toString('hex')}`
  await sql(
    from,
    `CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD 'p'`,
    ...[`DateStyle = 'German'`, `statement_timeout = '40ms'`, 'standard_conforming_strings = off'].map(
      setting => `ALTER ROLE ${role} SET ${setting}`,
    ),
    `ALTER ROLE ${role} SET idle_in_transaction_session_timeout = '40ms'`,
    `CREATE TABLE t AS SELECT n, now() - n * interval '1 day' AS at, 'a\\b' AS c FROM generate_series(1, 100000) n`,
  )
  for (const each of [to, from])
    await sql(from, `ALTER DATABASE ${each.name} SET default_transaction_read_only = on`)
  const ctx = testContext()
  const login = { ...from, user: role, password: 'p' }
  const before = Date.now()
  const { manifest, reader, facts } = await capture(postgresSource(optionsOf(login)), ctx)
  assert.ok(Math.abs((facts.capturedAt?.getTime() ?? 0) - before) < 60_000)
  const wanted = (await contents(from))['public.t']
  await sql(
    from,
    'SET default_transaction_read_only = off',
    `ALTER ROLE ${role} SET default_transaction_read_only = on`,
  )
  for (const name of [to.name, `${to.name}_new`]) {
    const restorer = postgresRestorer({ target: urlOf({ ...login, name }, name) })
    // The second time into what is there.
    for (const replace of [false, true]) await restorer.apply([manifest], nothing, replace, reader, ctx)
    assert.equal((await contents({ ...to, name }))['public.t'], wanted)
  }
  await sql({ ...from, name: 'postgres' }, `DROP DATABASE ${to.name}_new`)
})

test('roles with names beyond ASCII are saved and made where everything is LATIN1', async t => {
  const server = await orSkip(t, freshServer(15))
  if (!server) return
  const at = (name: string) => ({ ...server, name })
  const latin = `TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`
  await sql(at('postgres'), `CREATE DATABASE latin ${latin}`, `CREATE DATABASE other ${latin}`)
  await sql(
    at('latin'),
    'CREATE ROLE "Rôle"',
    'CREATE TABLE t AS SELECT 1 AS n',
    'ALTER TABLE t OWNER TO "Rôle"',
  )
  // All of the server is LATIN1: its other databases are what restores make roles from.
  for (const name of ['postgres', 'template1'])
    await sql(
      at('other'),
      `ALTER DATABASE ${name} RENAME TO utf8_${name}`,
      `CREATE DATABASE ${name} ${latin}`,
    )
  const ctx = testContext()
  const { manifest, reader, bytes } = await capture(postgresSource(optionsOf(at('latin'))), ctx)
  assert.match(Buffer.from(bytes.get('postgres/globals.sql') ?? []).toString(), /CREATE ROLE "Rôle"/)
  await sql(at('latin'), 'DROP TABLE t', 'DROP ROLE "Rôle"')
  await postgresRestorer({ target: urlOf(at('back'), 'back') }).apply([manifest], nothing, false, reader, ctx)
  const owners = await sql(at('back'), `SELECT tableowner::text FROM pg_tables WHERE tablename = 't'`)
  assert.deepEqual(owners, [{ tableowner: 'Rôle' }])
})
