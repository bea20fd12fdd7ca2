// budget: 180 s
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import pg from 'pg'
import { type FreshDatabase, freshDatabase, orSkip, postgresClients } from '../../../test/services/index.ts'
import { freePorts } from '../../../test/services/process.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { eventually } from '../../../test/support/eventually.ts'
import {
  contents,
  optionsOf,
  plainOptions,
  rowsIn,
  sql,
  type Target,
  urlOf,
} from '../../../test/support/postgres/hostile.ts'
import { commandLinesOfOurs } from '../../../test/support/processes.ts'
import type { Context } from '../../model/context.ts'
import type { Session } from '../../model/source.ts'
import { flow } from '../../platform/flow.ts'
import { PostgresOptions, postgresRestorer, postgresSource } from './index.ts'

const nothing = { allow: new Set<string>() }

/** A database with some rows; the test is skipped where there is no server. */
async function filled(t: TestContext): Promise<FreshDatabase | undefined> {
  const database = await orSkip(t, freshDatabase(15))
  if (database)
    await sql(database, 'CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n')
  return database
}

async function opened(target: Target, ctx: Context, options = optionsOf(target)) {
  const source = postgresSource(options)
  return { source, session: await source.open({ name: target.name }, null, 'counts', ctx) }
}

async function drain(session: Session, ctx: Context): Promise<void> {
  for await (const artifact of session.artifacts()) for await (const _ of flow(artifact.open(ctx), [], ctx));
}

/** A connection that holds something until the test ends. */
async function holding(t: TestContext, target: Target, ...commands: string[]): Promise<pg.Client> {
  const { host, port, user, password, name } = target
  const client = new pg.Client({ host, port, user, password, database: name, application_name: 'the other' })
  client.on('error', () => {})
  await client.connect()
  t.after(() => client.end())
  for (const command of commands) await client.query(command)
  return client
}

test('what keeps us from logging in is said with its remedy', async t => {
  const database = await filled(t)
  if (!database) return
  const { host, port, user, password, name } = database
  const role = `r${randomBytes(4).toString('hex')}`
  await sql(
    database,
    `CREATE ROLE ${role} LOGIN PASSWORD 'x'`,
    `REVOKE CONNECT ON DATABASE ${name} FROM PUBLIC`,
  )
  const url = (place: string, login = `${user}:${password}`, database = name): string =>
    `postgresql://${login}@${place}/${database}`
  const here = `${host}:${port}`
  const cases: [string, RegExp][] = [
    [url(`${host}:${await freePorts()}`), /nothing listens on/],
    [url('no-such-host.invalid'), /no host|cannot be looked up/],
    [url(here, `${user}:falsch`), /the password for user postgres is wrong/],
    [url(here, `nobody:falsch`), /the password for user nobody is wrong/],
    [url(here, undefined, 'nowhere'), /there is no database "nowhere"/],
    [url(here, `${role}:x`), /permission denied for database/],
    [`${url(here)}?sslmode=require`, /does not support SSL/],
    [`${url('')}?host=/nonexistent`, /there is no socket \/nonexistent/],
  ]
  if (!process.env.PGPASSWORD) cases.push([url(here, user), /wants a password for user postgres/])
  for (const [bad, expected] of cases) {
    const source = postgresSource(PostgresOptions.parse({ url: bad }))
    await assert.rejects(source.inspect(testContext()), (error: Error & { remedy?: string }) => {
      assert.match(error.message, expected)
      assert.ok(error.remedy, bad)
      assert.ok(!`${error.message} ${error.remedy}`.includes(password))
      return true
    })
  }
})

test('a database that holds nothing is refused, unless that was said', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  const options = optionsOf(database)
  await assert.rejects(postgresSource(options).inspect(testContext()), {
    exit: 2,
    message: /the database is empty/,
    remedy: /allowEmpty/,
  })
  const ctx = testContext()
  const { manifest, reader } = await capture(postgresSource({ ...options, allowEmpty: true }), ctx)
  const restorer = postgresRestorer({ target: urlOf(database, `${database.name}_copy`) })
  assert.equal((await restorer.apply([manifest], nothing, false, reader, ctx)).rows, 0)
})

