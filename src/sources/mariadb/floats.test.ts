import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freshSqlDatabase, orSkip, sqlServers } from '../../../test/services/index.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { optionsOf, sql } from '../../../test/support/mariadb/hostile.ts'
import { mariadbSource } from './index.ts'

for (const which of sqlServers)
  test(`tables of ${which} whose FLOAT values lose digits in a dump are named, and no others`, async t => {
    const from = await orSkip(t, freshSqlDatabase(which))
    if (!from) return
    await sql(
      from,
      `CREATE TABLE fits (a float, b float(7,2), c double); INSERT INTO fits VALUES (0.1, 12345.67, 16777213), (-3.4e38, NULL, 0.1);
       CREATE TABLE rounded (\`o\`\`dd\` float, twice float AS (\`o\`\`dd\` * 2)); INSERT INTO rounded (\`o\`\`dd\`) VALUES (1), (16777213)`,
    )
    const told = async (census: 'counts' | 'none'): Promise<string[]> => {
      const options = { census }
      const { manifest } = await capture(mariadbSource(from.flavour, optionsOf(from)), testContext(), options)
      return manifest.warnings.map(({ what }) => what).filter(what => /FLOAT/.test(what))
    }
    assert.match((await told('counts')).join('\n'), /rows of these tables have more .*: rounded$/)
    assert.match((await told('none')).join('\n'), /rows of these tables may have more .*: fits, rounded$/)
  })
