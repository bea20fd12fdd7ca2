import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { freshDatabase, orSkip, type PostgresMajor } from '../../../test/services/index.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { contents, plainOptions, sql, type Target, urlOf } from '../../../test/support/postgres/hostile.ts'
import { damage } from '../../model/failure.ts'
import type { ArtifactReader } from '../../model/restore.ts'
import { pour } from '../../platform/flow.ts'
import { PostgresOptions, postgresRestorer, postgresSource } from './index.ts'

/** Tables that hang together in every way, some of them with odd names. */
const schema = [
  `CREATE SCHEMA app; CREATE SCHEMA "Odd ""schema"""`,
  `CREATE TYPE app.mood AS ENUM ('good', 'bad')`,
  'CREATE TABLE app.customers (id serial PRIMARY KEY, name text NOT NULL CHECK (name <> $$$$), mood app.mood)',
  'CREATE TABLE app.orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL REFERENCES app.customers)',
  'CREATE TABLE "Odd ""schema""".customers (id int)',
  `CREATE TABLE "Odd ""schema"""."a table; with ' all" (id int PRIMARY KEY, "co l" text)`,
  'CREATE TABLE app.log (at date NOT NULL, what text) PARTITION BY RANGE (at)',
  `CREATE TABLE app.log_1 PARTITION OF app.log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')`,
  'CREATE TABLE app.log_rest PARTITION OF app.log DEFAULT',
  'CREATE INDEX ON app.customers (lower(name)); CREATE INDEX ON app.log (at)',
  'CREATE FUNCTION app.noisy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$',
  'CREATE TRIGGER shout BEFORE UPDATE ON app.customers FOR EACH ROW EXECUTE FUNCTION app.noisy()',
  `COMMENT ON COLUMN app.customers.name IS 'it''s; a name'`,
  `INSERT INTO app.customers (name, mood) SELECT 'c' || n || E'\\\\.\\n', 'good' FROM generate_series(1, 500) n`,
  'INSERT INTO app.orders (customer) SELECT 1 + n % 500 FROM generate_series(1, 2000) n',
  `INSERT INTO app.log SELECT '2025-06-01'::date + n, 'x' FROM generate_series(1, 400) n`,
  `INSERT INTO "Odd ""schema"""."a table; with ' all" VALUES (1, E'a\\tb')`,
]

async function made(t: TestContext, format: string, major: PostgresMajor = 15) {
  const [from, to] = (await orSkip(t, Promise.all([freshDatabase(major), freshDatabase(major)]))) ?? []
  if (!from || !to) return undefined
  await sql(from, ...schema)
  const ctx = testContext()
  const source = postgresSource(PostgresOptions.parse({ ...plainOptions(from), format }))
  const { manifest, reader } = await capture(source, ctx)
  const restore = async (to: Target, name: string, only: string[], replace = false, more = {}) =>
    postgresRestorer({ target: urlOf(to, name) }).apply(
      [manifest],
      { only, allow: new Set(), ...more },
      replace,
      reader,
      ctx,
    )
  return { from, to, manifest, reader, ctx, restore }
}

/** Indexes, constraints, triggers and comments of a table. */
async function parts(target: Target, table: string): Promise<unknown[]> {
  return await sql(
    target,
    `SELECT indexdef AS part FROM pg_indexes WHERE (schemaname || '.' || tablename) = '${table}'
     UNION ALL SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '${table}'::regclass
     UNION ALL SELECT tgname FROM pg_trigger WHERE tgrelid = '${table}'::regclass AND NOT tgisinternal
     UNION ALL SELECT description FROM pg_description WHERE objoid = '${table}'::regclass ORDER BY 1`,
  )
}

for (const [format, major] of [
  ['custom', 15],
  ['directory', 15],
  ['custom', 18],
] as const) {
  test(`a table that was spoilt comes back with all that belongs to it, and nothing else is touched (${format}, ${major})`, async t => {
    const m = await made(t, format, major)
    if (!m) return
    const { from, restore } = m
    const before = await contents(from)
    const [wanted, references] = [await parts(from, 'app.customers'), await parts(from, 'app.orders')]
    await sql(
      from,
      `UPDATE app.customers SET name = 'spoilt'`,
      'DROP INDEX app.customers_lower_idx',
      'CREATE TABLE app.mine AS SELECT 1 AS kept',
      'INSERT INTO app.log VALUES (now(), $$after the backup$$)',
    )
    const spoilt = await contents(from)
    await assert.rejects(restore(from, from.name, ['app.customers']), {
      exit: 2,
      message: /is there already/,
    })
    assert.deepEqual(await contents(from), spoilt)
    const report = await restore(from, from.name, ['app.customers'], true)
    assert.deepEqual([report.objects, report.rows], [1, 500])
    const after = await contents(from)
    assert.equal(after['app.customers'], before['app.customers'])
    assert.deepEqual(await parts(from, 'app.customers'), wanted)
    assert.deepEqual(await parts(from, 'app.orders'), references)
    for (const name of ['app.mine', 'app.log_rest', 'app.orders'])
      assert.equal(after[name], spoilt[name], name)
  })
}

