import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { freshDatabase, freshSqlDatabase, orSkip, postgresClients } from '../services/index.ts'
import { filesIn } from '../support/cli.ts'
import { sql } from '../support/postgres/hostile.ts'
import { fillShop, type OldHost, oldHost, sh, shopDigest } from './support.ts'

/** Arguments after the name of the rclone images, which their users had and have: each set dumps, and what it dumps comes back. */

function dumpIn(host: OldHost): Buffer {
  const [name = ''] = filesIn(host.path('up')).filter(path => !path.startsWith('.cairn/'))
  return readFileSync(host.path('up', name))
}

const psql = 'gunzip | "$BIN/psql" -q -X -v ON_ERROR_STOP=1 -d "$URL"'
const pgRestore = 'gunzip | "$BIN/pg_restore" -e --no-owner -d "$URL"'

/** The arguments, and how people bring the file back. */
const ofPgDump: readonly (readonly [args: readonly string[], back: string])[] = [
  [['--no-owner', '--no-privileges', '-Z0', '--column-inserts', '-v'], psql],
  [['-n', 'public', '--exclude-table=nothing*', '--clean', '--no-sync'], psql],
  [['-Fc'], pgRestore],
  [['--clean', '--if-exists', '--create', '-Z', '9'], psql],
]

test('rclone: arguments of pg_dump reach it, and each dump comes back by hand and by Cairn', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  await fillShop(database)
  await sql(database, 'DELETE FROM item WHERE id > 50')
  const before = await shopDigest(database)
  for (const [args, back] of ofPgDump) {
    const host = oldHost({
      ...{ CAIRN_ENGINE: 'postgres', BACKUP_DATABASES: database.name, PGPASSWORD: database.password },
      ...{ REMOTE_NAME: ':local', BACKUP_FILE_NAME: 'x' },
    })
    const up = { UPLOAD_PREFIX: host.path('up'), PGHOST: database.host }
    const connect = ['-U', database.user, `--port=${database.port}`]
    const ran = await host.cairn(['run', '--', ...connect, ...args], up)
    assert.equal(ran.code, 0, args.join(' ') + ran.stderr)
    const [byHand, byCairn] = [await freshDatabase(15), await freshDatabase(15)]
    const plain = sh('gunzip', dumpIn(host))
    const creates = args.includes('--create')
    // The script makes the database itself, under the name that it had.
    const given = creates ? plain.toString().replaceAll(database.name, byHand.name) : plain
    sh(back.replace('gunzip | ', ''), Buffer.from(given), {
      URL: creates ? byHand.url.replace(/\/[^/]*$/, '/postgres') : byHand.url,
      BIN: join(postgresClients, '15/bin'),
    })
    const restored = await host.cairn(['restore', 'latest', '--to', byCairn.url], up)
    assert.equal(restored.code, 0, args.join(' ') + restored.stderr)
    for (const target of [byHand, byCairn]) assert.equal(await shopDigest(target), before, args.join(' '))
  }
})
