import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freshDatabase, orSkip, service } from '../services/index.ts'
import { sql } from '../support/postgres/hostile.ts'
import { s3Proxy } from '../support/s3-proxy.ts'
import { oldHost, sh, shop } from './support.ts'

test('rclone: a stream that broke is dumped again, what was stored well is not, and what only fails is not repeated', async t => {
  const here = await shop(t)
  const webdav = await orSkip(t, service('webdav'))
  if (!here || !webdav) return
  const small = here.database
  const large = await freshDatabase(15)
  const rows = `SELECT decode(md5(random()::text), 'hex') AS bytes FROM generate_series(1, 150000)`
  await sql(large, `CREATE TABLE item AS ${rows}`)
  await using proxy = await s3Proxy(webdav.url)
  let cuts = 0
  proxy.rule = ({ method, path }) =>
    method === 'PUT' && path.includes(large.name) && !path.includes('.cairn') && cuts++ === 0
      ? { cutRequestAfter: 1_500_000 }
      : undefined
  const env = {
    ...here.env,
    BACKUP_DATABASES: `${small.name},${large.name}`,
    // To this one rclone streams; to others it sends files.
    ...{ RCLONE_CONFIG_STORE_TYPE: 'webdav', RCLONE_CONFIG_STORE_VENDOR: 'owncloud' },
    RCLONE_CONFIG_STORE_URL: proxy.endpoint,
    RCLONE_CONFIG_STORE_USER: webdav.user,
    RCLONE_CONFIG_STORE_PASS: sh('rclone obscure "$P"', undefined, { P: webdav.password }).toString().trim(),
    UPLOAD_PREFIX: small.name,
  }
  const host = oldHost(env)
  const ran = await host.cairn(['run'])
  assert.equal(ran.code, 0, ran.stderr)
  assert.match(ran.stderr, /attempt 1 of 3 failed \(exit 3\)/)
  const listed = (await host.cairn(['list', '--json'])).json<{ unit: string }[]>()
  assert.deepEqual(listed.map(({ unit }) => unit).sort(), [small.name, large.name].sort())
  // Not through the proxy, which is this process.
  const direct = { ...env, RCLONE_CONFIG_STORE_URL: webdav.url }
  const files = sh('rclone lsf "store:$UPLOAD_PREFIX"', undefined, direct).toString().trim().split('\n')
  assert.equal(files.filter(name => !name.startsWith('.cairn')).length, 2, files.join(' '))
  const runs = (await host.cairn(['runs', '--json'])).json<{ exit: number; backups: unknown[] }[]>()
  assert.deepEqual(
    runs.map(({ exit, backups }) => [exit, backups.length]),
    [[0, 2]],
  )
  const target = await freshDatabase(15)
  const restored = await host.cairn(['restore', `rclone/${large.name}@latest`, '--to', target.url])
  assert.equal(restored.code, 0, restored.stderr)
  const digest = `SELECT md5(string_agg(bytes::text, ',' ORDER BY bytes)) AS digest FROM item`
  assert.deepEqual(await sql(target, digest), await sql(large, digest))

  const absent = await host.cairn(['run'], { BACKUP_DATABASES: `${small.name},no_such_database` })
  assert.equal(absent.code, 3, absent.stderr)
  assert.doesNotMatch(absent.stderr, /attempt 1/)
})
