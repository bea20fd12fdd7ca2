import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type FreshDatabase, freshDatabase, orSkip } from '../../../test/services/index.ts'
import { freePorts, startDaemon, stopDaemons, until } from '../../../test/services/process.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { contents, optionsOf, sql, urlOf } from '../../../test/support/postgres/hostile.ts'
import { postgresRestorer, postgresSource } from './index.ts'

const bouncer = '/usr/sbin/pgbouncer'
const passingOver = 'ignore_startup_parameters = extra_float_digits,options'

/** A database as pgbouncer shows it. */
async function pooled(
  t: TestContext,
  database: FreshDatabase,
  ...settings: string[]
): Promise<FreshDatabase> {
  const dir = await mkdtemp(join(tmpdir(), 'bouncer-'))
  const port = await freePorts()
  const { host, user, password } = database
  await writeFile(join(dir, 'users'), `"${user}" "${password}"\n`)
  const lines = [
    `[databases]\n* = host=${host} port=${database.port}\n[pgbouncer]`,
    `listen_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =`,
    `auth_type = scram-sha-256\nauth_file = ${join(dir, 'users')}`,
    ...settings,
  ]
  await writeFile(join(dir, 'ini'), `${lines.join('\n')}\n`)
  await chmod(dir, 0o755)
  const daemon = startDaemon(bouncer, [join(dir, 'ini')], {
    log: join(dir, 'log'),
    stopWith: 'SIGTERM',
    // As PostgreSQL, it refuses to run as root.
    ...(process.getuid?.() === 0 ? { user: 'postgres' } : {}),
  })
  t.after(async () => {
    stopDaemons([daemon])
    await rm(dir, { recursive: true })
  })
  const shown = { ...database, port }
  await until('pgbouncer', 30, daemon, () => sql(shown, 'SELECT 1'))
  return shown
}

async function filled(t: TestContext): Promise<FreshDatabase | undefined> {
  if (!existsSync(bouncer)) return void t.skip('no pgbouncer')
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  t.after(() => database.drop())
  await sql(database, 'CREATE TABLE t AS SELECT generate_series(1, 1000) AS n')
  return database
}

test('a pool that lends a connection for one transaction is refused, and the applications that use it notice nothing', async t => {
  const database = await filled(t)
  if (!database) return
  await sql(database, `ALTER DATABASE ${database.name} SET statement_timeout = '77s'`)
  const pool = await pooled(t, database, 'pool_mode = transaction', passingOver)
  await assert.rejects(capture(postgresSource(optionsOf(pool)), testContext()), {
    why: /a pooler lies between that gives its connections to others after each transaction/,
    remedy: 'connect to the server itself, or through a pool in session mode',
  })
  assert.deepEqual(await sql(pool, 'SELECT count(*)::int AS rows FROM t'), [{ rows: 1000 }])
  assert.deepEqual(await sql(pool, 'SHOW statement_timeout'), [{ statement_timeout: '77s' }])
})

test('through a pool in session mode a database is saved and comes back', async t => {
  const database = await filled(t)
  const target = database && (await orSkip(t, freshDatabase(15)))
  if (!database || !target) return
  t.after(() => target.drop())
  const pool = await pooled(t, database, 'pool_mode = session', passingOver)
  const ctx = testContext()
  const { manifest, reader } = await capture(postgresSource(optionsOf(pool)), ctx)
  const restorer = postgresRestorer({ target: urlOf({ ...target, port: pool.port }, target.name) })
  await restorer.apply([manifest], { allow: new Set() }, true, reader, ctx)
  assert.deepEqual(await contents(target), await contents(database))
})

test('whoever meets a pool that takes no settings, or knows no such database, is told what to do', async t => {
  const database = await filled(t)
  if (!database) return
  const pool = await pooled(t, database, 'pool_mode = session')
  await assert.rejects(capture(postgresSource(optionsOf(pool)), testContext()), {
    why: /unsupported startup parameter/,
    remedy: /connect to the server itself.*ignore_startup_parameters/,
  })
  await assert.rejects(capture(postgresSource(optionsOf({ ...pool, name: 'absent' })), testContext()), {
    why: /does not exist/,
    remedy: /make the database first, or connect to the server itself/,
  })
})
