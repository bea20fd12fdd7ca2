// budget: 180 s
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freshSqlDatabase, orSkip, sqlServers } from '../../../test/services/index.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import {
  contents,
  databases,
  fillHostile,
  optionsOf,
  sql,
  urlOf,
} from '../../../test/support/mariadb/hostile.ts'
import { sourceContract } from '../../../test/support/source-contract.ts'
import { mariadbRestorer, mariadbSource } from './index.ts'

const nothing = { allow: new Set<string>() }

for (const which of sqlServers) {
  test(`everything that a database of ${which} holds comes back under another name, and under its own`, async t => {
    const from = await orSkip(t, freshSqlDatabase(which))
    if (!from) return
    const ctx = testContext()
    await fillHostile(from)
    const before = await contents(from)
    const { manifest, reader, census } = await capture(mariadbSource(from.flavour, optionsOf(from)), ctx)
    assert.match(
      manifest.warnings.map(({ what }) => what).join(),
      /not transactional.*fleeting \(MEMORY\).*old \(MyISAM\)/,
    )

    const back = { ...from, name: `${from.name} \`back` }
    const beside = mariadbRestorer(from.flavour, { target: urlOf(from, back.name) })
    const plan = await beside.plan([manifest], nothing, ctx)
    assert.deepEqual(plan.replaces, [])
    const report = await beside.apply([manifest], nothing, false, reader, ctx)
    // A view keeps the name of a database that was written in it.
    assert.match(report.warnings.join(), /names the database .* itself/)
    assert.equal(
      report.rows,
      census.objects.reduce((sum, { rows }) => sum + (rows ?? 0), 0),
    )
    assert.equal(report.objects, census.objects.length)
    assert.deepEqual(without(await contents(back), /uses_function/), without(before, /uses_function/))
    assert.match(await sql(back, 'SHOW TRIGGERS'), /stamp/)

    // Where it was, over what is there, with consent; and once more onto nothing.
    await sql(
      from,
      `DROP VIEW aa_second; DELETE FROM aa_before; DROP EVENT nightly; CREATE TABLE extra (id int)`,
    )
    const home = mariadbRestorer(from.flavour, { source: optionsOf(from) })
    assert.ok((await home.plan([manifest], nothing, ctx)).replaces.length > 20)
    await assert.rejects(home.apply([manifest], nothing, false, reader, ctx), /it is not empty/)
    assert.deepEqual((await home.apply([manifest], nothing, true, reader, ctx)).warnings, [])
    assert.deepEqual(await contents(from), before)
    await sql({ ...from, name: '' }, `DROP DATABASE ${from.name}`)
    await home.apply([manifest], nothing, false, reader, ctx)
    assert.deepEqual(await contents(from), before)
    assert.deepEqual(
      (await databases(from)).filter(name => name.startsWith(from.name) && name.includes('_cairn_')),
      [],
    )
  })
}

function without(found: Record<string, string>, pattern: RegExp): Record<string, string> {
  return Object.fromEntries(Object.entries(found).filter(([name]) => !pattern.test(name)))
}

for (const which of ['10.11', 'mysql'] as const)
  sourceContract(which, async () => {
    const from = await freshSqlDatabase(which)
    const to = await freshSqlDatabase(which)
    await sql(
      from,
      'CREATE TABLE a (n int PRIMARY KEY); INSERT INTO a VALUES (1), (2), (3); CREATE VIEW b AS SELECT 1 AS x',
    )
    return {
      source: mariadbSource(from.flavour, optionsOf(from)),
      restorer: mariadbRestorer(from.flavour, { target: urlOf(to, to.name) }),
      state: () => contents(from),
      compare: async () => assert.deepEqual(await contents(to), await contents(from)),
    }
  })
