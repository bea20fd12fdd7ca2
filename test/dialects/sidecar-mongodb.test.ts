import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { contents, excuses, freshMongo, withClient } from '../support/mongodb/databases.ts'
import { oldHost, sh } from './support.ts'

test('sidecar: hundreds of files of MongoDB fit into one backup, and come back', excuses, async () => {
  const database = await freshMongo()
  // With long names as many as 600 with short ones: a list of all files would be larger than a manifest may be.
  const [count, long] = [150, 'x'.repeat(110)]
  await withClient(database, async client => {
    const db = client.db(database.name)
    for (let n = 0; n < count; n++) await db.collection(`${long}-${n}`).insertOne({ n })
  })
  const before = await contents(database)
  const host = oldHost({})
  const backups = host.path('backups')
  const env = { BACKUP_NAME: 'my-app', BACKUP_LOCAL_PATH: backups, BACKUP_MONGODB: database.url }
  const ran = await host.cairn(['backup'], env)
  assert.equal(ran.code, 0, ran.stderr)
  const [name = ''] = readdirSync(`${backups}/my-app`).filter(file => file.endsWith('.tar.gz'))
  const members = sh('tar -tzf "$A"', undefined, { A: `${backups}/my-app/${name}` }).toString()
  assert.equal(members.match(/\.bson$/gm)?.filter(Boolean).length, count + 3)
  const shown = (await host.cairn(['list', '--json'], env)).json<{ kind: string }[]>()
  assert.deepEqual(
    shown.map(({ kind }) => kind),
    ['logical'],
  )
  await withClient(database, client => client.db(database.name).dropDatabase())
  const restored = await host.cairn(['restore', 'latest', '--yes'], env)
  assert.equal(restored.code, 0, restored.stderr)
  assert.deepEqual(await contents(database), before)
})
