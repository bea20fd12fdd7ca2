import { join } from 'node:path'
import pg from 'pg'
import { type SecretSource, secretSource } from '../../../src/platform/secret-source.ts'
import { PostgresOptions } from '../../../src/sources/postgres/index.ts'
import { quoteName } from '../../../src/sources/postgres/sql.ts'
import type { FreshDatabase } from '../../services/index.ts'
import { postgresClients } from '../../services/index.ts'
import { run } from '../../services/process.ts'

process.env.CAIRN_POSTGRES_CLIENTS ??= postgresClients

/** A server that a test may use, and one of its databases. */
export type Target = Pick<FreshDatabase, 'major' | 'host' | 'port' | 'user' | 'password' | 'name'>

/** Runs statements, each in its own transaction, and returns the rows of the last. */
export async function sql<Row extends object = Record<string, unknown>>(
  { host, port, user, password, name }: Target,
  ...commands: string[]
): Promise<Row[]> {
  const client = new pg.Client({ host, port, user, password, database: name, ssl: false })
  client.on('error', () => {})
  await client.connect()
  try {
    let rows: Row[] = []
    for (const command of commands) rows = (await client.query<Row>(command)).rows
    return rows ?? []
  } finally {
    await client.end()
  }
}

/** The options of a source of this database. */
export function optionsOf(target: Target): PostgresOptions {
  return PostgresOptions.parse(plainOptions(target))
}

/** The same, as they stand in a configuration. */
export function plainOptions({ host, port, user, password, name }: Target) {
  return { host, port, user, password: { value: password }, database: name }
}

/** The URL of a database of that server, as `--to` gives it. */
export function urlOf({ host, port, user, password }: Target, name: string): SecretSource {
  return secretSource(`postgresql://${user}:${password}@${host}:${port}/${encodeURIComponent(name)}`)
}

/** Everything that has ever been lost by a dump or a restore, in one schema. `role` owns part of it. */
export async function fillHostile(target: Target, role: string): Promise<void> {
  const owner = quoteName(role)
  await sql(target, `CREATE ROLE ${owner} LOGIN PASSWORD 'it''s \\ a "secret"; --'`)
  await sql(target, `COMMENT ON ROLE ${owner} IS 'with; a semicolon and $$'`)
  await sql(target, hostileSchema.replaceAll('OWNER_ROLE', owner), hostileData)
}

const hostileSchema = `
CREATE SCHEMA "sch""ema
 two" AUTHORIZATION OWNER_ROLE;
CREATE TYPE mood AS ENUM ('sad', 'o''k', 'ha"ppy', '😀');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE "Odd ""Name"", with.dots" ("sel ect" int PRIMARY KEY, "new
line" text, m mood);
CREATE TABLE bytes (id int GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 3), b bytea, t text);
CREATE TABLE empty_one (id serial PRIMARY KEY, x positive);
CREATE TABLE generated (a int, b int GENERATED ALWAYS AS (a * 2) STORED);
CREATE TABLE wide (id int, body text);
CREATE TABLE parent_of (id int);
CREATE TABLE child_of (extra text) INHERITS (parent_of);
CREATE TABLE part (at date NOT NULL, v int) PARTITION BY RANGE (at);
CREATE TABLE part_2025 PARTITION OF part FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE part_rest PARTITION OF part DEFAULT;
CREATE INDEX ON part (v);
CREATE TABLE "sch""ema
 two".owned (id int PRIMARY KEY, back int);
ALTER TABLE "sch""ema
 two".owned OWNER TO OWNER_ROLE;
CREATE TABLE cycle_a (id int PRIMARY KEY, b int);
CREATE TABLE cycle_b (id int PRIMARY KEY, a int REFERENCES cycle_a);
ALTER TABLE cycle_a ADD FOREIGN KEY (b) REFERENCES cycle_b DEFERRABLE INITIALLY DEFERRED;
CREATE SEQUENCE gappy START 100 INCREMENT 7;
CREATE VIEW seen AS SELECT "sel ect" AS x, m FROM "Odd ""Name"", with.dots";
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM bytes;
CREATE FUNCTION noisy() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
  -- ; '  " $$ \\. :variable
  RAISE NOTICE 'row; %', $q$it's$q$;
  RETURN NEW;
END $body$;
CREATE TRIGGER shout BEFORE UPDATE ON bytes FOR EACH ROW EXECUTE FUNCTION noisy();
CREATE TABLE guarded (id int, who text);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON guarded TO OWNER_ROLE USING (who = current_user);
GRANT SELECT ON bytes TO OWNER_ROLE;
COMMENT ON TABLE bytes IS 'a comment with '' and
a new line; and \\ too';
CREATE UNLOGGED TABLE fleeting (id int);
`

