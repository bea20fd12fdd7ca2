import { type SecretSource, secretSource } from '../../../src/platform/secret-source.ts'
import { MariadbOptions } from '../../../src/sources/mariadb/index.ts'
import { isOneOf, quoteName, quoteTable, quoteText } from '../../../src/sources/mariadb/sql.ts'
import type { FreshSqlDatabase } from '../../services/index.ts'
import { runSql } from '../../services/mariadb.ts'
import { run } from '../../services/process.ts'

/** A server that a test may use, and one of its databases. */
export type SqlTarget = Omit<FreshSqlDatabase, 'url'>

/** Runs statements, and returns the rows: a line for each, tabs between values. */
export function sql(target: SqlTarget, statements: string): Promise<string> {
  return runSql(target, statements, target.name)
}

/** The options of a source of this database. */
export function optionsOf(target: SqlTarget, more: Partial<MariadbOptions> = {}): MariadbOptions {
  const { host, port, user, password, name } = target
  const place = { host, port, user, password: { value: password } }
  const scope = more.databases || more.whole ? {} : { database: name }
  return { ...MariadbOptions.parse({ ...place, ...scope }), ...more }
}

/** The URL of a database of that server, as `--to` gives it. */
export function urlOf({ flavour, host, port, user, password }: SqlTarget, name: string): SecretSource {
  return secretSource(`${flavour}://${user}:${password}@${host}:${port}/${encodeURIComponent(name)}`)
}

/** Everything that has ever been lost by a dump or a restore, in one database. */
export async function fillHostile(target: SqlTarget): Promise<void> {
  const isMysql = target.flavour === 'mysql'
  await sql(
    target,
    `SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'; ${tables} ${isMysql ? ofMysql : ofMariadb} ${rows}`,
  )
  // The client sends a whole definition where the delimiter is another.
  const { bin, flavour, host, port, user, password, name } = target
  const args = ['--no-defaults', `--host=${host}`, `--port=${port}`, '--protocol=TCP', `--user=${user}`]
  const script = definitions.replaceAll('DATABASE_NAME', name)
  const env = { MYSQL_PWD: password, SCRIPT: script }
  const command = 'printf %s "$SCRIPT" | exec "$0" "$@"'
  await run('sh', ['-c', command, `${bin}/${flavour}`, ...args, '--default-character-set=utf8mb4', name], {
    env,
  })
}

const tables = `
CREATE TABLE \`odd \`\`name\`\`, "with" 'all'.dots; -- and /* more\` (\`sel ect\` int PRIMARY KEY, \`new
line;\` text COMMENT 'it''s; a \\n comment', \`☃ ünï\` enum('sad', 'o''k', 'ha"ppy', '☃'));
CREATE TABLE bytes (id int AUTO_INCREMENT PRIMARY KEY, b longblob, v varbinary(20), f binary(4), t longtext, bits bit(13));
CREATE TABLE empty_one (id int PRIMARY KEY AUTO_INCREMENT) AUTO_INCREMENT = 777;
CREATE TABLE computed (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL, c int GENERATED ALWAYS AS (a * 3) STORED, d text,
  KEY (b), j json, g geometry, p point);
CREATE TABLE hidden (a int, z int INVISIBLE DEFAULT 7);
CREATE TABLE dates (d date, dt datetime(6), ts timestamp(3) NULL, y year, t time(2));
CREATE TABLE parent (id int PRIMARY KEY, up int, FOREIGN KEY (up) REFERENCES parent (id)) CHARACTER SET latin1;
CREATE TABLE child (id int PRIMARY KEY, parent int, FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE);
CREATE TABLE aa_before (id int PRIMARY KEY, child int, FOREIGN KEY (child) REFERENCES child (id));
CREATE TABLE old (id int, t text) ENGINE = MyISAM;
CREATE TABLE fleeting (id int) ENGINE = MEMORY;
CREATE TABLE searched (id int PRIMARY KEY, t text, FULLTEXT (t));
CREATE TABLE parts (id int, at date) PARTITION BY RANGE (YEAR(at)) (PARTITION p0 VALUES LESS THAN (2020), PARTITION p1 VALUES LESS THAN MAXVALUE);
CREATE TABLE checked (n int CHECK (n > 0), s varchar(20) DEFAULT 'a;\\'b"\\\\\\n\`');
CREATE TABLE numbers (d decimal(40, 20), f float, g double, u bigint unsigned, i bigint);
CREATE TABLE log (what text);
CREATE TABLE wide (id int, body longtext, noise longblob);
`