test('beside a writer, the dump and the census show one moment', async t => {
  const from = await orSkip(t, freshDatabase(15))
  if (!from) return
  await sql(
    from,
    'CREATE TABLE account AS SELECT n AS id, 1000 AS amount FROM generate_series(1, 2000) n',
    'CREATE TABLE journal (id serial, "from" int, "to" int)',
    `INSERT INTO journal SELECT generate_series(1, 50000), 0, 0`,
  )
  let writing = true
  let transfers = 0
  const writers = [1, 2].map(async seed => {
    const client = await holding(t, from)
    for (; writing; transfers++) {
      const [a, b] = [1 + ((transfers * 7 + seed) % 2000), 1 + ((transfers * 13) % 2000)]
      await client
        .query(
          `BEGIN; UPDATE account SET amount = amount - 1 WHERE id = ${a};
           UPDATE account SET amount = amount + 1 WHERE id = ${b};
           INSERT INTO journal ("from", "to") VALUES (${a}, ${b}); COMMIT`,
        )
        .catch(() => client.query('ROLLBACK'))
    }
  })
  t.after(() => {
    writing = false
  })
  await eventually('both write', () => transfers > 50)
  const ctx = testContext()
  const { manifest, reader, census } = await capture(postgresSource(optionsOf(from)), ctx)
  const then = transfers
  await eventually('they went on', () => transfers > then + 10)
  writing = false
  await Promise.all(writers)
  const to = { ...from, name: `${from.name}_copy` }
  await postgresRestorer({ target: urlOf(from, to.name) }).apply([manifest], nothing, false, reader, ctx)
  const restored = await contents(to)
  for (const { name, rows } of census.objects) assert.equal(Number(restored[name]?.split(' ')[0]), rows, name)
  assert.deepEqual(await sql(to, 'SELECT sum(amount)::int AS total FROM account'), [{ total: 2_000_000 }])
  assert.ok(rowsIn(restored) < rowsIn(await contents(from)))
})

test('a pg_dump that is killed, or fails after writing, fails the stream', async t => {
  const database = await filled(t)
  if (!database) return
  const ctx = testContext()
  await using session = (await opened(database, ctx)).session
  await assert.rejects(async () => {
    for await (const artifact of session.artifacts())
      for await (const _ of flow(artifact.open(ctx), [], ctx))
        for (const pid of children('pg_dump')) process.kill(pid, 'SIGKILL')
  }, /pg_dump failed: killed by SIGKILL/)

  const folder = mkdtempSync(join(tmpdir(), 'clients-'))
  t.after(() => rmSync(folder, { recursive: true }))
  mkdirSync(join(folder, '15/bin'), { recursive: true })
  const fake = join(folder, '15/bin/pg_dump')
  writeFileSync(
    fake,
    '#!/bin/sh\n[ "$1" = --version ] || { echo PGDMP; echo "pg_dump: error: no" >&2; exit 1; }\n',
  )
  chmodSync(fake, 0o755)
  const options = { ...optionsOf(database), clients: folder }
  await using other = (await opened(database, ctx, options)).session
  await assert.rejects(drain(other, ctx), /pg_dump failed: pg_dump: error: no \(exit code 1\)/)
})

test('a role that may not read everything is told what, before anything is dumped', async t => {
  const database = await filled(t)
  if (!database) return
  const role = `r${randomBytes(4).toString('hex')}`
  await sql(
    database,
    `CREATE ROLE ${role} LOGIN PASSWORD 'x12345'`,
    'CREATE TABLE open_one (id int)',
    `GRANT SELECT ON open_one TO ${role}`,
  )
  const ctx = testContext()
  const limited = { ...database, user: role, password: 'x12345' }
  await assert.rejects(opened(limited, ctx), {
    exit: 2,
    message: /permission denied: the role r\w+ may not read public\.t$/,
    remedy: /pg_read_all_data/,
  })
  {
    // Of a part, pg_dump itself says what is missing.
    const part = PostgresOptions.parse({ ...plainOptions(limited), args: ['--exclude-table-data=nothing'] })
    await using session = (await opened(limited, ctx, part)).session
    await assert.rejects(drain(session, ctx), {
      message: /permission denied for table t/,
      remedy: /pg_read_all_data/,
    })
  }
  await sql(database, `GRANT SELECT ON t TO ${role}`)
  const { manifest, bytes } = await capture(postgresSource(optionsOf(limited)), ctx)
  assert.equal(manifest.source.options.globals, 'no passwords')
  assert.match(manifest.warnings[0]?.what ?? '', /without their passwords/)
  const globals = Buffer.from(bytes.get('postgres/globals.sql') ?? []).toString()
  assert.ok(globals.includes(`CREATE ROLE ${role};`) && !globals.includes('PASSWORD'))

  await sql(database, 'ALTER TABLE t ENABLE ROW LEVEL SECURITY')
  await assert.rejects(opened(limited, ctx), { message: /row-level security/, remedy: /BYPASSRLS/ })
})

