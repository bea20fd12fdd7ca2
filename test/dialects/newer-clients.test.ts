import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { freshDatabase, freshFolder, orSkip, postgresClients } from '../services/index.ts'
import { filesIn } from '../support/cli.ts'
import { fillShop, oldHost, sh, shopDigest } from './support.ts'

test('sidecar: where only newer clients than 16 are, the run and doctor say what a restore by hand takes; else nothing', async t => {
  const database = await orSkip(t, freshDatabase(16))
  const common = await orSkip(t, freshDatabase(15))
  if (!database || !common) return
  await fillShop(database)
  await fillShop(common)
  const host = oldHost({ BACKUP_NAME: 'app', BACKUP_LOCAL_PATH: '' })
  const env = { BACKUP_LOCAL_PATH: host.path('up'), BACKUP_POSTGRES: database.url }
  const needs =
    /takes pg_restore 17 or newer: the server is PostgreSQL 16, and there are no client programs of 16 here/
  const doctor = await host.cairn(['doctor'], env)
  assert.match(doctor.out, needs)
  const ran = await host.cairn(['backup'], env)
  assert.equal(ran.code, 0, ran.stderr)
  assert.match(ran.stderr, needs)
  const folder = await freshFolder()
  const [archive = ''] = filesIn(host.path('up/app')).filter(path => path.endsWith('.tar.gz'))
  sh('tar xz -C "$TO"', readFileSync(host.path('up/app', archive)), { TO: folder })
  const restore = (major: number, to: string): Buffer =>
    sh('"$BIN/pg_restore" --exit-on-error --no-owner -d "$URL" "$FROM"', undefined, {
      ...{ BIN: join(postgresClients, String(major), 'bin'), URL: to },
      FROM: join(folder, `postgres-${database.name}.dump`),
    })
  const target = await freshDatabase(17)
  assert.throws(() => restore(15, target.url), /unsupported version/)
  restore(17, target.url)
  assert.equal(await shopDigest(target), await shopDigest(database))
  // Of a server whose own clients are here there is nothing to say.
  const quiet = { ...env, BACKUP_POSTGRES: common.url }
  for (const command of ['doctor', 'backup']) {
    const { code, out, stderr } = await host.cairn([command], quiet)
    assert.equal(code, 0, stderr)
    assert.doesNotMatch(out + stderr, /pg_restore/)
  }
})
