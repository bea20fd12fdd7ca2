import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freshDatabase, orSkip } from '../../../test/services/index.ts'
import { testContext } from '../../../test/support/context.ts'
import { optionsOf, sql } from '../../../test/support/postgres/hostile.ts'
import { connect } from './connect.ts'
import { resolveConnection } from './connection.ts'
import { mustReadAll } from './readable.ts'

test('a table that is dropped after the moment of a backup is not taken for one that may not be read', async t => {
  const database = await orSkip(t, freshDatabase(17))
  if (!database) return
  t.after(() => database.drop())
  await sql(database, 'CREATE TABLE stays (n int)', 'CREATE TABLE goes (n int)')
  await using db = await connect(await resolveConnection(optionsOf(database)), 'cairn', testContext())
  await db.rows('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
  await db.rows('SELECT pg_export_snapshot()')
  await sql(database, 'DROP TABLE goes')
  await assert.doesNotReject(mustReadAll(db))
})