test('a lock that pg_dump waits for is named, with its holder', async t => {
  const database = await filled(t)
  if (!database) return
  await holding(t, database, 'BEGIN', 'LOCK TABLE t IN ACCESS EXCLUSIVE MODE')
  const ctx = testContext({ stallMs: 5_000 })
  const { source, session } = await opened(database, ctx)
  const draining = drain(session, ctx)
  draining.catch(() => {})
  const told = /waits for a lock on public\.t held by pid \d+ \(the other\)/
  await eventually('what is waited for is told', async () => told.test((await source.whySilent?.(ctx)) ?? ''))
  await assert.rejects(draining, /pg_dump has stalled/)
  await session[Symbol.asyncDispose]()
  assert.deepEqual(children('pg_dump'), [])
})

test('a server that stops in the middle is a stall', async t => {
  const database = await filled(t)
  if (!database) return
  await sql(database, 'INSERT INTO t SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 200000) n')
  const ctx = testContext({ stallMs: 4_000 })
  await using session = (await opened(database, ctx)).session
  let stopped: number | undefined
  t.after(() => stopped && process.kill(stopped, 'SIGCONT'))
  await assert.rejects(async () => {
    for await (const artifact of session.artifacts())
      for await (const _ of flow(artifact.open(ctx), [], ctx)) {
        if (stopped) continue
        const [backend] = await sql<{ pid: number }>(
          database,
          `SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'cairn pg_dump %' AND datname = current_database()`,
        )
        stopped = backend?.pid
        if (stopped) process.kill(stopped, 'SIGSTOP')
      }
  }, /pg_dump has stalled/)
  assert.deepEqual(children('pg_dump'), [])
})

test('without its snapshot to the end there is no backup', async t => {
  const database = await filled(t)
  if (!database) return
  const ctx = testContext()
  await using session = (await opened(database, ctx)).session
  await drain(session, ctx)
  await sql(
    database,
    `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'cairn' AND datname = current_database()`,
  )
  await assert.rejects(session.finish(), /the snapshot of .* was lost/)
})

test('no password stands in the arguments of any program', async t => {
  const database = await filled(t)
  if (!database) return
  const ctx = testContext()
  const seen = new Set<string>()
  const looking = setInterval(() => {
    for (const line of commandLinesOfOurs()) seen.add(line)
  }, 5)
  t.after(() => clearInterval(looking))
  const programs = ['pg_dump', 'pg_dumpall', 'pg_restore', 'psql']
  const unseen = () => programs.filter(each => ![...seen].some(line => line.includes(`bin/${each}\0`)))
  // A busy machine may keep us from looking while a program ran; not every time.
  for (let round = 0; round < 20 && unseen().length > 0; round++)
    // An archive goes through pg_restore, a script through psql.
    for (const format of ['custom', 'plain'] as const) {
      const options = PostgresOptions.parse({ url: database.url, format })
      const { manifest, reader } = await capture(postgresSource(options), ctx)
      const target = urlOf(database, `${database.name}_${format}_${round}`)
      await postgresRestorer({ target }).apply([manifest], nothing, false, reader, ctx)
      assert.ok(!JSON.stringify(manifest).includes(database.password))
    }
  assert.deepEqual(unseen(), [])
  for (const line of seen) assert.ok(!line.includes(database.password), line)
})

test('the programs are found by CAIRN_POSTGRES_CLIENTS or by the option', async t => {
  const database = await filled(t)
  if (!database) return
  const ctx = testContext()
  const { facts } = await capture(postgresSource({ ...optionsOf(database), clients: postgresClients }), ctx)
  assert.match(facts.client, /^pg_dump 15\./)
  const clients = mkdtempSync(join(tmpdir(), 'clients-'))
  t.after(() => rmSync(clients, { recursive: true }))
  await assert.rejects(
    opened(database, ctx, { ...optionsOf(database), clients }),
    /client programs of PostgreSQL 15/,
  )
})

/** Our own children of that name. */
function children(program: string): number[] {
  return readdirSync('/proc')
    .filter(pid => /^\d+$/.test(pid))
    .filter(pid => {
      try {
        const parent = /^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
        return Number(parent) === process.pid && readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === program
      } catch {
        return false
      }
    })
    .map(Number)
}
