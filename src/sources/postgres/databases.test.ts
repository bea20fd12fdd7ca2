// budget: 150 s
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { freshServer, orSkip, postgresClients } from '../../../test/services/index.ts'
import { run } from '../../../test/services/process.ts'
import { capture } from '../../../test/support/capture.ts'
import { listed, type Machine, machine } from '../../../test/support/cli.ts'
import { testContext } from '../../../test/support/context.ts'
import { contents, plainOptions, sql, type Target } from '../../../test/support/postgres/hostile.ts'
import { flow } from '../../platform/flow.ts'
import { PostgresOptions, postgresSource } from './index.ts'

const hostile = ['a/b', `it's "odd"\n`, '😀', 'latest', 'host=evil']

/** The server of this file: what `all` means must not depend on other tests. */
let started: ReturnType<typeof freshServer> | undefined
async function server(t: TestContext): Promise<Target | undefined> {
  started ??= freshServer(15)
  const facts = await orSkip(t, started)
  return facts && { ...facts, name: 'postgres' }
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** Databases with a table each, gone after the test. */
async function databases(t: TestContext, on: Target, names: readonly string[]): Promise<void> {
  for (const [index, name] of names.entries()) {
    await sql(on, `CREATE DATABASE ${quoted(name)}`)
    await sql({ ...on, name }, `CREATE TABLE here AS SELECT generate_series(1, ${index + 1}) AS n`)
  }
  t.after(async () => {
    await sql(on, `UPDATE pg_database SET datistemplate = false WHERE datname !~ '^template[01]$'`)
    for (const name of names) await sql(on, `DROP DATABASE IF EXISTS ${quoted(name)} WITH (FORCE)`)
  })
}

function login(on: Target): object {
  const { database: _, ...options } = plainOptions(on)
  return options
}

function configure(host: Machine, on: Target, source: object, more: object = {}): void {
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: { db: { source: { type: 'postgres', ...login(on), ...source }, to: ['disk'], ...more } },
  })
}

/** Backs up, which must end with `code`, and gives the ids by their units, and what was said. */
async function backedUp(host: Machine, code = 0): Promise<{ ids: Map<string, string>; said: string }> {
  const ran = await host.run(['backup', '--json'], { env })
  assert.equal(ran.code, code, ran.stderr)
  const units = ran
    .json<Reported>()
    .jobs.flatMap(job => job.units)
    .filter(({ id }) => id !== null)
  return { ids: new Map(units.map(({ unit, id }) => [unit, String(id)])), said: ran.stderr }
}

interface Reported {
  readonly jobs: { readonly units: { readonly unit: string; readonly id: string | null }[] }[]
}

const env = { CAIRN_POSTGRES_CLIENTS: postgresClients }

test('databases with hostile names are a backup each, and each comes back alone', async t => {
  const on = await server(t)
  if (!on) return
  await databases(t, on, hostile)
  const before = await Promise.all(hostile.map(name => contents({ ...on, name })))
  const host = machine()
  configure(host, on, { databases: hostile })
  const { ids } = await backedUp(host)
  assert.deepEqual([...ids.keys()], hostile)
  for (const name of hostile) await sql(on, `DROP DATABASE ${quoted(name)}`)
  for (const id of ids.values()) await host.ok(['restore', id, '--yes'], { env })
  assert.deepEqual(await Promise.all(hostile.map(name => contents({ ...on, name }))), before)
})

test('one database that is missing, empty or closed to us fails alone', async t => {
  const on = await server(t)
  if (!on) return
  await databases(t, on, ['good', 'closed'])
  await sql(on, 'CREATE DATABASE hollow', 'ALTER DATABASE closed ALLOW_CONNECTIONS false')
  t.after(() => sql(on, 'DROP DATABASE hollow'))
  const host = machine()
  configure(host, on, { databases: ['missing', 'hollow', 'closed', 'good'] })
  const { ids, said } = await backedUp(host, 3)
  assert.match(said, /there is no database .{1,2}missing/)
  assert.match(said, /\/hollow","why":"the database is empty/)
  assert.match(said, /\/closed","why":".*not currently accepting connections/)
  assert.deepEqual([...ids.keys()], ['good'])
})

