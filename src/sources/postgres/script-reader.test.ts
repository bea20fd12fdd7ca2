import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inChunks } from '../../../test/support/reader.ts'
import { knowsRestrict, scriptBytes } from './script.ts'
import { readScript } from './script-reader.ts'

const end = '--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n'

async function pieces(script: string, size = 7): Promise<string[]> {
  const found: string[] = []
  let data = ''
  for await (const piece of readScript(inChunks(Buffer.from(script), size), 'x.sql')) {
    if (piece.kind === 'data') data += piece.bytes.toString()
    else {
      if (data) found.push(`data ${data}`)
      data = ''
      found.push(piece.kind === 'connect' ? `connect ${piece.database}` : piece.bytes.toString().trim())
    }
  }
  return data ? [...found, `data ${data}`] : found
}

test('a script is taken apart as psql does, wherever its chunks fall', async () => {
  const script = `-- a comment; with 'quotes
\\restrict abc
SET standard_conforming_strings = on;
CREATE TABLE "a;""b" (t text DEFAULT 'it''s; \\', /* ; /* ' */ */ u text DEFAULT E'\\';');
CREATE FUNCTION f() RETURNS int AS $body$ ; $$ ' \\! ls
$body$ LANGUAGE sql;
CREATE FUNCTION g() RETURNS int BEGIN ATOMIC
 SELECT CASE WHEN true THEN 1 ELSE 2 END;
 SELECT 2;
END;
CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2);
COPY "a;""b" (t, u) FROM stdin;
\\N\t;
it's -- $$ \\.x
\\.
COPY empty (t) FROM stdin;
\\.

SELECT pg_catalog.setval('s', 1, $x$1;$x$);
`
  const expected = [
    'SET standard_conforming_strings = on;',
    `CREATE TABLE "a;""b" (t text DEFAULT 'it''s; \\', /* ; /* ' */ */ u text DEFAULT E'\\';');`,
    "CREATE FUNCTION f() RETURNS int AS $body$ ; $$ ' \\! ls\n$body$ LANGUAGE sql;",
    'CREATE FUNCTION g() RETURNS int BEGIN ATOMIC\n SELECT CASE WHEN true THEN 1 ELSE 2 END;\n SELECT 2;\nEND;',
    'CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2);',
    'COPY "a;""b" (t, u) FROM stdin;',
    "data \\N\t;\nit's -- $$ \\.x\n\\.\n",
    'COPY empty (t) FROM stdin;',
    'data \\.\n',
    "SELECT pg_catalog.setval('s', 1, $x$1;$x$);",
  ]
  for (const size of [1, 2, 5, 64, 10_000])
    assert.deepEqual(await pieces(script + end, size), expected, String(size))
})

test('what psql would carry out itself is refused, and so is a script without its end', async () => {
  for (const script of [
    '\\! touch /tmp/x\n',
    'SELECT 1 \\! touch /tmp/x\n;',
    '\\copy t from program $$x$$\n',
    '\\i /etc/passwd\n',
    'COPY t FROM stdin; \\! ls\n',
    `SELECT 'a\\'; \\! ls '\n;`,
    `SET standard_conforming_strings = off;\nSELECT 'a\\''; \\! ls ;`,
    '\\connect -reuse-previous=on "host=evil"\n',
    '\\connect "postgresql://evil/x" other\n',
  ])
    await assert.rejects(pieces(script + end), /cannot restore|connects to something else|psql|COPY/, script)
  for (const script of [
    'SELECT 1;\n',
    `${end}SELECT 1;\n`,
    `COPY t FROM stdin;\n1\n${end}`,
    `SELECT ';\n${end}`,
    '',
  ])
    await assert.rejects(pieces(script), { exit: 20, message: /is not whole/ }, script)
})

test('connections name databases, however odd', async () => {
  const odd = String.raw`\connect -reuse-previous=on "dbname='it\'s ""odd"" \\=x'"`
  const script = `\\connect template1\n\\connect "a b""c"\n\\encoding SQL_ASCII\n${odd}\n${end}`
  assert.deepEqual(await pieces(script), ['connect template1', 'connect a b"c', `connect it's "odd" \\=x`])
})

test('transactions, databases, what --clean drops, and settings that a server does not know are left out', async () => {
  const script = `SET transaction_timeout = 0;\nBEGIN;\nSELECT 1;\nCOMMIT;\nALTER DATABASE x SET a = 'b';\nGRANT CONNECT ON DATABASE x TO y;\nALTER ROLE y IN DATABASE x SET a TO 'b';\n${end}`
  const bytes = async (version: number, of = script) => {
    let text = ''
    for await (const block of scriptBytes(readScript(inChunks(Buffer.from(of)), 'x'), version))
      text += Buffer.from(block)
    return text
  }
  assert.equal(await bytes(150_000), 'SELECT 1;\n')
  assert.equal(await bytes(170_000), 'SET transaction_timeout = 0;\nSELECT 1;\n')
  const drops = `ALTER TABLE ONLY public.t DROP CONSTRAINT t_pkey;\nDROP TABLE public.t;\nDROP SCHEMA public;\n`
  const clean = `SET a = 1;\n${drops}CREATE SCHEMA public;\nDROP TABLE public.u;\n${end}`
  assert.equal(
    await bytes(150_000, clean),
    'SET a = 1;\nDROP SCHEMA IF EXISTS public;\nCREATE SCHEMA public;\nDROP TABLE public.u;\n',
  )
  const rows = `ALTER TABLE public.t DISABLE TRIGGER ALL;\nSELECT pg_catalog.lo_unlink('1');\n${end}`
  assert.equal(await bytes(150_000, rows), 'ALTER TABLE public.t DISABLE TRIGGER ALL;\n')
  const rollback = readScript(inChunks(Buffer.from(`ROLLBACK;\n${end}`)), 'x')
  await assert.rejects(async () => {
    for await (const _ of scriptBytes(rollback, 150_000));
  }, /says ROLLBACK/)
  const versions = ['psql 15.13', 'psql 15.14', 'psql 17.5', 'psql 18.0', 'psql 12.30']
  assert.deepEqual(versions.map(knowsRestrict), [false, true, false, true, false])
})
