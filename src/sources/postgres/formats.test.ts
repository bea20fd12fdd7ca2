// budget: 120 s

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type FreshDatabase, freshDatabase, orSkip, postgresClients } from '../../../test/services/index.ts'
import { run } from '../../../test/services/process.ts'
import { type Captured, capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { smallDisk } from '../../../test/support/places.ts'
import {
  contents,
  definitions,
  fillHostile,
  plainOptions,
  rowsIn,
  sql,
} from '../../../test/support/postgres/hostile.ts'
import type { Context } from '../../model/context.ts'
import { flow } from '../../platform/flow.ts'
import { asTar } from './directory.ts'
import { PostgresOptions, postgresSource } from './index.ts'

function sourceOf(database: FreshDatabase, more: object = {}) {
  return postgresSource(PostgresOptions.parse({ ...plainOptions(database), ...more }))
}

/** Brings the one data artifact back with PostgreSQL's own programs alone. */
async function restoreByHand(
  t: TestContext,
  { manifest, bytes }: Captured,
  to: FreshDatabase,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'by-hand-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const data = manifest.artifacts.find(({ role }) => role === 'data')
  const file = join(folder, 'data')
  writeFileSync(file, bytes.get(data?.name ?? '') ?? '')
  const { host, port, user, password, name } = to
  const env = { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: name }
  const bin = join(postgresClients, String(to.major), 'bin')
  if (data?.media === 'sql')
    return void (await run(join(bin, 'psql'), ['-Xq1', '-v', 'ON_ERROR_STOP=1', '-f', file], { env }))
  assert.equal(data?.media, 'pg_dump-directory')
  mkdirSync(join(folder, 'dump'))
  await run('tar', ['-xf', file, '-C', join(folder, 'dump')])
  assert.ok(readdirSync(join(folder, 'dump')).includes('toc.dat'))
  await run(
    join(bin, 'pg_restore'),
    ['-1', '--exit-on-error', '-d', `dbname=${name}`, join(folder, 'dump')],
    { env },
  )
}

for (const [major, format, more, suffix] of [
  [15, 'plain', {}, 'sql'],
  [18, 'directory', { jobs: 3 }, 'tar'],
] as const) {
  test(`format ${format} of PostgreSQL ${major} holds everything, and leaves nothing in the spool`, async t => {
    const from = await orSkip(t, freshDatabase(major))
    const to = await orSkip(t, freshDatabase(major))
    if (!from || !to) return
    await fillHostile(from, `role "${randomBytes(4).toString('hex')}`)
    const ctx = testContext()
    const captured = await capture(sourceOf(from, { format, ...more }), ctx)
    const [data] = captured.manifest.artifacts
    assert.equal(data?.name, `postgres/${from.name}.${suffix}`)
    assert.equal(captured.facts.options.format, format)
    assert.deepEqual(readdirSync(ctx.spool), [])
    await restoreByHand(t, captured, to)
    assert.deepEqual(await contents(to), await contents(from))
    assert.equal(await definitions(to), await definitions(from))
    assert.equal(
      captured.census.objects.reduce((sum, { rows }) => sum + (rows ?? 0), 0) > 0 && captured.census.at,
      'snapshot',
    )
  })
}

test('arguments reach pg_dump, and a part is called a part', async t => {
  const from = await orSkip(t, freshDatabase(15))
  const to = await orSkip(t, freshDatabase(15))
  if (!from || !to) return
  await sql(
    from,
    'CREATE TABLE orders AS SELECT generate_series(1, 10) AS id',
    `COMMENT ON TABLE orders IS 'a comment'`,
    'CREATE TABLE logs AS SELECT generate_series(1, 1000) AS id',
  )
  const ctx = testContext()
  const whole = await capture(sourceOf(from, { args: ['--no-comments'] }), ctx)
  assert.deepEqual([whole.facts.options.args, whole.facts.options.partial], [['--no-comments'], false])
  assert.deepEqual([whole.facts.warnings, whole.census.objects.length], [[], 2])

  const args = ['--exclude-table-data=logs', '--no-comments']
  const captured = await capture(sourceOf(from, { args, format: 'plain' }), ctx)
  assert.deepEqual([captured.facts.options.args, captured.facts.options.partial], [args, true])
  assert.match(captured.facts.warnings[0]?.what ?? '', /only a part .*: --exclude-table-data=logs$/)
  assert.equal(captured.census.level, 'none')
  await restoreByHand(t, captured, to)
  assert.equal(rowsIn(await contents(to)), 10)
  assert.deepEqual(await sql(to, `SELECT obj_description('orders'::regclass) AS c`), [{ c: null }])
})

/** pg_dump of a folder of clients that does `script`; `$real` is the true one. */
function fakeClients(t: TestContext, script: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'clients-'))
  t.after(() => rmSync(folder, { recursive: true }))
  mkdirSync(join(folder, '15/bin'), { recursive: true })
  const real = join(postgresClients, '15/bin')
  for (const program of ['pg_dump', 'pg_dumpall']) {
    const fake = join(folder, '15/bin', program)
    writeFileSync(
      fake,
      `#!/bin/bash\nreal=${real}/${program}\n[ "$1" = --version ] && exec $real "$@"\n${script}\n`,
    )
    chmodSync(fake, 0o755)
  }
  return folder
}

async function drained(source: ReturnType<typeof sourceOf>, name: string, ctx: Context): Promise<void> {
  await using session = await source.open({ name }, null, 'none', ctx)
  for await (const artifact of session.artifacts()) for await (const _ of flow(artifact.open(ctx), [], ctx));
  await session.finish()
}