test('all databases are those that can be connected to, less the templates and the excluded', async t => {
  const on = await server(t)
  if (!on) return
  await databases(t, on, ['one', 'two', 'test_1', 'test_2', 'closed', 'model'])
  await sql(on, 'ALTER DATABASE closed ALLOW_CONNECTIONS false', 'ALTER DATABASE model IS_TEMPLATE true')
  const options = PostgresOptions.parse({ ...login(on), databases: 'all', exclude: ['test_?', 't*o'] })
  const source = postgresSource(options)
  const ctx = testContext()
  const { units, identity } = await source.inspect(ctx)
  assert.deepEqual(units, [
    { name: 'one', identity: `${identity}/one` },
    { name: 'postgres', identity: `${identity}/postgres` },
  ])
  const said = ctx.events.flatMap(event => (event.type === 'warning' ? [`${event.what}: ${event.why}`] : []))
  assert.deepEqual(said, [
    'the database "closed" is not backed up: it allows no connections',
    'the database "model" is not backed up: it is a template',
  ])
  // It is empty on every server, and no mistake.
  assert.equal((await capture(source, ctx, { unit: { name: 'postgres' } })).census.objects.length, 0)

  // A database that goes after it was listed fails as its unit does; one that comes is of the next run.
  await sql(on, 'DROP DATABASE one', 'CREATE DATABASE newcomer')
  t.after(() => sql(on, 'DROP DATABASE newcomer'))
  await assert.rejects(source.open({ name: 'one' }, null, 'none', ctx), /there is no database "one"/)
  assert.deepEqual(
    (await source.inspect(testContext())).units.map(({ name }) => name),
    ['newcomer', 'postgres'],
  )
})

test('a role that may not connect everywhere backs up what it may', async t => {
  const on = await server(t)
  if (!on) return
  await databases(t, on, ['mine', 'theirs'])
  await sql(
    on,
    `CREATE ROLE limited LOGIN PASSWORD 'x12345'`,
    'REVOKE CONNECT ON DATABASE theirs FROM PUBLIC',
    'GRANT pg_read_all_data TO limited',
  )
  t.after(() => sql(on, 'DROP ROLE limited'))
  const options = { ...login({ ...on, user: 'limited', password: 'x12345' }), databases: 'all' }
  const source = postgresSource(PostgresOptions.parse(options))
  const ctx = testContext()
  const { units, estimate } = await source.inspect(ctx)
  assert.deepEqual(
    units.map(({ name }) => name),
    ['mine', 'postgres', 'theirs'],
  )
  assert.ok(estimate > 1_000_000)
  await assert.rejects(source.open({ name: 'theirs' }, null, 'none', ctx), /permission denied for database/)
  const { census } = await capture(source, ctx, { unit: { name: 'mine' } })
  assert.deepEqual(census.objects, [{ name: 'public.here', rows: 1 }])
})

test('from one database to several, retention goes on', async t => {
  const on = await server(t)
  if (!on) return
  await databases(t, on, ['a', 'b'])
  const host = machine()
  const keep = { keep: { last: 2 } }
  configure(host, on, { database: 'a' }, keep)
  const first = (await backedUp(host)).ids.get('a')
  const second = (await backedUp(host)).ids.get('a')
  configure(host, on, { databases: ['a', 'b'] }, keep)
  const { ids } = await backedUp(host)
  await host.ok(['prune'], { env })
  const left = (await listed(host)).map(({ id }) => id)
  assert.ok(first && !left.includes(first))
  assert.deepEqual(left.toSorted(), [second, ...ids.values()].toSorted())
})

