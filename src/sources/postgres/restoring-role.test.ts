import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { freshDatabase, orSkip, type PostgresMajor } from '../../../test/services/index.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { contents, optionsOf, sql, urlOf } from '../../../test/support/postgres/hostile.ts'
import type { RestoreOptions } from '../../model/restore.ts'
import { postgresRestorer, postgresSource } from './index.ts'

for (const major of [15, 18] as const satisfies readonly PostgresMajor[])
  test(`a role that cannot restore is refused before anything is touched, and one that can makes all of it (${major})`, async t => {
    const made = await orSkip(t, Promise.all([freshDatabase(major), freshDatabase(major)]))
    if (!made) return
    const [from, to] = made
    const mark = randomBytes(4).toString('hex')
    const [login, role, owner] = [`login_${mark}`, `O'dd "${mark}`, `owner_${mark}`]
    const quoted = `"${role.replaceAll('"', '""')}"`
    await sql(
      from,
      `CREATE ROLE ${login} LOGIN CREATEDB PASSWORD 'p'; CREATE ROLE ${quoted}; CREATE ROLE ${owner}`,
      `CREATE SCHEMA app; CREATE TABLE app.t AS SELECT generate_series(1, 10) AS n; CREATE TABLE plain AS SELECT 1 AS n`,
      `CREATE SCHEMA theirs AUTHORIZATION ${owner}; CREATE TABLE theirs.t AS SELECT 1 AS n`,
      `ALTER TABLE theirs.t OWNER TO ${owner}; ALTER SCHEMA app OWNER TO ${owner}; ALTER TABLE app.t OWNER TO ${owner}`,
      `ALTER TABLE plain OWNER TO ${quoted}`,
    )
    const ctx = testContext()
    const { manifest, reader } = await capture(postgresSource(optionsOf(from)), ctx)
    let asked = 0
    const watched = {
      ...reader,
      into: async (...all: Parameters<typeof reader.into>) => {
        asked++
        await reader.into(...all)
      },
    }
    const restore = (name: string, options: RestoreOptions = {}, only?: string[]) =>
      postgresRestorer({ target: urlOf({ ...to, user: login, password: 'p' }, name) }).apply(
        [manifest],
        { allow: new Set(), options: { role, ...options }, ...(only ? { only } : {}) },
        true,
        watched,
        ctx,
      )
    const refused = async (name: string, message: RegExp, options?: RestoreOptions, only?: string[]) => {
      await assert.rejects(restore(name, options, only), { exit: 2, message })
      assert.equal(asked, 0)
    }
    const fresh = `${to.name}_new`
    await refused(fresh, /as the role nobody: it is not there/, { role: 'nobody' })
    await refused(fresh, /is not a member of it, or may not SET ROLE to it/)
    await sql(
      from,
      `GRANT ${quoted} TO ${login}`,
      ...(major >= 16 ? [`GRANT ${quoted} TO ${login} WITH SET FALSE`] : []),
    )
    if (major >= 16) await refused(fresh, /is not a member of it, or may not SET ROLE to it/)
    await sql(from, `GRANT ${quoted} TO ${login}${major >= 16 ? ' WITH SET TRUE' : ''}`)
    await refused(fresh, /may not give things to their owners: owner_\w+ /)
    const plain = { noOwner: true }
    await refused(to.name, /may not make schemas: app, theirs/, plain)
    await sql(to, `GRANT CREATE ON DATABASE ${to.name} TO ${quoted}`)
    await refused(to.name, /may not make anything in the schemas public/, plain)
    await sql(to, `GRANT CREATE ON SCHEMA public TO ${quoted}`, 'CREATE TABLE plain AS SELECT 2 AS n')
    await refused(to.name, /does not own what would be replaced: public.plain/, plain)
    await refused(to.name, /does not own what would be replaced: public.plain/, plain, ['plain'])
    await sql(to, `ALTER TABLE plain OWNER TO ${quoted}`)

    // A database that is made is the role's, which may then do in it what it wants.
    for (const name of [to.name, fresh]) {
      await restore(name, plain)
      assert.deepEqual(await contents({ ...to, name }), await contents(from))
      const owners = await sql(
        { ...to, name },
        `SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname !~ '^(pg_|info)'`,
      )
      assert.deepEqual(owners, [{ tableowner: role }])
    }
    // Also by a superuser, who gives the database to whom it belonged.
    await sql(from, `GRANT ${owner} TO ${quoted}`, `ALTER DATABASE ${from.name} OWNER TO ${owner}`)
    const again = await capture(postgresSource(optionsOf(from)), ctx)
    await sql(to, `DROP DATABASE ${fresh}`)
    await postgresRestorer({ target: urlOf(to, fresh) }).apply(
      [again.manifest],
      { allow: new Set(), options: { role } },
      false,
      again.reader,
      ctx,
    )
    const whose = `SELECT pg_get_userbyid(datdba)::text AS of FROM pg_database WHERE datname = '${fresh}'`
    assert.deepEqual(await sql(to, whose), [{ of: owner }])
    await sql(to, `DROP DATABASE ${fresh}`)
  })

for (const major of [15, 18] as const satisfies readonly PostgresMajor[])
  test(`who is no superuser restores beside the extensions that an administrator has made (${major})`, async t => {
    const made = await orSkip(t, Promise.all([freshDatabase(major), freshDatabase(major)]))
    if (!made) return
    const [from, to] = made
    const login = `login_${randomBytes(4).toString('hex')}`
    await sql(
      from,
      `CREATE EXTENSION citext; COMMENT ON EXTENSION citext IS 'ours'; CREATE TABLE plain AS SELECT 'A'::citext AS n`,
      `CREATE ROLE ${login} LOGIN PASSWORD 'p'; ALTER DATABASE ${to.name} OWNER TO ${login}`,
    )
    await sql(to, `CREATE EXTENSION citext; ALTER SCHEMA public OWNER TO ${login}`)
    const ctx = testContext()
    const { manifest, reader } = await capture(postgresSource(optionsOf(from)), ctx)
    const restorer = postgresRestorer({ target: urlOf({ ...to, user: login, password: 'p' }, to.name) })
    const pick = { allow: new Set<string>(), options: { noOwner: true } }
    for (const round of ['into an empty database', 'over what is there']) {
      const done = await restorer.apply([manifest], pick, true, reader, ctx)
      assert.deepEqual(done.warnings, [
        'another role owns the extensions citext there: they stay as they are',
      ])
      assert.deepEqual(await sql(to, `SELECT n::text FROM plain WHERE n = 'a'`), [{ n: 'A' }], round)
    }
    const asNobody = { allow: new Set<string>(), options: { role: 'nobody' } }
    await assert.rejects(restorer.apply([manifest], asNobody, true, reader, ctx), {
      exit: 2,
      message: /as the role nobody: it is not there/,
    })
    await sql(from, 'CREATE PUBLICATION everything FOR ALL TABLES')
    const again = await capture(postgresSource(optionsOf(from)), ctx)
    await assert.rejects(restorer.apply([again.manifest], pick, true, again.reader, ctx), {
      remedy: /--only SCHEMA/,
    })
    const part = { ...pick, only: ['public'] }
    await restorer.apply([again.manifest], part, true, again.reader, ctx)
    assert.deepEqual(await sql(to, 'SELECT count(*)::int AS n FROM plain'), [{ n: 1 }])
  })