const ofMariadb = `
CREATE TABLE aria (id int) ENGINE = Aria;
CREATE SEQUENCE numbered START WITH 100 INCREMENT BY 7;
CREATE TABLE with_default (id int DEFAULT (NEXT VALUE FOR numbered), x int);
SELECT NEXT VALUE FOR numbered; INSERT INTO with_default (x) VALUES (1);
INSERT INTO aria VALUES (1), (2);
`

const ofMysql = `
CREATE TABLE functional (a int, t json, KEY ((a * 2)), KEY ((CAST(t->'$.x' AS CHAR(10)))));
INSERT INTO functional VALUES (1, '{"x": "y"}');
`

const rows = `
INSERT INTO \`odd \`\`name\`\`, "with" 'all'.dots; -- and /* more\` VALUES (1, 'tab\\there\\nnew line\\r\\\\back', '☃'), (2, '-- Dump completed;\\n\\\\', 'o''k'), (3, NULL, NULL), (4, '', 'sad');
INSERT INTO bytes (b, v, f, t, bits) VALUES (0x00ff00c328275c22603b0a, 0x275c, 0x00, '\\\\', b'1010101010101'), (NULL, NULL, NULL, NULL, NULL), ('', '', '', '', 0),
  (REPEAT(0x00ff5c27, 5000), 0x0a0d1a00, 0xffffffff, CONCAT('👩‍👩‍👧‍👦 ', CHAR(0x1a), CHAR(0)), b'1');
INSERT INTO bytes (id, b) VALUES (0, 'zero');
INSERT INTO computed (a, d, j, g, p) VALUES (1, 'x', '{"a": "it''s \\\\n \\\\"q\\\\" 😀"}', ST_GeomFromText('POLYGON((0 0,4 0,4 4,0 0))'), ST_GeomFromText('POINT(1 2)')), (NULL, NULL, NULL, NULL, NULL);
INSERT INTO hidden (a, z) VALUES (1, 9), (2, 7);
INSERT INTO dates VALUES ('0000-00-00', '0000-00-00 00:00:00', NULL, 0, '-838:59:58.5'), ('2024-02-29', '9999-12-31 23:59:59.999999', '2001-09-09 01:46:40.123', 2155, '00:00:00.01');
SET foreign_key_checks = 0;
INSERT INTO parent VALUES (1, 2), (2, 1); INSERT INTO child VALUES (1, 1), (2, 2); INSERT INTO aa_before VALUES (1, 2);
INSERT INTO old VALUES (1, 'MyISAM'), (2, NULL); INSERT INTO fleeting VALUES (5);
INSERT INTO searched VALUES (1, 'the quick brown fox'); INSERT INTO parts VALUES (1, '2019-01-01'), (2, '2021-01-01');
INSERT INTO checked VALUES (1, DEFAULT); INSERT INTO numbers VALUES (12345678901234567890.12345678901234567890, 1.5, 1e300, 18446744073709551615, -9223372036854775808);
INSERT INTO wide VALUES (1, REPEAT('wide ''row''; ', 250000), REPEAT(UNHEX('00ff275c0a22603b2d2d'), 200000)), (2, NULL, '');
`

const definitions = `
CREATE VIEW zz_first AS SELECT id, 'lit;''eral
-- x' AS what FROM parent;
CREATE VIEW aa_second AS SELECT id, what FROM zz_first WHERE id > 0;
DELIMITER //
CREATE FUNCTION twice(n int) RETURNS int DETERMINISTIC
BEGIN
  -- ; ' it's " a comment
  DECLARE s text DEFAULT ';; // */ ''DELIMITER ;''';
  RETURN n * 2;
END//
CREATE PROCEDURE \`a \`\`procedure\`() BEGIN SELECT 'x' AS \`y;;\`; END//
CREATE TRIGGER DATABASE_NAME.stamp AFTER INSERT ON DATABASE_NAME.child FOR EACH ROW BEGIN INSERT INTO log VALUES ('child; "it''s"'); END//
CREATE TRIGGER second AFTER INSERT ON child FOR EACH ROW FOLLOWS stamp INSERT INTO log VALUES (CONCAT('second ', NEW.id))//
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO BEGIN DELETE FROM log; END//
DELIMITER ;
CREATE VIEW uses_function AS SELECT DATABASE_NAME.twice(id) AS n FROM child;
`

