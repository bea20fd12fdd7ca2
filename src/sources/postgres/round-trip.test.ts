// budget: 240 s
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { freshDatabase, orSkip, type PostgresMajor, postgresMajors } from '../../../test/services/index.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import {
  contents,
  definitions,
  fillHostile,
  optionsOf,
  sql,
  type Target,
  urlOf,
} from '../../../test/support/postgres/hostile.ts'
import { sourceContract } from '../../../test/support/source-contract.ts'
import { postgresRestorer, postgresSource } from './index.ts'

const nothing = { allow: new Set<string>() }
const freshRole = (): string => `role "${randomBytes(4).toString('hex')}`

for (const major of postgresMajors) {
  test(`everything that a database of PostgreSQL ${major} holds comes back`, async t => {
    const from = await orSkip(t, freshDatabase(major))
    if (!from) return
    const ctx = testContext()
    await fillHostile(from, freshRole())
    const { manifest, reader, census } = await capture(postgresSource(optionsOf(from)), ctx)
    const name = `${from.name}_back`
    const restorer = postgresRestorer({ target: urlOf(from, name) })
    const plan = await restorer.plan([manifest], nothing, ctx)
    assert.match(plan.steps.join('\n'), /creates the database .*_back \(UTF8, C.UTF-8\)/)
    const report = await restorer.apply([manifest], nothing, false, reader, ctx)
    assert.deepEqual(report.warnings, [])
    assert.equal(
      report.rows,
      census.objects.reduce((sum, { rows }) => sum + (rows ?? 0), 0),
    )
    assert.equal(report.objects, census.objects.length)
    const back = { ...from, name }
    assert.deepEqual(await contents(back), await contents(from))
    assert.equal(await definitions(back), await definitions(from))
  })
}

for (const [older, newer] of [
  [16, 17],
  [15, 18],
  [13, 16],
] as const satisfies readonly (readonly [PostgresMajor, PostgresMajor])[]) {
  test(`a backup of PostgreSQL ${older} comes back on another server, of ${newer}, with the roles it needs`, async t => {
    const from = await orSkip(t, freshDatabase(older))
    const to = await orSkip(t, freshDatabase(newer))
    if (!from || !to) return
    const ctx = testContext()
    const role = freshRole()
    await fillHostile(from, role)
    const { manifest, reader } = await capture(postgresSource(optionsOf(from)), ctx)
    const restorer = postgresRestorer({ target: urlOf(to, to.name) })
    const plan = await restorer.plan([manifest], nothing, ctx)
    assert.ok(
      plan.steps[0]?.startsWith('creates the roles that are missing: ') && plan.steps[0].includes(role),
    )
    await restorer.apply([manifest], nothing, false, reader, ctx)
    assert.deepEqual(await contents(to), await contents(from))
    const roleOf = (server: Target) =>
      sql(
        server,
        `SELECT rolpassword, rolcanlogin, shobj_description(oid, 'pg_authid') AS comment
           FROM pg_authid WHERE rolname = '${role}'`,
      )
    assert.deepEqual(await roleOf(to), await roleOf(from))
  })
}

for (const name of [
  'App',
  'app',
  'a/b',
  'a"b\n',
  `😀${'é'.repeat(29)}x`,
  'latest',
  '../x',
  'host=evil',
  'postgresql://x',
  "it's \\ %41",
  '-d',
]) {
  test(`a database named ${JSON.stringify(name)} is backed up and restored under its name`, async t => {
    const server = await orSkip(t, freshDatabase(15))
    if (!server) return
    const quoted = `"${name.replaceAll('"', '""')}"`
    await sql(server, `DROP DATABASE IF EXISTS ${quoted}`, `CREATE DATABASE ${quoted}`)
    const target = { ...server, name }
    t.after(() => sql(server, `DROP DATABASE IF EXISTS ${quoted}`))
    await sql(target, `CREATE TABLE here AS SELECT ${JSON.stringify(name).length} AS n`)
    const ctx = testContext()
    const source = postgresSource(optionsOf(target))
    const inspection = await source.inspect(ctx)
    assert.deepEqual(inspection.units, [{ name }])
    assert.match(inspection.identity, /^pg:\d{10,}\//)
    assert.ok(inspection.identity.endsWith(`/${encodeURIComponent(name)}`))
    const { manifest, reader } = await capture(source, ctx)
    await sql(server, `DROP DATABASE ${quoted}`)
    await postgresRestorer({ source: optionsOf(target) }).apply([manifest], nothing, false, reader, ctx)
    assert.deepEqual(await sql(target, 'SELECT n FROM here'), [{ n: JSON.stringify(name).length }])
  })
}

sourceContract('postgres', async t => {
  const from = await freshDatabase(15)
  const to = await freshDatabase(15)
  t.after(() => Promise.all([from.drop(), to.drop()]))
  await sql(from, 'CREATE TABLE a AS SELECT generate_series(1, 1000) AS n', 'CREATE VIEW b AS SELECT 1 AS x')
  return {
    source: postgresSource(optionsOf(from)),
    restorer: postgresRestorer({ target: urlOf(to, to.name) }),
    state: () => contents(from),
    compare: async () => assert.deepEqual(await contents(to), await contents(from)),
  }
})