test('tables, with odd names and in parts, and schemas come into another database', async t => {
  const m = await made(t, 'custom')
  if (!m) return
  const { from, to, restore, manifest, reader, ctx } = m
  const all = await contents(from)
  const found = async () => {
    const { 'large objects': _, ...tables } = await contents(to)
    return tables
  }
  const odd = `Odd "schema".a table; with ' all`
  // What it takes comes along where there is nothing yet; a foreign key to what is not there is left out, and said.
  const report = await restore(to, to.name, ['orders', odd])
  assert.match(
    report.warnings.join(),
    /orders_customer_fkey \(FK CONSTRAINT\) is left out: app.customers is not there/,
  )
  assert.deepEqual(Object.keys(await found()).sort(), ['app.orders', 'app.orders_id_seq', odd].sort())
  await sql(to, `CREATE TYPE app.mood AS ENUM ('good', 'bad')`)
  await assert.rejects(restore(to, to.name, ['"app".Customers']), /app.noisy\(\) does not exist/)
  assert.equal((await found())['app.customers'], undefined)
  await restore(to, to.name, ['app.log'])
  assert.equal((await found())['app.log_1'], all['app.log_1'])

  const name = `${to.name}_new`
  await restore(to, name, ['app'])
  const beside = await contents({ ...to, name })
  const expected = Object.entries(all).filter(([key]) => key.startsWith('app.'))
  assert.deepEqual(beside, { ...Object.fromEntries(expected), 'large objects': 'null' })
  await sql(to, `DROP DATABASE ${name}`)

  const plan = (only: string[]) =>
    postgresRestorer({ target: urlOf(from, from.name) }).plan(
      [manifest],
      { only, allow: new Set() },
      ctx,
      reader,
    )
  assert.deepEqual((await plan(['orders'])).replaces, ['app.orders', 'app.orders_id_seq'])
  for (const [wrong, hint] of [
    ['app.custmers', /did you mean app.customers/],
    ['orderz', /did you mean app.orders/],
    ['nothing_like_it', /it has /],
  ] as const)
    await assert.rejects(plan([wrong]), { exit: 2, remedy: hint })
  await assert.rejects(plan(['customers']), { exit: 2, message: /there are several: .*app.customers/ })
})

test('a table comes with what it needs from other schemas, where there is nothing yet', async t => {
  const both = await orSkip(t, Promise.all([freshDatabase(15), freshDatabase(15)]))
  if (!both) return
  const [from, to] = both
  await sql(
    from,
    'CREATE SCHEMA extensions; CREATE EXTENSION citext SCHEMA extensions; CREATE SCHEMA types',
    `CREATE TYPE types.mood AS ENUM ('good'); CREATE SCHEMA unneeded; CREATE TYPE unneeded.x AS ENUM ('x')`,
    `CREATE TABLE t AS SELECT 'A'::extensions.citext AS c, 'good'::types.mood AS m`,
  )
  // Another database's schemas are not those of the one that is made.
  await sql({ ...to, name: 'postgres' }, 'CREATE SCHEMA IF NOT EXISTS types')
  const ctx = testContext()
  const { manifest, reader } = await capture(postgresSource(PostgresOptions.parse(plainOptions(from))), ctx)
  for (const name of [to.name, `${to.name}_new`]) {
    const restorer = postgresRestorer({ target: urlOf(to, name) })
    await restorer.apply([manifest], { only: ['t'], allow: new Set() }, false, reader, ctx)
    const target = { ...to, name }
    assert.equal((await contents(target))['public.t'], (await contents(from))['public.t'])
    assert.deepEqual(await sql(target, `SELECT FROM pg_namespace WHERE nspname = 'unneeded'`), [])
  }
  await sql({ ...to, name: 'postgres' }, 'DROP SCHEMA types', `DROP DATABASE ${to.name}_new`)
})