const hostileData = `
INSERT INTO "Odd ""Name"", with.dots" VALUES (1, E'tab\\there\\nnew line\\r\\\\back\\\\.', '😀'), (2, '\\.', 'o''k'), (3, NULL, NULL), (4, '', 'sad');
INSERT INTO bytes (b, t) SELECT decode(repeat(lpad(to_hex(i % 256), 2, '0'), 40), 'hex'), repeat(chr(1 + i % 120) || E'\\\\N', 3) FROM generate_series(0, 999) i;
INSERT INTO bytes (b, t) VALUES ('\\x00ff00c328', E'\\\\.\\n\\\\.\\n'), (NULL, '👩‍👩‍👧‍👦 ' || chr(8238) || chr(65279));
INSERT INTO generated (a) SELECT generate_series(1, 10);
INSERT INTO wide SELECT 1, string_agg(md5(i::text), E'\\n') FROM generate_series(1, 32768) i;
INSERT INTO parent_of VALUES (1), (2);
INSERT INTO child_of VALUES (3, 'x');
INSERT INTO part SELECT '2025-06-01'::date + i, i FROM generate_series(1, 400) i;
INSERT INTO "sch""ema
 two".owned VALUES (1, 2), (2, 1);
BEGIN;
INSERT INTO cycle_a VALUES (1, 1);
INSERT INTO cycle_b VALUES (1, 1);
COMMIT;
SELECT nextval('gappy'), nextval('gappy'), setval('empty_one_id_seq', 77, false);
INSERT INTO guarded VALUES (1, 'a'), (2, 'b');
INSERT INTO fleeting VALUES (1);
SELECT lo_from_bytea(424242, decode(repeat('00ff5c', 5000), 'hex'));
SELECT lo_from_bytea(424243, '');
REFRESH MATERIALIZED VIEW counted;
`

/** What a database holds, in a form that two databases can be compared by: a digest of the sorted rows of every table. */
export async function contents(target: Target): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  const relations = await sql<{ schema: string; name: string; kind: string }>(
    target,
    `SELECT n.nspname AS schema, c.relname AS name, c.relkind AS kind FROM pg_class c JOIN pg_namespace n
       ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm', 'S') AND n.nspname !~ '^(pg_|information_schema)'`,
  )
  const digests = relations.map(({ schema, name, kind }) => {
    const relation = `${quoteName(schema)}.${quoteName(name)}`
    if (kind === 'S') return `SELECT last_value || ' ' || is_called AS digest FROM ${relation}`
    return `SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE "C")), '')
              AS digest FROM ${kind === 'r' ? 'ONLY ' : ''}${relation} t`
  })
  digests.push(
    `SELECT string_agg(oid || ' ' || md5(lo_get(oid)), ' ' ORDER BY oid) AS digest FROM pg_largeobject_metadata`,
  )
  for (const [index, query] of digests.entries()) {
    const relation = relations[index]
    const [row] = await sql<{ digest: string }>(target, query)
    found[relation ? `${relation.schema}.${relation.name}` : 'large objects'] = String(row?.digest)
  }
  return found
}

/** The definitions, as the newest pg_dump at hand writes them. */
export async function definitions(target: Target): Promise<string> {
  const { host, port, user, password, name } = target
  const env = { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: name }
  const text = await run(join(postgresClients, '18/bin/pg_dump'), ['--schema-only'], { env })
  return text
    .split('\n')
    .filter(line => !/^(--|\\)/.test(line))
    .join('\n')
}

/** The sum of all tables' rows. */
export function rowsIn(found: Record<string, string>): number {
  return Object.values(found).reduce((sum, digest) => sum + (Number(digest.split(' ')[0]) || 0), 0)
}
