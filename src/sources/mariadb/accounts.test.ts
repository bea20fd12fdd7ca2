// budget: 150 s
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { freshSqlDatabase, freshSqlServer, orSkip } from '../../../test/services/index.ts'
import { runSql } from '../../../test/services/mariadb.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { accountsOf, fillAccounts, mayProxy } from '../../../test/support/mariadb/accounts.ts'
import { optionsOf } from '../../../test/support/mariadb/hostile.ts'
import { inChunks, readerOver } from '../../../test/support/reader.ts'
import { Secret } from '../../model/secret.ts'
import { secretSource } from '../../platform/secret-source.ts'
import { resolveConnection } from './connection.ts'
import { mariadbRestorer, mariadbSource } from './index.ts'
import { NewAccounts } from './restore-accounts.ts'
import { reach } from './server.ts'

const nothing = { allow: new Set<string>() }

/** The script of the accounts of another server. */
function foreignTo(script: Uint8Array): Uint8Array {
  const text = Buffer.from(script).toString()
  return Buffer.from(
    text
      .replace(/(USER IF NOT EXISTS `plugged`@`%` IDENTIFIED) .*;/, "$1 WITH no_such AS 'secret';")
      .replace(/(USER IF NOT EXISTS `expired`@`%` IDENTIFIED.*);/, '$1 UNHEARD OF;'),
  )
}

for (const which of ['11.8', 'mysql'] as const)
  test(`every account of a server of ${which} comes back on an empty one, with all it may do`, async t => {
    const from = await orSkip(t, freshSqlServer(which))
    const to = from && (await orSkip(t, freshSqlServer(which)))
    if (!from || !to) return
    await fillAccounts(from)
    await mayProxy(to)
    const ctx = testContext()
    const options = optionsOf({ ...from, name: '' }, { whole: true, exclude: ['aside'] })
    const { manifest, bytes, facts } = await capture(mariadbSource(from.flavour, options), ctx)
    const told = facts.warnings.map(({ what }) => what).join('\n')
    if (which === 'mysql') assert.match(told, /the second password of .* is not saved: 'second'@'%'/)
    else assert.match(told, /does not heed \(skip_name_resolve\) are not saved: 'byhost'@'db.example'/)
    const { flavour, host, port, user, password } = to
    const target = secretSource(`${flavour}://${user}:${password}@${host}:${port}`)
    const restorer = mariadbRestorer(flavour, { target })

    // A definition that fails takes the accounts back.
    const before = await accountsOf(to)
    assert.ok(bytes.get(`${from.flavour}/globals.sql`))
    const spoiled = [...bytes].map(
      ([name, whole]) =>
        [
          name,
          () =>
            inChunks(
              name.endsWith('all.sql')
                ? Buffer.from(
                    Buffer.from(whole)
                      .toString()
                      .replace(/from `t`/g, 'from `nowhere`'),
                  )
                : Buffer.from(
                    Buffer.from(whole)
                      .toString()
                      .replace(
                        /(USER IF NOT EXISTS `ghost`@`%` IDENTIFIED) .*;/,
                        "$1 WITH no_such AS 'secret';",
                      ),
                  ),
            ),
        ] as const,
    )
    await assert.rejects(
      restorer.apply([manifest], nothing, false, readerOver(new Map(spoiled), ctx), ctx),
      /made the definitions, failed/,
    )
    // That may be why.
    assert.match(JSON.stringify(ctx.events), /'ghost'@'%' was not made: Plugin 'no_such' is not loaded/)
    assert.deepEqual(await accountsOf(to), before)

    await runSql(
      to,
      `${which === 'mysql' ? 'SET GLOBAL partial_revokes = ON;' : ''} CREATE USER bare IDENTIFIED BY 'kept'; CREATE ROLE r1`,
    )
    const kept = await runSql(to, 'SHOW CREATE USER bare; SHOW GRANTS FOR r1')
    // Of one the target has not the plugin, of another it does not understand a word.
    const foreign = [...bytes].map(
      ([name, whole]) =>
        [name, () => inChunks(name.endsWith('globals.sql') ? foreignTo(whole) : whole)] as const,
    )
    const report = await restorer.apply([manifest], nothing, false, readerOver(new Map(foreign), ctx), ctx)
    // What was granted on tables that are gone, or that the backup has not got.
    assert.deepEqual(
      [...report.warnings].sort(),
      [
        `a privilege of 'locked'@'%' was refused: Table 'aside.t' doesn't exist`,
        `a privilege of 'locked'@'%' was refused: Table 'shop.gone' doesn't exist`,
        report.warnings.find(each =>
          /^'expired'@'%' was not made: You have an error in your SQL syntax/.test(each),
        ),
        `'plugged'@'%' was not made: Plugin 'no_such' is not loaded`,
      ].sort(),
    )
    assert.doesNotMatch(report.warnings.join(), /\*[0-9A-F]{40}|0x24/)
    assert.equal(await runSql(to, 'SHOW CREATE USER bare; SHOW GRANTS FOR r1'), kept)
    const withoutThose = (lines: string[]) =>
      lines.filter(line => !/ TO `(locked|r1)`| `(bare|expired|plugged)`@/.test(line))
    assert.deepEqual(withoutThose(await accountsOf(to)), withoutThose(await accountsOf(from)))
    const there = await runSql(to, `SELECT User FROM mysql.user WHERE User IN ('expired', 'plugged')`)
    assert.equal(there, '')
    assert.equal((await runSql(to, 'SELECT n FROM shop.c3')).trim(), '2\n2')
    const odd = { ...to, user: 'it\'s "odd" `q` \\ b;--', password: 'pass \'w"ö\\rd' }
    assert.equal((await runSql(odd, 'SELECT SUM(n) FROM shop.t')).trim(), '30')
  })

test('who may make no accounts hears so, but not a thousand times; who may not see them makes none', async t => {
  const admin = await orSkip(t, freshSqlDatabase('10.11'))
  if (!admin) return
  const { flavour, host, port } = admin
  const user = `u${randomBytes(4).toString('hex')}`
  await runSql(admin, `CREATE USER ${user} IDENTIFIED BY 'x12345'`)
  const ctx = testContext()
  const password = { where: '', read: async () => new Secret('x12345'), toJSON: () => '' }
  const connection = await resolveConnection(flavour, { host, port, user, password })
  const wanted = Array.from({ length: 60 }, (_, n) => ({
    ...{ user: `${user}${n}`, host: '%', role: false },
    create: [`CREATE USER \`${user}${n}\`@\`%\` IDENTIFIED BY PASSWORD '*${'0'.repeat(40)}'`],
    grants: [],
  }))
  const warned = async () => {
    const accounts = await NewAccounts.among(wanted, await reach(connection, undefined, ctx), ctx)
    await accounts.make(ctx)
    await accounts.finish(ctx)
    await accounts.undo(ctx)
    return accounts.warnings
  }
  assert.match((await warned()).join(), /^no account is created: the target's may not be read \(.*denied/)
  await runSql(admin, `GRANT SELECT ON mysql.* TO ${user}`)
  const warnings = await warned()
  assert.equal(warnings.length, 51)
  assert.match(warnings[0] ?? '', /0'@'%' was not made: Access denied; you need .*CREATE USER/)
  assert.equal(warnings[50], '10 more statements for accounts were refused')
})
