import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { freshFolder, freshSqlDatabase, freshSqlServer, orSkip } from '../../../test/services/index.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { contents, optionsOf, sql, urlOf } from '../../../test/support/mariadb/hostile.ts'
import { mariadbRestorer, mariadbSource } from './index.ts'

const rows = 'CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)'

for (const which of ['10.11', 'mysql'] as const)
  test(`an option file that leads the dump of ${which} elsewhere fails the backup; one that leaves something out is told`, async t => {
    const database = await orSkip(t, freshSqlDatabase(which))
    if (!database) return
    await sql(database, rows)
    const file = join(await freshFolder(), 'my.cnf')
    const taken = async (line: string) => {
      writeFileSync(file, `[mysqldump]\n${line}\n`)
      const options = optionsOf(database, { defaultsExtraFile: file })
      return await capture(mariadbSource(database.flavour, options), testContext())
    }
    for (const line of [`result-file=${file}.sql`, 'loose_result_file=x', 'xml', 'compact', 'comments=0'])
      await assert.rejects(
        taken(line),
        { exit: 2, message: /an option file tells the dump program --/ },
        line,
      )
    for (const line of ['where=n<2', 'ignore_table=x.y', 'no-data', 'skip-opt']) {
      const { facts, census } = await taken(line)
      assert.match(facts.warnings[0]?.what ?? '', /left out of the dump .*: --[a-z-]+$/, line)
      assert.equal(census.level, 'none')
    }
    const { facts, census } = await taken('quote-names\nmax_allowed_packet=16M')
    assert.deepEqual([facts.warnings, census.objects], [[], [{ name: 't', rows: 3 }]])
  })

test('the fallback host is asked where neither an option nor an option file names one', async t => {
  const database = await orSkip(t, freshSqlDatabase('10.11'))
  if (!database) return
  await sql(database, rows)
  const file = join(await freshFolder(), 'my.cnf')
  const { host, ...rest } = optionsOf(database, { defaultsExtraFile: file })
  const taken = async (text: string, more: object) => {
    writeFileSync(file, text)
    const { census } = await capture(mariadbSource('mariadb', { ...rest, ...more }), testContext())
    assert.deepEqual(census.objects, [{ name: 't', rows: 3 }])
  }
  await taken('[client]\n', { fallbackHost: host })
  await taken(`[client]\nhost=${host}\n`, { fallbackHost: '127.0.0.9' })
  await taken('[client]\nhost=127.0.0.9\n', { fallbackHost: '127.0.0.9', host })
  await assert.rejects(taken('[client]\n', { fallbackHost: '127.0.0.9' }), /127\.0\.0\.9/)
})

test('limits that a server sets for all cut nothing short: the dump of some rows only is refused', async t => {
  const server = await orSkip(t, freshSqlServer('10.11'))
  if (!server) return
  const from = { ...server, name: 'shop' }
  await sql({ ...server, name: '' }, 'CREATE DATABASE shop')
  await sql(from, rows)
  const wanted = (await contents(from)).t
  const ctx = testContext()
  const take = () => capture(mariadbSource('mariadb', optionsOf(from)), ctx)
  await sql(
    from,
    `SET GLOBAL sql_select_limit = 2, max_statement_time = 0.00001, sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'`,
  )
  await assert.rejects(take(), /sql_select_limit is 2 for this user/)
  await sql(from, 'SET GLOBAL sql_select_limit = 18446744073709551615')
  const { manifest, reader } = await take()
  await mariadbRestorer('mariadb', { target: urlOf(from, 'back') }).apply(
    [manifest],
    { allow: new Set() },
    false,
    reader,
    ctx,
  )
  await sql(from, 'SET GLOBAL max_statement_time = 0, sql_mode = DEFAULT')
  assert.equal((await contents({ ...from, name: 'back' })).t, wanted)
})
