import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freshSqlServer, orSkip } from '../../../test/services/index.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { contents, optionsOf, sql, urlOf } from '../../../test/support/mariadb/hostile.ts'
import { readerOver } from '../../../test/support/reader.ts'
import { mariadbRestorer, mariadbSource } from './index.ts'

const nothing = { allow: new Set<string>() }

const data = `
SET explicit_defaults_for_timestamp = 1;
CREATE TABLE stamps (a timestamp NOT NULL, b timestamp NOT NULL, c timestamp NULL);
INSERT INTO stamps VALUES ('2024-01-02 03:04:05', '2024-01-02 03:04:06', NULL);
CREATE TABLE padded (c char(10), v varchar(10), n int); INSERT INTO padded VALUES ('a', 'b ', 0);
CREATE TABLE plain (t varchar(20), d date, KEY (t)) COLLATE utf8mb4_general_ci;
SET sql_mode = ''; INSERT INTO plain VALUES ('it''s \\\\ "👩"', '0000-00-00');
CREATE VIEW \`über\` AS SELECT 'a' || 'b' AS x, "☃" AS y;
CREATE TABLE zz_last (id int AUTO_INCREMENT PRIMARY KEY); INSERT INTO zz_last VALUES (1), (2);`

/** What a server's init_connect may set every plain user's session to. */
const odd = [
  ...[
    'SESSION sql_mode = "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,PIPES_AS_CONCAT,STRICT_ALL_TABLES"',
  ],
  ...[
    'SESSION autocommit = 0',
    'SESSION explicit_defaults_for_timestamp = 0',
    'SESSION time_zone = "+05:30"',
  ],
  ...['SESSION completion_type = 1', 'SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY'],
  ...['SESSION sql_safe_updates = 1', 'SESSION collation_connection = utf8mb4_bin'],
]

function withoutWord(bytes: ReadonlyMap<string, Uint8Array>, word: string): Map<string, Uint8Array> {
  const without = (whole: Uint8Array) =>
    Buffer.from(Buffer.from(whole).toString('latin1').replaceAll(word, ''), 'latin1')
  return new Map([...bytes].map(([name, whole]) => [name, without(whole)]))
}

for (const which of ['11.8', 'mysql'] as const)
  test(`odd settings of ${which} change nothing of what is saved and brought back, or are told`, async t => {
    const server = await orSkip(t, freshSqlServer(which))
    if (!server) return
    const isMysql = which === 'mysql'
    const from = { ...server, name: 'shop' }
    const set = (settings: string) => sql({ ...server, name: '' }, `SET GLOBAL ${settings}`)
    const initially = (statements: readonly string[]) =>
      set(`init_connect = '${statements.map(each => `SET ${each}`).join('; ')}'`)
    await sql(
      { ...server, name: '' },
      `CREATE DATABASE shop CHARACTER SET utf8mb4; CREATE USER poor IDENTIFIED BY 'p'; GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP,
         REFERENCES, INDEX, ALTER, LOCK TABLES, EXECUTE, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EVENT, TRIGGER ON *.* TO poor;
       GRANT ${isMysql ? 'SET_ANY_DEFINER, SYSTEM_USER' : 'SET USER'} ON *.* TO poor`,
    )
    // MySQL spells a column's own collation in two ways.
    await sql(from, isMysql ? data.replace(' COLLATE utf8mb4_general_ci', '') : data)
    const poor = { ...from, user: 'poor', password: 'p' }
    const ctx = testContext()
    // Without locks, nobody but the session commits the last table's rows.
    const args = ['--skip-add-locks', '--skip-disable-keys']
    const take = () => capture(mariadbSource(from.flavour, optionsOf(poor, { args })), ctx)
    const wanted = await contents(from)
    await initially(odd)
    const { manifest, reader, bytes, census } = await take()
    assert.equal(
      census.objects.reduce((sum, { rows }) => sum + (rows ?? 0), 0),
      5,
    )
    const restore = (name: string, from_ = reader) =>
      mariadbRestorer(from.flavour, { target: urlOf(poor, name) }).apply(
        [manifest],
        nothing,
        false,
        from_,
        ctx,
      )
    assert.equal((await restore('back')).rows, 5)
    assert.deepEqual(await contents({ ...from, name: 'back' }), wanted)

    // A dumper's names that are not UTF-8, or not quoted, would only be noticed when the dump is restored.
    await initially(['NAMES latin1'])
    await assert.rejects(take(), /set to latin1: the dump would call über by two names/)
    await initially(['SESSION sql_quote_show_create = 0'])
    await assert.rejects(take(), /sql_quote_show_create is off for this user/)
    await initially([])

    if (isMysql) {
      await set('sql_require_primary_key = 0, sql_generate_invisible_primary_key = 1')
      const keyed = await mariadbRestorer('mysql', { target: urlOf(poor, 'keyed') }).plan(
        [manifest],
        nothing,
        ctx,
      )
      assert.match(keyed.warnings.join(), /get a column my_row_id/)
      await set('sql_require_primary_key = 1')
      // Who may, turns both off for the session.
      const root = mariadbRestorer('mysql', { target: urlOf(from, 'keyless') })
      assert.deepEqual((await root.apply([manifest], nothing, false, reader, ctx)).warnings, [])
      await set('sql_require_primary_key = 0, sql_generate_invisible_primary_key = 0')
      assert.deepEqual(await contents({ ...from, name: 'keyless' }), wanted)
      // 5.7 named no collation where it was the one that the character set was born with.
      const source = { ...manifest.source, version: '5.7.44-log' }
      const older = withoutWord(bytes, ' COLLATE=utf8mb4_0900_ai_ci')
      const apply = mariadbRestorer('mysql', { target: urlOf(poor, 'older') }).apply
      await apply([{ ...manifest, source }], nothing, false, readerOver(older, ctx), ctx)
      assert.match((await contents({ ...from, name: 'older' })).plain ?? '', /COLLATE=utf8mb4_general_ci/)
    } else {
      // Older servers name no collation where it is the one that the character set was born with.
      const older = withoutWord(bytes, ' COLLATE=utf8mb4_general_ci')
      await restore('older', readerOver(older, ctx))
      assert.equal((await contents({ ...from, name: 'older' })).plain, wanted.plain)
    }
  })