test('a dump tool that fails after its last byte, or is cut off, leaves no backup in any format', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  await sql(database, 'CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 50000) n')
  const scripts: [string, RegExp][] = [
    ['$real "$@"; echo "error: the connection was lost" >&2; exit 1', /connection was lost/],
    ['$real "$@" & sleep 0.05; kill -9 $!; wait $! 2>/dev/null; kill -9 $$', /killed by SIGKILL/],
  ]
  for (const [script, expected] of scripts) {
    const clients = fakeClients(t, script)
    for (const options of [{ format: 'custom' }, { format: 'plain' }, { format: 'directory', jobs: 2 }]) {
      const ctx = testContext()
      const source = sourceOf(database, { ...options, clients })
      await assert.rejects(drained(source, database.name, ctx), expected, options.format)
      assert.deepEqual(readdirSync(ctx.spool), [], options.format)
    }
  }
})

test('format directory asks for room first, and a disk that is full all the same leaves nothing', async t => {
  const database = await orSkip(t, freshDatabase(15))
  const spool = smallDisk(t, 4)
  if (!database || !spool) return
  await sql(database, 'CREATE TABLE t AS SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 20000) n')
  const ctx = testContext({ spool })
  await assert.rejects(drained(sourceOf(database, { format: 'directory' }), database.name, ctx), {
    message: /cannot spool postgres\/.*are needed in .*, and .* are free/,
    remedy: /CAIRN_SPOOL/,
  })
  const { host, port, user, password, name } = database
  const env = { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: name }
  const dump = (args: readonly string[]) => ({
    program: join(postgresClients, '15/bin/pg_dump'),
    args: ['-Fd', '-Z0', ...args],
    env,
  })
  await assert.rejects(
    async () => {
      for await (const _ of asTar({ name: 'postgres/x.tar', bytes: 0, dump }, ctx));
    },
    { message: /cannot spool postgres\/x.tar: .*No space left/, remedy: /make room/ },
  )
  assert.deepEqual(readdirSync(spool), [])
})

/** Stands for a pg_dump with jobs, which waits for its workers: one writes every 0.4 s, seven times, or not at all. */
function slow(ctx: Context, writes: boolean): AsyncIterable<Uint8Array> {
  const steps = 'for i in 1 2 3 4 5 6 7; do sleep 0.4; echo x >> "$0/toc.dat"; done'
  const script = `mkdir "$0"; (${writes ? steps : 'sleep 60'}) & wait`
  const dump = ([file = '']: readonly string[]) => ({
    program: 'sh',
    args: ['-c', script, file.replace('--file=', '')],
  })
  return flow(asTar({ name: 'postgres/x.tar', bytes: 0, dump }, ctx), [], ctx)
}

async function lengthOf(bytes: AsyncIterable<Uint8Array>): Promise<number> {
  let length = 0
  for await (const chunk of bytes) length += chunk.length
  return length
}

test('a folder that grows is no stall, one that does not is; an abort leaves nothing', async () => {
  const ctx = testContext({ stallMs: 2_000 })
  assert.ok((await lengthOf(slow(ctx, true))) > 0)
  await assert.rejects(lengthOf(slow(ctx, false)), /has stalled/)
  const stop = new AbortController()
  setTimeout(() => stop.abort(new Error('enough')), 500)
  await assert.rejects(lengthOf(slow({ ...ctx, signal: stop.signal }, true)), /enough/)
  const bytes = slow(ctx, true)[Symbol.asyncIterator]()
  await bytes.next()
  await bytes.return?.(undefined)
  assert.deepEqual(readdirSync(ctx.spool), [])
})

for (const major of [13, 18] as const) {
  test(`what the role may not see is told, and the versions of extensions are written down (PostgreSQL ${major})`, async t => {
    const database = await orSkip(t, freshDatabase(major))
    if (!database) return
    const role = `r${randomBytes(4).toString('hex')}`
    await sql(
      database,
      `CREATE ROLE ${role} LOGIN PASSWORD 'x12345'`,
      'CREATE TABLE t AS SELECT 1 AS n',
      `GRANT SELECT ON t TO ${role}`,
      'CREATE EXTENSION postgres_fdw',
      'CREATE EXTENSION hstore',
      'CREATE SERVER "far ""away" FOREIGN DATA WRAPPER postgres_fdw',
      `CREATE USER MAPPING FOR postgres SERVER "far ""away" OPTIONS (user 'x', password 'geheim')`,
      `CREATE USER MAPPING FOR PUBLIC SERVER "far ""away" OPTIONS (user 'y')`,
    )
    const ctx = testContext()
    const limited = sourceOf({ ...database, user: role, password: 'x12345' })
    const seen = await capture(limited, ctx)
    const hidden = [
      'user mapping for public on server "far ""away"',
      'user mapping for postgres on server "far ""away"',
    ]
    assert.deepEqual(seen.census.unseen.toSorted(), hidden.toSorted())
    for (const name of hidden)
      assert.ok(
        seen.manifest.warnings.some(({ what }) => what.endsWith(name)),
        name,
      )
    assert.ok(!Buffer.from(seen.bytes.get(`postgres/${database.name}.dump`) ?? []).includes('geheim'))
    assert.deepEqual(seen.facts.options.extensions, ['hstore', 'postgres_fdw'])
    assert.match(
      JSON.stringify(seen.facts.options.extensionVersions),
      /^\{"hstore":"1\.\d+","postgres_fdw":"1\.\d"\}$/,
    )
    const all = await capture(sourceOf(database), ctx)
    assert.deepEqual([all.census.unseen, all.facts.warnings], [[], []])
    assert.ok(Buffer.from(all.bytes.get(`postgres/${database.name}.dump`) ?? []).includes('geheim'))
  })
}
