import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inChunks } from '../../../test/support/reader.ts'
import { accountScript, objectOf, parseAccounts, weightOf } from './account-script.ts'
import type { Account } from './accounts.ts'
import { lookAtDump } from './ending.ts'
import { nothingMet, redirect } from './redirect.ts'

const bytes = (text: string) => inChunks(Buffer.from(text))

const accounts: Account[] = [
  {
    ...{ user: 'clerk', host: '', role: true },
    create: ['CREATE ROLE `clerk`'],
    grants: ['GRANT SELECT ON `shop`.* TO `clerk`', 'GRANT INSERT ON `shop`.`a ``; b` TO `clerk`'],
  },
  {
    ...{ user: "o'dd\n-- x", host: '%', role: false },
    create: ["CREATE USER `o'dd\n-- x`@`%` IDENTIFIED BY PASSWORD '*00'"],
    grants: [
      "GRANT PROXY ON `x`@`%` TO `o'dd\n-- x`@`%`",
      "GRANT `clerk` TO `o'dd\n-- x`@`%`",
      "GRANT SELECT (`id`) ON `shop`.`t` TO `o'dd\n-- x`@`%`",
    ],
  },
  {
    ...{ user: 'edward', host: '%', role: false },
    create: ["CREATE USER `edward`@`%` IDENTIFIED VIA ed25519 USING 'abc'"],
    grants: ['GRANT SELECT ON *.* TO `edward`@`%`'],
  },
]
const byName = (list: readonly Account[]) => list.map(each => [each.user, new Set(each.grants), each.create])

test('what may fail on another server comes last, and what only needs accounts before the data', () => {
  const { before, after } = accountScript(accounts, ['ed25519'])
  const statements = (text: string) => [...text.matchAll(/^(?:CREATE|GRANT) [A-Z`]+/gm)].map(([all]) => all)
  assert.deepEqual(statements(before), ['CREATE ROLE', 'CREATE USER', 'GRANT SELECT'])
  assert.deepEqual(statements(after), [
    ...['GRANT INSERT', 'GRANT `', 'GRANT SELECT', 'GRANT PROXY', 'CREATE USER', 'GRANT SELECT'],
  ])
  assert.deepEqual(
    ['GRANT ALL PRIVILEGES ON *.* TO `a`@`%`', 'REVOKE SELECT ON `mysql`.* FROM `a`@`%`'].map(weightOf),
    ['wide', 'wide'],
  )
  assert.deepEqual(objectOf('GRANT EXECUTE ON PROCEDURE `s ON ``x```.`p` TO `a`@`%`'), {
    ...{ kind: 'procedure', database: 's ON `x`', name: 'p' },
  })
})

test('the accounts of a script are read again, by themselves and around a dump; a cut one is refused', async () => {
  const { before, after } = accountScript(accounts)
  assert.deepEqual(byName(await parseAccounts(bytes(before + after))), byName(accounts))
  await assert.rejects(parseAccounts(bytes(before)), /Accounts completed.*is missing/)
  const dump =
    "-- MariaDB dump 1\nUSE `shop`;\nINSERT INTO `t` VALUES ('-- cairn account {}');\n-- Dump completed\n"
  const around = async (text: string) => {
    const met = nothingMet()
    const late = { write: () => true } as never
    const filter = redirect({ unit: '', route: () => undefined, late, makesDatabases: true }, met)
    for await (const _ of filter.run(bytes(text), undefined as never));
    return met.accounts.all
  }
  assert.deepEqual(byName(await around(before + dump + after)), byName(accounts))
  await assert.rejects(around(before + dump), /Accounts completed.*is missing/)
  await assert.rejects(lookAtDump(bytes(before + dump), true), /it was cut/)
  await lookAtDump(bytes(before + dump + after), true)
  // The dumper died, and the accounts were put behind it nevertheless.
  const died = dump.replace(/-- Dump completed.*/s, '')
  assert.notEqual(died, dump)
  await assert.rejects(lookAtDump(bytes(before + died + after), true), /it has no line "-- Dump completed"/)
  // Outside of our parts nobody may make accounts.
  await assert.rejects(around(`${dump}GRANT ALL ON *.* TO x;\n`), /not as mariadb-dump/)
})

test('scripts of the first versions, which had all in one line, are read', async () => {
  const line = (what: string, statements: string[]) =>
    `-- cairn account ${JSON.stringify({ user: 'fred', host: '%', role: false, what, statements })}\n${statements.map(each => `${each};\n`).join('')}`
  const long = Array.from({ length: 4000 }, (_, n) => `GRANT SELECT ON \`shop\`.\`t${n}\` TO \`fred\`@\`%\``)
  const text = `${line('create', ['CREATE USER IF NOT EXISTS `fred`@`%`'])}${line('grants', long)}-- Accounts completed\n`
  const [found] = await parseAccounts(bytes(text))
  assert.deepEqual([found?.create, found?.grants], [['CREATE USER `fred`@`%`'], long])
})
