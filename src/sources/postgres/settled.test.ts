import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import { type FreshDatabase, freshDatabase, freshServer, orSkip } from '../../../test/services/index.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import {
  contents,
  definitions,
  optionsOf,
  plainOptions,
  sql,
  urlOf,
} from '../../../test/support/postgres/hostile.ts'
import { PostgresOptions, postgresRestorer, postgresSource } from './index.ts'

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

/** What a role may be set to, and what changes how values are written or read. */
const oddSettings = [
  ...['array_nulls = off', 'backslash_quote = off', 'standard_conforming_strings = off'],
  ...['escape_string_warning = on', 'quote_all_identifiers = on', `DateStyle = 'SQL, DMY'`],
  ...['IntervalStyle = sql_standard', 'extra_float_digits = -15', 'bytea_output = escape'],
  ...['xmloption = document', 'xmlbinary = hex', 'row_security = off', 'session_replication_role = replica'],
  ...[`TimeZone = 'Asia/Kolkata'`, 'transform_null_equals = on', 'default_toast_compression = pglz'],
  ...['default_transaction_isolation = serializable', 'default_transaction_deferrable = on'],
  ...['client_encoding = LATIN1', 'check_function_bodies = on', 'search_path = nowhere', 'lock_timeout = 40'],
  ...['default_transaction_read_only = on', 'client_min_messages = error'],
]

test('odd settings of the role change nothing of what is saved and brought back', async t => {
  const both = await pair(t)
  if (!both) return
  const [from, to] = both
  const role = `role_${randomBytes(4).toString('hex')}`
  await sql(
    from,
    `CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD 'p'; CREATE ROLE "O'${role}"`,
    `CREATE TABLE lists AS SELECT '{NULL,"NULL",a}'::text[] AS texts, '{{1,NULL},{NULL,2}}'::int[] AS numbers`,
    `CREATE TABLE values_of (iv interval, f float8, r real, b bytea, x xml, at timestamptz, day date, span daterange, m money, t text)`,
    `INSERT INTO values_of VALUES ('-1 mons +2 days -03:04:05.6', 0.1::float8 + 0.2, 1.0000001, '\\x00275cff', '<a/> text <b/>',
       '0044-03-15 12:00:00 BC', '2025-02-03', '[2025-02-03,2025-12-01)', '-1234.56', E'👩 é \\\\ '' "'),
      ('-1 days -02:00', 'NaN', '-0', '', '', 'infinity', '0001-12-31 BC', 'empty', '92233720368547758.07', NULL)`,
    `CREATE TABLE checked (a text CHECK (a IN ('NULL', 'a\\b', 'it''s')), b int[] DEFAULT '{NULL,1}', c interval DEFAULT '-1 days +02:00',
       d bytea DEFAULT '\\x5c27', e date DEFAULT '2025-02-03')`,
    `INSERT INTO checked (a) VALUES ('NULL'), ('a\\b')`,
    `CREATE VIEW nulls AS SELECT a = NULL AS n, ARRAY[NULL, 'x'] AS l, '{NULL}'::text[] AS k FROM checked`,
    `CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT count(*)::int FROM public.checked $$`,
    // Filled anew by the restore: tells what its session was set to.
    `SET lc_monetary = 'POSIX'; CREATE MATERIALIZED VIEW monetary AS SELECT current_setting('lc_monetary') AS lc`,
    `COMMENT ON TABLE lists IS 'it''s \\ odd'; GRANT SELECT ON lists TO "O'${role}"`,
  )
  for (const setting of oddSettings) await sql(from, `ALTER ROLE ${role} SET ${setting}`)
  const ctx = testContext()
  const login = { ...from, user: role, password: 'p' }
  const wanted = [await contents(from), await definitions(from)]
  for (const format of ['custom', 'plain'] as const) {
    const source = postgresSource(PostgresOptions.parse({ ...plainOptions(login), format }))
    await sql(from, `ALTER ROLE ${role} SET lc_monetary = 'POSIX'`)
    const { manifest, reader, census } = await capture(source, ctx)
    await sql(from, `ALTER ROLE ${role} RESET lc_monetary`)
    assert.deepEqual(
      census.objects.map(({ rows }) => rows),
      [2, 1, 2],
    )
    const name = `${to.name}_${format}`
    await postgresRestorer({ target: urlOf({ ...login, name }, name) }).apply(
      [manifest],
      nothing,
      false,
      reader,
      ctx,
    )
    const made = [await contents({ ...to, name }), await definitions({ ...to, name })]
    assert.deepEqual(made, wanted, format)
    if (format === 'custom') {
      await postgresRestorer({ target: urlOf(login, to.name) }).apply([manifest], nothing, false, reader, ctx)
      assert.deepEqual([await contents(to), await definitions(to)], wanted)
      const options = { ...manifest.source.options, lcMonetary: 'no such locale' }
      const other = { ...manifest, source: { ...manifest.source, options } }
      const plan = await postgresRestorer({ target: urlOf(login, name) }).plan([other], nothing, ctx)
      assert.match(plan.warnings.join('\n'), /has not got lc_monetary no such locale/)
    }
    await sql({ ...from, name: 'postgres' }, `DROP DATABASE ${name}`)
  }
})
