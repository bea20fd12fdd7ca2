import assert from 'node:assert/strict'
import { test } from 'node:test'
import { asBlock, missingRoles } from './globals.ts'
import { quoteConninfo, quoteName, quoteText, sqlOf, statements } from './sql.ts'

const split = (sql: string): string[] => [...statements(sql)].map(sqlOf)

test('a script is split at semicolons, but not within quotes and comments', () => {
  assert.deepEqual(split("A 'x;''y' ; B E'it\\';s' ; C \"d;\"\"e\" ; F $$ ; $$ ; G $q$ $$;$$ $q$ ;"), [
    "A 'x;''y'",
    "B E'it\\';s'",
    'C "d;""e"',
    'F $$ ; $$',
    'G $q$ $$;$$ $q$',
  ])
  assert.deepEqual(split('-- a;\nB /* ; /* ; */ ; */ C;\n\\restrict x;y\nD\n;;'), ['B C', 'D'])
  assert.deepEqual(split("CUT 'off;"), [])
})

const globals = String.raw`
\restrict token
SET standard_conforming_strings = on;
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER PASSWORD 'old';
CREATE ROLE "Odd; ""role""";
ALTER ROLE "Odd; ""role""" WITH NOSUPERUSER INHERIT LOGIN NOREPLICATION NOBYPASSRLS PASSWORD 'SCRAM-SHA-256$4096:a;b';
COMMENT ON ROLE "Odd; ""role""" IS 'NOSUPERUSER';
CREATE ROLE staff;
ALTER ROLE staff SET search_path TO 'a', 'b';
ALTER ROLE staff IN DATABASE x SET work_mem TO '1MB';
CREATE TABLESPACE fast OWNER postgres LOCATION '/fast';
CREATE TABLESPACE there OWNER postgres LOCATION '/there';
GRANT staff TO "Odd; ""role""" WITH ADMIN OPTION GRANTED BY postgres;
GRANT postgres TO staff GRANTED BY postgres;
GRANT gone TO staff;
GRANT postgres TO other;
GRANT SET ON PARAMETER log_min_messages TO staff;
DROP ROLE staff;
\unrestrict token
`
const existing = {
  roles: new Set(['postgres', 'other']),
  tablespaces: new Set(['there']),
  superuser: true,
}

test('of the globals only what makes missing roles is taken', () => {
  const found = missingRoles(globals, existing)
  assert.deepEqual(found.roles, ['Odd; "role"', 'staff'])
  assert.deepEqual(found.statements, [
    'CREATE ROLE "Odd; ""role"""',
    `ALTER ROLE "Odd; ""role""" WITH NOSUPERUSER INHERIT LOGIN NOREPLICATION NOBYPASSRLS PASSWORD 'SCRAM-SHA-256$4096:a;b'`,
    `COMMENT ON ROLE "Odd; ""role""" IS 'NOSUPERUSER'`,
    'CREATE ROLE staff',
    "ALTER ROLE staff SET search_path TO 'a' , 'b'",
    'GRANT staff TO "Odd; ""role""" WITH ADMIN OPTION',
    'GRANT postgres TO staff',
  ])
  assert.deepEqual(found.warnings, [
    'the tablespace fast is not made: its folder is a matter of the machine',
    'staff is not made a member of gone: one of them is not there',
  ])
})

test('who is no superuser does not mention what only superusers may', () => {
  const { statements: found } = missingRoles(globals, { ...existing, superuser: false })
  assert.match(found[1] ?? '', /WITH INHERIT LOGIN PASSWORD/)
  assert.equal(found[2], `COMMENT ON ROLE "Odd; ""role""" IS 'NOSUPERUSER'`)
})

test('where nothing is missing nothing is done', () => {
  const roles = new Set(['postgres', 'Odd; "role"', 'staff'])
  assert.deepEqual(missingRoles(globals, { ...existing, roles }).statements, [])
})

test('quoting keeps every character', () => {
  assert.equal(quoteName('a"b\n'), '"a""b\n"')
  assert.equal(quoteText("a'\\b"), "E'a''\\\\b'")
  assert.equal(quoteConninfo("a'\\b"), "'a\\'\\\\b'")
  assert.doesNotMatch(
    asBlock(["CREATE ROLE x \\! rm; ' :y"]).replaceAll(/E'(?:[^'\\]|\\.|'')*'/gs, ''),
    /rm|:y/,
  )
})