test('a part of an archive that turns out damaged leaves the table as it was', async t => {
  const m = await made(t, 'custom')
  if (!m) return
  const { from, manifest, reader, ctx } = m
  const before = await contents(from)
  const broken = {
    ...reader,
    into: async (artifact: Parameters<typeof reader.into>[0], ...rest: never[]) => {
      const [sink, framed, through] = rest as unknown as [never, never, never]

      const bytes = async function* () {
        yield* reader.open(artifact)
        throw damage('x.dump is damaged', 'the SHA-256 is not the one that was written')
      }
      await pour(bytes(), through, sink, ctx, framed)
    },
  }
  const restorer = postgresRestorer({ target: urlOf(from, from.name) })
  const pick = { only: ['app.customers'], allow: new Set<string>() }
  await assert.rejects(restorer.apply([manifest], pick, true, broken, ctx), /damaged/)
  assert.deepEqual(await contents(from), before)
})

test('jobs, owners, privileges and parts of the definition are as they are wished', async t => {
  const m = await made(t, 'directory')
  if (!m) return
  const { from, to, restore, manifest, reader, ctx } = m

  const all = (options: object, name: string, replace = false) =>
    postgresRestorer({ target: urlOf(to, name) }).apply(
      [manifest],
      { allow: new Set(), options },
      replace,
      reader,
      ctx,
    )
  const name = `${to.name}_jobs`
  await all({ jobs: 2, noOwner: true, noPrivileges: true }, name)
  assert.deepEqual(await contents({ ...to, name }), await contents(from))
  await sql(to, `DROP DATABASE ${name}`)
  assert.deepEqual(readdirSync(ctx.spool), [])
  await assert.rejects(all({ jobs: 2 }, to.name), { exit: 2, message: /only write into a new database/ })
  await assert.rejects(all({ dataOnly: true }, to.name), { exit: 2, message: /no tables for the rows/ })
  await all({ schemaOnly: true }, to.name)
  assert.equal((await contents(to))['app.orders'], '0 ')
  const rows = { allow: new Set<string>(), options: { dataOnly: true } }
  const plan = await postgresRestorer({ target: urlOf(to, to.name) }).plan([manifest], rows, ctx, reader)
  assert.deepEqual(plan.replaces, ['the values of the sequences that come along'])
  assert.match(plan.steps.join('\n'), /adds rows to those that are there/)
  await assert.rejects(all({ dataOnly: true }, to.name), { exit: 2, message: /not empty/ })
  await all({ dataOnly: true }, to.name, true)
  assert.deepEqual(await contents(to), await contents(from))
  // Of named tables, too: nothing is dropped, and what is there stays.
  const log = { options: { dataOnly: true } }
  assert.deepEqual((await restore(to, to.name, ['app.log'], true, log)).rows, 800)
  await assert.rejects(all({ create: true }, 'postgres'), { exit: 2, message: /it is there already/ })
  await assert.rejects(
    restore(to, to.name, ['app.orders'], true, { options: { role: 'no_such_role' } }),
    /no_such_role/,
  )
})

test('a small part of a large archive comes back when a program decodes it, which must not be left writing to nobody', async t => {
  const [from, to] = (await orSkip(t, Promise.all([freshDatabase(15), freshDatabase(15)]))) ?? []
  if (!from || !to) return
  await sql(
    from,
    'CREATE TABLE aaa (id int); INSERT INTO aaa SELECT generate_series(1, 10)',
    `CREATE TABLE zzz (b text); INSERT INTO zzz SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 60000) i GROUP BY i % 600`,
  )
  const ctx = testContext()
  const { manifest, reader } = await capture(postgresSource(PostgresOptions.parse(plainOptions(from))), ctx)
  const decoded: ArtifactReader = {
    ...reader,
    into: (artifact, sink, framed, through = []) =>
      reader.into(artifact, sink, framed, [{ program: 'cat', args: [] }, ...through]),
  }
  const restore = (name: string, more: object) =>
    postgresRestorer({ target: urlOf(to, name) }).apply(
      [manifest],
      { allow: new Set(), ...more },
      true,
      decoded,
      ctx,
    )
  // Into a database that is there, into a new one, and without any rows.
  for (const name of [to.name, `${to.name}_new`]) {
    assert.equal((await restore(name, { only: ['aaa'] })).rows, 10)
  }
  assert.equal((await restore(`${to.name}_empty`, { options: { schemaOnly: true } })).objects, 2)
  assert.equal((await restore(`${to.name}_all`, {})).rows, 610)
})
