// budget: 240 s
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type FreshDatabase, freshDatabase, freshFolder, orSkip } from '../../../test/services/index.ts'
import { type Captured, capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import {
  contents,
  fillHostile,
  optionsOf,
  sql,
  type Target,
  urlOf,
} from '../../../test/support/postgres/hostile.ts'
import { inChunks, type Kept, readerOver } from '../../../test/support/reader.ts'
import type { Context } from '../../model/context.ts'
import { damage } from '../../model/failure.ts'
import type { ArtifactReader } from '../../model/restore.ts'
import type { Bytes } from '../../model/step.ts'
import { secretSource } from '../../platform/secret-source.ts'
import { postgresRestorer, postgresSource } from './index.ts'

const nothing = { allow: new Set<string>() }
const freshRole = (): string => `role_${randomBytes(4).toString('hex')}`

/** A database of PostgreSQL 15, filled by the given statements, and its backup. */
async function backedUp(
  t: TestContext,
  ...commands: string[]
): Promise<
  | { from: FreshDatabase; to: FreshDatabase; backup: Captured; ctx: ReturnType<typeof testContext> }
  | undefined
> {
  const [from, to] = (await orSkip(t, Promise.all([freshDatabase(15), freshDatabase(15)]))) ?? []
  if (!from || !to) return undefined
  await sql(from, ...commands)
  const ctx = testContext()
  return { from, to, backup: await capture(postgresSource(optionsOf(from)), ctx), ctx }
}

const some = 'CREATE TABLE t AS SELECT n, md5(n::text) AS m FROM generate_series(1, 5000) n'

async function exists(server: Target, name: string): Promise<boolean> {
  return (await sql(server, `SELECT FROM pg_database WHERE datname = '${name}'`)).length > 0
}

/** The same backup, the data of which is read as `change` makes it. */
function changed(backup: Captured, change: (bytes: Uint8Array) => Bytes, ctx: Context): ArtifactReader {
  const kept = new Map<string, Kept>(backup.bytes)
  for (const { name, role } of backup.manifest.artifacts) {
    const bytes = backup.bytes.get(name) ?? Buffer.alloc(0)
    if (role === 'data') kept.set(name, () => change(bytes))
  }
  return readerOver(kept, ctx)
}

/** Found at the end, as a digest is. */
async function* damaged(bytes: Uint8Array): Bytes {
  yield* inChunks(bytes, 8_192)
  throw damage('x.dump is damaged', 'the SHA-256 is not the one that was written')
}

test('an archive that is cut off or changed at any byte leaves the target as it was', async t => {
  const [from, to] = (await orSkip(t, Promise.all([freshDatabase(15), freshDatabase(15)]))) ?? []
  if (!from || !to) return
  await fillHostile(from, freshRole())
  // Large objects come last, and pg_restore would give them transactions of their own.
  await sql(from, 'SELECT lo_unlink(oid) FROM pg_largeobject_metadata')
  await unharmed(from, to)
  await sql(from, `SELECT lo_from_bytea(0, decode(repeat('00ff', 500000), 'hex'))`)
  await unharmed(from, await freshDatabase(15))
})

async function unharmed(from: Target, to: Target): Promise<void> {
  const ctx = testContext()
  const backup = await capture(postgresSource(optionsOf(from)), ctx)
  const restorer = postgresRestorer({ target: urlOf(to, to.name) })
  const created = `${to.name}_new`
  const fresh = postgresRestorer({ target: urlOf(to, created) })
  const size = backup.bytes.get(`postgres/${from.name}.dump`)?.length ?? 0
  assert.ok(size > 1_000_000)
  for (let round = 0; round < 15; round++) {
    // The first and the last bytes, and between them the archive's directory, rows, large objects.
    const at = round === 14 ? size - 1 : Math.floor((size * round) / 14)
    const cut = (bytes: Uint8Array): Bytes => inChunks(bytes.subarray(0, at), 8_192)
    const flipped = (bytes: Uint8Array): Bytes =>
      damaged(Buffer.from(bytes).fill((bytes[at] ?? 0) ^ 0x11, at, at + 1))
    for (const change of [cut, flipped]) {
      const reader = changed(backup, change, ctx)
      const which = round % 7 === 0 ? fresh : restorer
      await assert.rejects(which.apply([backup.manifest], nothing, false, reader, ctx), `byte ${at}`)
    }
  }
  assert.deepEqual(await contents(to), { 'large objects': 'null' })
  assert.equal(await exists(to, created), false)
  await restorer.apply([backup.manifest], nothing, false, backup.reader, ctx)
  assert.deepEqual(await contents(to), await contents(from))
}

for (const objects of [0, 500]) {
  test(`killed in the middle, a restore with ${objects} large objects leaves the target empty and no program behind`, async t => {
    const made = await backedUp(
      t,
      'CREATE TABLE t AS SELECT n, md5(n::text) AS m FROM generate_series(1, 40000) n',
      `SELECT lo_from_bytea(0, decode(repeat(md5(n::text), 100), 'hex')) FROM generate_series(1, ${objects}) n`,
    )
    if (!made) return
    const { from, to, backup } = made
    const folder = await freshFolder()
    writeFileSync(join(folder, 'data'), backup.bytes.get(`postgres/${from.name}.dump`) ?? '')
    writeFileSync(join(folder, 'manifest'), JSON.stringify(backup.manifest))
    const script = `
    import { readFileSync } from 'node:fs'
    import { setTimeout as sleep } from 'node:timers/promises'
    import { testContext } from '${import.meta.dirname}/../../../test/support/context.ts'
    import { inChunks, readerOver } from '${import.meta.dirname}/../../../test/support/reader.ts'
    import { secretSource } from '${import.meta.dirname}/../../platform/secret-source.ts'
    import { postgresRestorer } from '${import.meta.dirname}/index.ts'
    const ctx = testContext()
    const manifest = JSON.parse(readFileSync('${folder}/manifest', 'utf8'))
    const slowly = async function* () {
      const bytes = readFileSync('${folder}/data')
      yield* inChunks(bytes.subarray(0, bytes.length - Number(process.env.KEEP)))
      console.log('now')
      await sleep(60_000)
    }
    const data = manifest.artifacts.find(({ role }) => role === 'data')
    const only = { only: [data.name], allow: new Set() }
    const reader = readerOver(new Map([[data.name, slowly]]), ctx)
    await postgresRestorer({ target: secretSource(process.env.TARGET) }).apply([manifest], only, false, reader, ctx)`
    for (const keep of [1_000_000, 100_000, 1]) {
      const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
        env: { ...process.env, TARGET: to.url, KEEP: String(keep) },
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      await once(child.stdout, 'data')
      await sleep(300)
      child.kill('SIGKILL')
      await once(child, 'close')
      for (let tries = 0; (await connected(to)) > 0; tries++) {
        assert.ok(tries < 300, 'psql is still connected')
        await sleep(100)
      }
      assert.deepEqual(await contents(to), { 'large objects': 'null' })
    }
  })
}

async function connected(target: Target): Promise<number> {
  const [row] = await sql<{ n: number }>(
    target,
    `SELECT count(*)::int AS n FROM pg_stat_activity
      WHERE datname = current_database() AND application_name LIKE 'cairn%'`,
  )
  return row?.n ?? 0
}

test('a target that is not empty is changed with consent only, and the plan says what goes', async t => {
  const made = await backedUp(t, some)
  if (!made) return
  const { from, to, backup, ctx } = made
  await sql(to, 'CREATE TABLE t AS SELECT 1 AS old', 'CREATE TABLE other AS SELECT 2 AS kept')
  const restorer = postgresRestorer({ target: urlOf(to, to.name) })
  const plan = await restorer.plan([backup.manifest], nothing, ctx)
  assert.deepEqual(plan.replaces, ['table public.other', 'table public.t'])
  await assert.rejects(restorer.apply([backup.manifest], nothing, false, backup.reader, ctx), {
    exit: 2,
    message: /not empty/,
  })
  assert.deepEqual(await sql(to, 'SELECT * FROM t'), [{ old: 1 }])
  await assert.rejects(
    restorer.apply([backup.manifest], nothing, true, changed(backup, damaged, ctx), ctx),
    /damaged/,
  )
  assert.deepEqual(await sql(to, 'SELECT * FROM t'), [{ old: 1 }])
  await restorer.apply([backup.manifest], nothing, true, backup.reader, ctx)
  assert.equal((await contents(to))['public.t'], (await contents(from))['public.t'])
  assert.deepEqual(await sql(to, 'SELECT * FROM other'), [{ kept: 2 }])
})

test('what comes into the target after it was looked at is noticed in the transaction', async t => {
  const made = await backedUp(t, some)
  if (!made) return
  const { to, backup, ctx } = made
  const reader: ArtifactReader = {
    ...backup.reader,
    async into(...parameters) {
      await sql(to, 'CREATE TABLE mine (id int)')
      await backup.reader.into(...parameters)
    },
  }
  const restorer = postgresRestorer({ target: urlOf(to, to.name) })
  await assert.rejects(
    restorer.apply([backup.manifest], nothing, false, reader, ctx),
    /the target is not empty any more/,
  )
  assert.deepEqual(Object.keys(await contents(to)), ['public.mine', 'large objects'])
})

test('of two restores into one database at once, one is refused', async t => {
  const made = await backedUp(t, some)
  if (!made) return
  const { from, to, backup, ctx } = made
  const once = () =>
    postgresRestorer({ target: urlOf(to, to.name) }).apply(
      [backup.manifest],
      nothing,
      false,
      backup.reader,
      ctx,
    )
  const outcomes = await Promise.allSettled([once(), once()])
  assert.deepEqual(outcomes.map(outcome => outcome.status).sort(), ['fulfilled', 'rejected'])
  assert.deepEqual(await contents(to), await contents(from))
})

test('roles that are missing come from the globals, or are done without', async t => {
  const server = await orSkip(t, freshDatabase(15))
  const to = await orSkip(t, freshDatabase(16))
  if (!server || !to) return
  const ctx = testContext()
  const role = freshRole()
  await fillHostile(server, role)
  const { manifest, reader } = await capture(postgresSource(optionsOf(server)), ctx)
  const restorer = postgresRestorer({ target: urlOf(to, to.name) })
  const data = [`postgres/${server.name}.dump`]
  await assert.rejects(restorer.plan([manifest], { only: data, allow: new Set() }, ctx), {
    message: /the roles role_\w+ are missing there, and the globals are left out/,
    remedy: /no-owner/,
  })
  await assert.rejects(
    restorer.plan([manifest], { only: ['nonsense'], allow: new Set() }, ctx, reader),
    /has no such table or schema/,
  )
  // A policy for a role cannot be made without the role.
  await sql(server, 'DROP POLICY mine ON guarded')
  const again = await capture(postgresSource(optionsOf(server)), ctx)
  const withoutOwner = { only: data, allow: new Set(['no-owner']) }
  await restorer.apply([again.manifest], withoutOwner, false, again.reader, ctx)
  assert.deepEqual(await contents(to), await contents(server))
  assert.deepEqual(await sql(to, `SELECT FROM pg_roles WHERE rolname = '${role}'`), [])

  const onlyGlobals = { only: ['postgres/globals.sql'], allow: new Set<string>() }
  const report = await restorer.apply([manifest], onlyGlobals, false, reader, ctx)
  assert.equal(report.rows, null)
  assert.equal((await sql(to, `SELECT FROM pg_roles WHERE rolname = '${role}'`)).length, 1)
  await restorer.apply([manifest], onlyGlobals, false, reader, ctx)
})

test('what cannot work is said before anything is touched', async t => {
  const newer = await orSkip(t, freshDatabase(16))
  const older = await orSkip(t, freshDatabase(15))
  if (!newer || !older) return
  const ctx = testContext()
  await sql(newer, some)
  const { manifest, reader } = await capture(postgresSource(optionsOf(newer)), ctx)
  const into = (url: string) =>
    postgresRestorer({ target: secretSource(url) }).apply([manifest], nothing, false, reader, ctx)
  await assert.rejects(into(older.url), { exit: 2, message: /of PostgreSQL 16, and the target is older: 15/ })
  await assert.rejects(
    into(newer.url.replace(newer.password, 'falsch')),
    /the password for user postgres is wrong/,
  )
  await assert.rejects(into(`${newer.url}${'x'.repeat(60)}`), /longer than 63 bytes/)
  const role = freshRole()
  await sql(newer, `CREATE ROLE ${role} LOGIN PASSWORD 'x12345'`)
  const poor = newer.url.replace(`postgres:${newer.password}@`, `${role}:x12345@`)
  await assert.rejects(into(`${poor}_new`), /this role may not create one/)
  const facts = { ...manifest.source.options, extensions: ['no_such_extension'] }
  const wanting = { ...manifest, source: { ...manifest.source, options: facts } }
  await assert.rejects(
    postgresRestorer({ source: optionsOf(newer) }).plan([wanting], nothing, ctx),
    /lacks the extensions no_such_extension/,
  )
  const foreign = { ...manifest, source: { ...manifest.source, engine: 'mariadb' } }
  await assert.rejects(
    postgresRestorer({ source: optionsOf(newer) }).plan([foreign], nothing, ctx),
    /not a backup of one PostgreSQL database/,
  )
})

test('a database that the restore created goes again when it fails, and its owner is that of the source', async t => {
  const role = freshRole()
  const made = await backedUp(t, some, `CREATE ROLE ${role}`, `GRANT SELECT ON t TO ${role}`)
  if (!made) return
  const { from, to, ctx } = made
  await sql(from, `ALTER DATABASE ${from.name} OWNER TO ${role}`)
  const backup = await capture(postgresSource(optionsOf(from)), ctx)
  const name = `${to.name}_new`
  const restorer = postgresRestorer({
    target: secretSource(`postgresql://${to.host}:${to.port}/${name}`),
    source: optionsOf(from),
  })
  await assert.rejects(restorer.apply([backup.manifest], nothing, false, changed(backup, damaged, ctx), ctx))
  assert.equal(await exists(to, name), false)

  const controller = new AbortController()
  const aborting = testContext({ signal: controller.signal })
  const endless = async function* (bytes: Uint8Array): Bytes {
    yield bytes.subarray(0, bytes.length - 1)
    controller.abort(new Error('told to stop'))
    await sleep(60_000, undefined, { signal: controller.signal })
  }
  const reader = changed(backup, endless, aborting)
  await assert.rejects(restorer.apply([backup.manifest], nothing, false, reader, aborting), /told to stop/)
  assert.equal(await exists(to, name), false)

  await restorer.apply([backup.manifest], nothing, false, backup.reader, ctx)
  const owner = `SELECT pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname = '${name}'`
  assert.deepEqual(await sql(to, owner), [{ owner: role }])
})

test('a new database is set to what the old one was set to', async t => {
  const role = freshRole()
  const made = await backedUp(t, some, `CREATE ROLE ${role} LOGIN PASSWORD 'x12345'`)
  if (!made) return
  const { from, to, ctx } = made
  await sql(
    from,
    `ALTER DATABASE ${from.name} SET search_path TO "$user", 'odd "one"', public`,
    `ALTER DATABASE ${from.name} SET app.secret TO 'it''s; \\ $$'`,
    `ALTER ROLE ${role} IN DATABASE ${from.name} SET work_mem TO '7MB'`,
    `COMMENT ON DATABASE ${from.name} IS 'the shop'`,
    `REVOKE ALL ON DATABASE ${from.name} FROM PUBLIC`,
    `GRANT CONNECT ON DATABASE ${from.name} TO ${role} WITH GRANT OPTION`,
    `ALTER DATABASE ${from.name} CONNECTION LIMIT 7 IS_TEMPLATE true`,
    'SET allow_in_place_tablespaces = on',
    `CREATE TABLESPACE "sp""ace ${from.name}" LOCATION ''`,
  )
  await sql(
    { ...from, name: 'postgres' },
    `ALTER DATABASE ${from.name} SET TABLESPACE "sp""ace ${from.name}"`,
  )
  const backup = await capture(postgresSource(optionsOf(from)), ctx)
  assert.ok(!JSON.stringify(backup.manifest).includes("it's"))
  const back = { ...from, name: `${to.name} "new"` }
  const report = await postgresRestorer({ target: urlOf(to, back.name) }).apply(
    [backup.manifest],
    nothing,
    false,
    backup.reader,
    ctx,
  )
  assert.deepEqual(report.warnings, [])
  const settings = (target: Target) =>
    sql(
      target,
      `SELECT shobj_description(d.oid, 'pg_database') AS comment, datacl::text AS acl,
              (SELECT array_agg(setrole || ' ' || setconfig::text ORDER BY setrole) FROM pg_db_role_setting
                WHERE setdatabase = d.oid) AS set, datconnlimit AS limit, datistemplate AS template,
              (SELECT spcname FROM pg_tablespace s WHERE s.oid = dattablespace) AS space
         FROM pg_database d WHERE datname = current_database()`,
    )
  const [wanted] = await settings(from)
  assert.deepEqual(await settings(back), [wanted])
  assert.deepEqual([wanted?.limit, wanted?.template], [7, true])

  // Where the tablespace is not, or not ours, all else comes back. A part brings nothing of all that.
  const elsewhere = { ...from, name: `${to.name} elsewhere` }
  const restorer = postgresRestorer({ target: urlOf(to, elsewhere.name) })
  const options = { ...backup.manifest.source.options, tablespace: 'no such space' }
  const manifest = { ...backup.manifest, source: { ...backup.manifest.source, options } }
  const other = await restorer.apply([manifest], nothing, false, backup.reader, ctx)
  assert.deepEqual(other.warnings, [
    'the database does not go into the tablespace no such space, which is missing',
  ])
  assert.deepEqual(await settings(elsewhere), [{ ...wanted, space: 'pg_default' }])
  const part = { ...from, name: `${to.name} part` }
  await postgresRestorer({ target: urlOf(to, part.name) }).apply(
    [backup.manifest],
    { ...nothing, only: ['t'] },
    false,
    backup.reader,
    ctx,
  )
  const plain = { comment: null, acl: null, set: null, limit: -1, template: false, space: 'pg_default' }
  assert.deepEqual(await settings(part), [plain])
})

test('while the server makes an index nothing is stalled; while it waits for a lock something is', async t => {
  const made = await backedUp(
    t,
    some,
    `CREATE FUNCTION slowly(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 FROM pg_catalog.pg_sleep(CASE $1 WHEN 5000 THEN 6 ELSE 0 END)'`,
    'CREATE INDEX ON t (slowly(n)) WHERE n > 4990',
  )
  if (!made) return
  const { from, to, backup } = made
  const ctx = testContext({ stallMs: 3_000 })
  const reader = readerOver(backup.bytes, ctx)
  const restorer = postgresRestorer({ target: urlOf(to, to.name) })
  await restorer.apply([backup.manifest], nothing, false, reader, ctx)
  assert.deepEqual(await contents(to), await contents(from))

  const pg = await import('pg')
  const other = new pg.default.Client({ connectionString: to.url, application_name: 'the other' })
  await other.connect()
  t.after(() => other.end())
  await other.query('BEGIN; SELECT * FROM t LIMIT 1')
  await assert.rejects(restorer.apply([backup.manifest], nothing, true, reader, ctx), /psql has stalled/)
  const warning = ctx.events.find(event => event.type === 'warning')
  assert.match(
    warning?.type === 'warning' ? warning.why : '',
    /waits for a lock on public\.\w+ held by pid \d+ \(the other\)/,
  )
  await other.query('ROLLBACK')
  assert.deepEqual(await contents(to), await contents(from))
})