test('a whole server comes back on an empty one, roles and all databases', async t => {
  const on = await server(t)
  const to = await orSkip(t, freshServer(15))
  if (!on || !to) return
  const names = hostile.filter(name => !name.includes('\n'))
  await databases(t, on, names)
  await sql(on, `CREATE ROLE "odd; role" LOGIN PASSWORD 'x''y'`)
  t.after(() => sql(on, 'DROP ROLE "odd; role"'))
  const ctx = testContext()
  const source = postgresSource(PostgresOptions.parse({ ...login(on), whole: true }))
  const { manifest, bytes, census, facts } = await capture(source, ctx)
  const [data, ...rest] = manifest.artifacts
  assert.deepEqual([data?.name, data?.media, rest], ['postgres/all.sql', 'sql', []])
  assert.deepEqual(
    [facts.options.whole, facts.options.format, facts.options.globals],
    [true, 'plain', 'full'],
  )
  assert.equal(census.at, 'near')
  assert.deepEqual(
    census.objects.find(({ name }) => name === '"a/b": public.here'),
    { name: '"a/b": public.here', rows: 1 },
  )
  assert.ok(facts.consistentAt > facts.capturedAt)

  const folder = mkdtempSync(join(tmpdir(), 'whole-'))
  t.after(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, 'all.sql'), bytes.get('postgres/all.sql') ?? '')
  const target = { ...to, name: 'postgres' }
  const PG = { PGHOST: to.host, PGPORT: String(to.port), PGUSER: to.user, PGPASSWORD: on.password }
  // The script sets the superuser's password half-way, and connects anew after that.
  await sql(target, `ALTER ROLE postgres PASSWORD '${on.password}'`)
  const restored = { ...target, password: on.password }
  await run(join(postgresClients, '15/bin/psql'), ['-Xq', '-d', 'postgres', '-f', join(folder, 'all.sql')], {
    env: PG,
  })
  for (const name of names)
    assert.deepEqual(await contents({ ...restored, name }), await contents({ ...on, name }), name)
  const role = `SELECT rolpassword FROM pg_authid WHERE rolname = 'odd; role'`
  assert.deepEqual(await sql(restored, role), await sql(on, role))

  await databases(t, on, ['new\nline'])
  await assert.rejects(source.open({ name: 'all' }, null, 'none', ctx), {
    message: /pg_dumpall cannot take "new\\nline": its name holds a line break/,
    remedy: /databases: all/,
  })
})

test('of a whole server without its passwords, closed databases and a dump that dies', async t => {
  const on = await server(t)
  if (!on) return
  await databases(t, on, ['open', 'closed'])
  await sql(on, `CREATE ROLE reader LOGIN PASSWORD 'x12345'`, 'ALTER DATABASE closed ALLOW_CONNECTIONS false')
  t.after(() => sql(on, 'DROP OWNED BY reader', 'DROP ROLE reader'))
  await sql({ ...on, name: 'open' }, 'GRANT SELECT ON here TO reader')
  const reader = { ...login({ ...on, user: 'reader', password: 'x12345' }), whole: true }
  const ctx = testContext()
  const { manifest, bytes, facts } = await capture(postgresSource(PostgresOptions.parse(reader)), ctx)
  assert.equal(facts.options.globals, 'no passwords')
  assert.deepEqual(
    manifest.warnings.map(({ what }) => what.slice(0, 40)),
    ['the roles are saved without their passwo', 'the database closed is not in it: it all'],
  )
  const text = Buffer.from(bytes.get('postgres/all.sql') ?? []).toString()
  assert.ok(text.includes('CREATE ROLE reader;') && !text.includes('PASSWORD'))

  const clients = mkdtempSync(join(tmpdir(), 'clients-'))
  t.after(() => rmSync(clients, { recursive: true }))
  mkdirSync(join(clients, '15/bin'), { recursive: true })
  for (const program of ['pg_dump', 'pg_dumpall']) {
    const path = join(clients, '15/bin', program)
    writeFileSync(
      path,
      `#!/bin/sh\n${join(postgresClients, '15/bin', program)} "$@" && [ "$1" = --version ]\n`,
    )
    chmodSync(path, 0o755)
  }
  await using session = await postgresSource(PostgresOptions.parse({ ...reader, clients })).open(
    { name: 'all' },
    null,
    'none',
    ctx,
  )
  await assert.rejects(async () => {
    for await (const artifact of session.artifacts())
      for await (const _ of flow(artifact.open(ctx), [], ctx));
  }, /pg_dumpall failed/)

  await sql(
    { ...on, name: 'open' },
    'CREATE SCHEMA secret',
    'CREATE TABLE secret.t (n int)',
    'REVOKE SELECT ON here FROM reader',
  )
  await assert.rejects(
    postgresSource(PostgresOptions.parse(reader)).open({ name: 'all' }, null, 'none', ctx),
    {
      exit: 2,
      message: /\/open: permission denied: the role reader may not read public\.here, secret\.t/,
    },
  )
})
