import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inChunks, seeded } from '../../../test/support/samples.ts'
import { refusedArgument } from './arguments.ts'
import { type Piece, pieces } from './script.ts'
import { lackingPrivileges } from './server.ts'
import { meaningOf, namesDatabase, tableFor, triggerFor, withoutSequences } from './statements.ts'
import { parseUrl } from './url.ts'

const long = `INSERT INTO \`t;\\\` VALUES\n${Array.from({ length: 9000 }, (_, n) => `(${n},'a;\\'b\\\\',"x;",0x00FF)`).join(',\n')};`
const script = [
  '/*M!999999\\- enable the sandbox mode */ ',
  "-- MariaDB dump; it's a comment",
  '/*!40101 SET NAMES utf8mb4 */;',
  "CREATE TABLE `a``;b` (\n  `x` int COMMENT 'it''s; \\' /* -- */' /* a; comment */\n);",
  long,
  "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`a`@`%` SQL SECURITY DEFINER */\n/*!50001 VIEW `v` AS select ';*/' AS `y` */;",
  'DELIMITER ;;',
  "/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`%`*/ /*!50003 TRIGGER `g` BEFORE INSERT ON `t` FOR EACH ROW begin /* ; */ set @x = ';;'; end */;;",
  'DELIMITER ;',
  '-- Dump completed on 2026-11-21',
  '',
].join('\n')

async function split(text: string, seed: number, count: number): Promise<Piece[]> {
  const found: Piece[] = []
  for await (const piece of pieces(inChunks(Buffer.from(text), seeded(seed), count))) found.push(piece)
  return found
}

function joined(found: readonly Piece[]): [string, string][] {
  const all: [string, string][] = []
  for (const { kind, bytes, isFirst } of found) {
    const last = all.at(-1)
    if (isFirst || !last) all.push([kind, bytes.toString()])
    else last[1] += bytes.toString()
  }
  return all
}

test('a dump is taken apart in the same way however its bytes fall into chunks', async () => {
  const expected = joined(await split(script, 1, 1))
  assert.deepEqual(
    expected.map(([kind, text]) => [kind, text.slice(0, 22)]),
    [
      ['comment', "-- MariaDB dump; it's "],
      ['statement', '/*!40101 SET NAMES utf'],
      ['statement', 'CREATE TABLE `a``;b` ('],
      ['statement', 'INSERT INTO `t;\\` VALU'],
      ['statement', '/*!50001 CREATE ALGORI'],
      ['block', 'DELIMITER ;;\n/*!50003 '],
      ['comment', '-- Dump completed on 2'],
    ],
  )
  assert.equal(expected[3]?.[1], long)
  for (let seed = 1; seed <= 60; seed++)
    assert.deepEqual(joined(await split(script, seed, 2 + seed * 20)), expected, `seed ${seed}`)
})

test('a body that holds the line DELIMITER ; is taken whole', async () => {
  const body = "CREATE PROCEDURE `p`()\nSELECT '\nDELIMITER ;\nDROP TABLE x;\n' ;;"
  const text = `DELIMITER ;;\n${body}\nDELIMITER ;\n-- Dump completed\n`
  for (let seed = 1; seed <= 20; seed++)
    assert.deepEqual(joined(await split(text, seed, seed * 4)), [
      ['block', `DELIMITER ;;\n${body}\nDELIMITER ;\n`],
      ['comment', '-- Dump completed\n'],
    ])
})

test('rows come in parts, and nothing else does', async () => {
  const found = await split(script, 5, 40)
  assert.ok(found.filter(piece => !piece.isLast).length >= 2)
  assert.ok(Math.max(...found.map(({ bytes }) => bytes.length)) < 200_000)
})

test('a dump that is cut within a statement, or is none, is refused', async () => {
  const places = Array.from({ length: 40 }, (_, n) =>
    Math.floor((script.indexOf('-- Dump') * (n + 0.5)) / 40),
  )
  for (const at of places) {
    const parts = await split(script.slice(0, at), at, 30).catch(error => {
      assert.match(String(error.message), /not as mariadb-dump or mysqldump write it/)
      return []
    })
    assert.ok(!parts.some(({ bytes }) => bytes.toString().startsWith('-- Dump completed')))
  }
  await assert.rejects(split('PGDMP\0\u0001', 1, 1), /ends within a statement/)
  await assert.rejects(split('\0\u0001 no script at all', 1, 1), /no statement/)
})

test('a statement that no dumper writes is refused, whatever it would do', () => {
  const meaning = (text: string) =>
    meaningOf({ kind: 'statement', bytes: Buffer.from(text), isFirst: true, isLast: true })
  for (const bad of [
    'DROP DATABASE `mysql`;',
    "GRANT ALL ON *.* TO 'x'@'%';",
    'USE mysql;',
    "CREATE USER 'x'@'%';",
    "LOAD DATA INFILE '/etc/passwd' INTO TABLE x;",
    'source /etc/passwd;',
    'DELETE FROM t;',
    'INSERT INTO t VALUES (1);',
  ])
    assert.throws(() => meaning(bad), /not as mariadb-dump or mysqldump write it/, bad)
  assert.deepEqual(meaning('USE `we``ird`;'), { about: 'use', name: 'we`ird' })
  assert.deepEqual(meaning('INSERT  IGNORE INTO `t` VALUES (1);'), { about: 'rows', name: 't' })
})

test('what names the database is changed where the server meant it, and nowhere else', () => {
  const table =
    "CREATE TABLE `t` (\n  `id` int DEFAULT nextval(`shop`.`s`) COMMENT '`shop`.`s`',\n  CONSTRAINT `f` FOREIGN KEY (`a`) REFERENCES `other` (`id`),\n  CONSTRAINT `g` FOREIGN KEY (`a`) REFERENCES `t` (`id`)\n);"
  const there = tableFor(table, 'shop', 'new', name => name === 't')
  assert.equal(
    there,
    table
      .replace('nextval(`shop`', 'nextval(`new`')
      .replace('REFERENCES `other`', 'REFERENCES `new`.`other`'),
  )
  const parts = withoutSequences(there, 't')
  assert.deepEqual(parts.later, ['ALTER TABLE `t` ALTER COLUMN `id` SET DEFAULT nextval(`new`.`s`);\n'])
  assert.ok(!parts.text.includes('nextval'))
  assert.throws(
    () => withoutSequences('CREATE TABLE `t` (`id` int DEFAULT (nextval(`a`.`s`) + 1))', 't'),
    /computes/,
  )

  assert.equal(
    triggerFor(
      '/*!50003 trigger shop.stamp before insert on `shop`.t for each row set @a = shop.b */',
      'shop',
    ),
    '/*!50003 trigger stamp before insert on t for each row set @a = shop.b */',
  )
  assert.ok(namesDatabase('select `shop`.`f`(1)', 'shop') && namesDatabase('select shop.f(1)', 'shop'))
  assert.ok(!namesDatabase('select `shopping`.`f`, workshop.f', 'shop'))
})

test('arguments that give away a password, lead the dump elsewhere or break it are refused by name only', () => {
  for (const arg of [
    '--password=hush',
    '--pass=hush',
    '--loose-password=hush',
    '-phush',
    '--result-file=/x',
    '--resul=/x',
  ])
    assert.match(refusedArgument([arg]) ?? '', /^(?!.*hush)./, arg)
  for (const arg of [
    '--tab=/x',
    '--force',
    '--compact',
    '--all-databases',
    '--host=x',
    '--defaults-extra-file=/x',
    'shop',
    '--',
    '--skip_comments',
  ])
    assert.match(refusedArgument([arg]) ?? '', /cannot be given|not a long option/, arg)
  const fine = [
    '--ignore-table=shop.log',
    '--dump-history',
    '--no-data',
    '--compress',
    '--skip-tz-utc',
    '--where=id > 1',
  ]
  assert.equal(refusedArgument(fine), null)
})

test('privileges are read from what the server says of them', () => {
  const all = 'GRANT ALL PRIVILEGES ON *.* TO `a`@`%` WITH GRANT OPTION'
  assert.deepEqual(lackingPrivileges([all], 'shop'), [])
  const some = ['GRANT USAGE ON *.* TO `a`@`%`', 'GRANT SELECT, SHOW VIEW, EVENT ON `sho_`.* TO `a`@`%`']
  assert.deepEqual(lackingPrivileges(some, 'shop'), ['TRIGGER'])
  assert.deepEqual(lackingPrivileges(some, 'shops'), ['SELECT', 'SHOW VIEW', 'TRIGGER', 'EVENT'])
  assert.deepEqual(lackingPrivileges(['GRANT ALL PRIVILEGES ON `my\\_shop`.* TO `a`@`%`'], 'my_shop'), [])
  assert.deepEqual(
    lackingPrivileges(['GRANT ALL PRIVILEGES ON `my\\_shop`.* TO `a`@`%`'], 'my-shop').length,
    4,
  )
})

test('a URL is read, and a wrong one is refused without its password', () => {
  const place = parseUrl('mysql://us%40er:p%2Fw@[::1]:3307/my%20shop?ssl-mode=VERIFY_CA&ssl-ca=/ca')
  assert.deepEqual(
    [place.user, place.password?.reveal(), place.host, place.port, place.database],
    ['us@er', 'p/w', '::1', 3307, 'my shop'],
  )
  assert.deepEqual(place.ssl, { mode: 'verify-ca', ca: '/ca', cert: undefined, key: undefined })
  for (const bad of [
    'postgres://a:hush@b/c',
    'mysql://a:hush@b/c?x=1',
    'mysql://a:hush%@b',
    'mysql://a:p@x/hush@b/c',
    'mysql://a:1/hush@b/c',
    'mysql://a:hush@b:99999/c',
    'mysql://a:hush@b/c?ssl-mode=x',
  ])
    assert.throws(
      () => parseUrl(bad),
      (error: Error & { remedy?: string }) => !`${error.message}${error.remedy}`.includes('hush'),
      bad,
    )
})
