// budget: 120 s
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { type FreshSqlDatabase, freshSqlDatabase, orSkip } from '../../../test/services/index.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { contents, databases, optionsOf, sql, urlOf } from '../../../test/support/mariadb/hostile.ts'
import { resolveConnection } from './connection.ts'
import { mariadbRestorer, mariadbSource } from './index.ts'
import { reach } from './server.ts'
import { type Goal, moveIn, putBack, survey } from './target.ts'

const nothing = { allow: new Set<string>() }

const things = (what: string): string => `
CREATE TABLE t (id int PRIMARY KEY, what text); INSERT INTO t VALUES (1, '${what}');
CREATE TRIGGER stamp BEFORE INSERT ON t FOR EACH ROW SET NEW.what = '${what}';
CREATE PROCEDURE p() SELECT '${what}';
`

async function reached(target: FreshSqlDatabase) {
  const ctx = testContext()
  const connection = await resolveConnection(target.flavour, { url: urlOf(target, target.name) })
  return { ctx, server: await reach(connection, undefined, ctx) }
}

for (const which of ['10.11', 'mysql'] as const) {
  test(`${which}: a database whose name differs only by case or accents is neither backed up along nor touched`, async t => {
    const one = await orSkip(t, freshSqlDatabase(which))
    if (!one) return
    const all = ['db_', 'DB_', 'dB\u00e9_', 'dBe_'].map(start => ({
      ...one,
      name: one.name.replace('db_', start),
    }))
    for (const { name } of all.slice(1)) await sql(one, `CREATE DATABASE \`${name}\``)
    for (const [index, each] of all.entries()) await sql(each, things(`number ${index}`))
    const before = await Promise.all(all.map(contents))
    const ctx = testContext()
    for (const each of all) {
      const { manifest, reader, census } = await capture(mariadbSource(each.flavour, optionsOf(each)), ctx)
      assert.deepEqual(census.objects.map(({ name }) => name).sort(), ['procedure p', 't', 'trigger stamp'])
      const restorer = mariadbRestorer(each.flavour, { target: urlOf(each, each.name) })
      assert.equal((await restorer.plan([manifest], nothing, ctx)).replaces.length, 2)
      await restorer.apply([manifest], nothing, true, reader, ctx)
      assert.deepEqual(await Promise.all(all.map(contents)), before)
    }
  })

  test(`${which}: putting back never drops a database that somebody else has made since`, async t => {
    const made = await orSkip(t, freshSqlDatabase(which))
    if (!made) return
    // Without a table nothing in it would have told that it is not ours.
    await sql(made, `CREATE PROCEDURE theirs() SELECT 1`)
    const { ctx, server } = await reached(made)
    const goal: Goal = {
      ...{ from: 'shop', target: made.name, scratch: `${made.name}_s`, aside: `${made.name}_a` },
      ...{ tables: undefined, state: 'absent', replaces: [], charset: '' },
    }
    const ours = new Set<Goal>()
    await assert.rejects(
      moveIn(server, [goal], new Map([['shop', new Set(['t'])]]), () => '', ours, ctx),
      /database exists/,
    )
    await putBack(server, [goal], new Map(), null, ours, ctx)
    assert.ok((await databases(made)).includes(made.name))
    assert.match(await sql(made, 'SHOW CREATE PROCEDURE theirs'), /theirs/)
  })
}

test('a restore is refused where MariaDB would drop the events of a database whose name differs by case', async t => {
  const made = await orSkip(t, freshSqlDatabase('10.11'))
  if (!made) return
  const event = 'CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1'
  const twin = { ...made, name: made.name.toUpperCase() }
  await sql(made, `CREATE DATABASE ${twin.name}`)
  await sql(twin, event)
  const { ctx, server } = await reached(made)
  await assert.rejects(survey(server, 'shop', made.name, undefined, ctx), /would drop its events/)
  assert.equal((await survey(server, 'shop', twin.name, undefined, ctx)).state, 'used')
})

test('where the server folds names to small letters, a target is the database that is there under another case', async t => {
  const made = await orSkip(t, freshSqlDatabase('10.11'))
  if (!made) return
  await sql(made, 'CREATE TABLE t (id int)')
  const { ctx, server } = await reached(made)
  const folding = { ...server, facts: { ...server.facts, foldsCase: true } }
  const found = await survey(folding, 'shop', made.name.toUpperCase(), undefined, ctx)
  assert.deepEqual([found.target, found.state], [made.name, 'used'])
  const name = `New_${randomBytes(3).toString('hex')}`
  assert.equal((await survey(folding, 'shop', name, undefined, ctx)).target, name.toLowerCase())
  assert.equal((await survey(server, 'shop', name, undefined, ctx)).target, name)
})

for (const length of [20, 64])
  test(`what restores that were killed have left beside a database of ${length} characters is told by the next one`, async t => {
    const made = await orSkip(t, freshSqlDatabase('10.11'))
    if (!made) return
    const name = `${made.name}_${'x'.repeat(64)}`.slice(0, length)
    const own = { ...made, name }
    await sql(made, `CREATE DATABASE ${name}`)
    await sql(own, things('old'))
    const start = (what: string) => `${name.slice(0, 64 - `_cairn_${what}_aabbcc`.length)}_cairn_${what}_`
    const [load, aside] = [`${start('restore')}0a1b2c`, `${start('before')}0a1b2c`]
    for (const each of [load, aside, `${start('restore')}other_`]) await sql(made, `CREATE DATABASE ${each}`)
    const ctx = testContext()
    const { manifest, reader } = await capture(mariadbSource(own.flavour, optionsOf(own)), ctx)
    const restorer = mariadbRestorer(own.flavour, { target: urlOf(own, name) })
    const { warnings } = await restorer.plan([manifest], nothing, ctx, reader)
    assert.deepEqual(warnings, [
      `${aside} holds what a restore that was killed had taken out of ${name}: look there for what is missing, then drop it`,
      `${load} was left by a restore that was killed: where none runs now, drop it`,
    ])
  })