/** What a database holds, in a form that two databases can be compared by: rows, digests of all values, definitions. */
export async function contents(target: SqlTarget): Promise<Record<string, string>> {
  const schema = quoteText(target.name)
  const found: Record<string, string> = {}
  const names = (
    await sql(
      target,
      `SELECT REPLACE(TO_BASE64(TABLE_NAME), '\\n', ''), GROUP_CONCAT(REPLACE(TO_BASE64(COLUMN_NAME), '\\n', '') ORDER BY ORDINAL_POSITION SEPARATOR ' ')
       FROM information_schema.COLUMNS JOIN information_schema.TABLES USING (TABLE_SCHEMA, TABLE_NAME)
      WHERE TABLE_SCHEMA = ${schema} AND TABLE_TYPE <> 'SEQUENCE' GROUP BY TABLE_NAME`,
    )
  )
    .split('\n')
    .filter(Boolean)
  const tables = names.map(line => line.split(/[ \t]/).map(each => Buffer.from(each, 'base64').toString()))
  const queries = tables.map(([table = '', ...columns]) => {
    const values = columns.map(name => `IFNULL(HEX(CAST(${quoteName(name)} AS BINARY)), 'NULL')`)
    const row = `SHA2(CONCAT_WS('|', ${values.join(', ')}), 256)`
    const sum = `IFNULL(SUM(CONV(LEFT(${row}, 8), 16, 10)), 0)`
    return `SELECT COUNT(*), ${sum} FROM ${quoteTable(target.name, table)}; SHOW CREATE TABLE ${quoteTable(target.name, table)}; SELECT '=====';`
  })
  const answers = (await sql(target, `${queries.join('\n')} DO 0`)).split('=====\n')
  for (const [index, [table = '']] of tables.entries())
    found[table] = (answers[index] ?? '').replaceAll(target.name.replaceAll('`', '``'), 'THIS_DATABASE')
  const others = [
    `SELECT 'routine', ROUTINE_NAME, ROUTINE_TYPE, ROUTINE_DEFINITION, SQL_MODE, DEFINER FROM information_schema.ROUTINES WHERE ${isOneOf('ROUTINE_SCHEMA', [target.name])} ORDER BY 2`,
    `SELECT 'trigger', TRIGGER_NAME, EVENT_MANIPULATION, EVENT_OBJECT_TABLE, ACTION_ORDER, ACTION_STATEMENT, ACTION_TIMING FROM information_schema.TRIGGERS WHERE ${isOneOf('TRIGGER_SCHEMA', [target.name])} ORDER BY 2`,
    `SELECT 'event', EVENT_NAME, EVENT_DEFINITION, INTERVAL_VALUE, STATUS FROM information_schema.EVENTS WHERE ${isOneOf('EVENT_SCHEMA', [target.name])} ORDER BY 2`,
    `SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ${schema}`,
    target.flavour === 'mariadb'
      ? `SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ${schema} AND TABLE_TYPE = 'SEQUENCE'`
      : 'DO 0',
  ]
  found.others = (await sql(target, others.join(';'))).replaceAll(target.name, 'THIS_DATABASE')
  return found
}

/** The databases of a server whose names begin as that of the target: in a server that others use too, they have theirs. */
export async function databases(target: SqlTarget): Promise<string[]> {
  const text = await sql({ ...target, name: '' }, 'SHOW DATABASES')
  return text
    .split('\n')
    .filter(name => name !== '' && !/^(information_schema|performance_schema|sys|mysql)$/.test(name))
    .filter(name => name.startsWith(target.name))
}
