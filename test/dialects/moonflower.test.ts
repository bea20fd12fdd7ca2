// budget: 200 s
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import {
  type FreshBucket,
  type FreshDatabase,
  freshBucket,
  freshDatabase,
  orSkip,
} from '../services/index.ts'
import { rawClient } from '../support/s3-bucket.ts'
import { webhookServer } from '../support/webhook-server.ts'
import { fillShop, type OldHost, oldHost, sh, shopDigest } from './support.ts'

interface Place {
  readonly bucket: FreshBucket
  readonly database: FreshDatabase
  readonly second: FreshDatabase
  readonly host: OldHost
  readonly env: Readonly<Record<string, string>>
}

/** Two databases, a bucket, and the environment of the reference's own table. */
async function place(
  t: TestContext,
  made: { lock?: boolean; server?: 's3-rclone' } = {},
): Promise<Place | null> {
  const bucket = await orSkip(t, freshBucket(made))
  const database = await orSkip(t, freshDatabase(15))
  const second = await orSkip(t, freshDatabase(15))
  if (!bucket || !database || !second) return null
  await fillShop(database)
  const env = {
    PG_DATABASES: `${database.name}  ${second.name}`,
    PG_HOST: database.host,
    PG_PORT: String(database.port),
    PG_USER: database.user,
    PG_PASSWORD: database.password,
    S3_ENDPOINT: bucket.endpoint,
    S3_REGION: bucket.region,
    S3_BUCKET: bucket.bucket,
    S3_ACCESS_KEY: bucket.accessKey,
    S3_SECRET_KEY: bucket.secretKey,
  }
  return { bucket, database, second, host: oldHost(env), env }
}

async function keysIn(t: TestContext, bucket: FreshBucket): Promise<string[]> {
  const { Contents = [] } = await rawClient(t, bucket).listObjectsV2({ Bucket: bucket.bucket })
  return Contents.map(({ Key = '' }) => Key).filter(key => !key.includes('.cairn/'))
}

async function bytesOf(t: TestContext, bucket: FreshBucket, Key: string): Promise<Uint8Array> {
  const { Body } = await rawClient(t, bucket).getObject({ Bucket: bucket.bucket, Key })
  assert.ok(Body)
  return await Body.transformToByteArray()
}

test('moonflower: each database is gzipped SQL under its old name, and comes back with psql and with Cairn', async t => {
  const here = await place(t)
  if (!here) return
  const { bucket, database, second, host } = here
  const ran = await host.cairn(['backup'])
  assert.equal(ran.code, 0, ran.stderr)
  const keys = await keysIn(t, bucket)
  const time = '\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z'
  for (const { name } of [database, second])
    assert.equal(
      keys.filter(key => new RegExp(`^/${name}_${time}\\.sql\\.gz$`).test(key)).length,
      1,
      keys.join(),
    )
  const key = keys.find(each => each.startsWith(`/${database.name}_`)) ?? ''
  const plain = sh('gunzip', await bytesOf(t, bucket, key))
  const target = await freshDatabase(15)
  sh('psql -q -X -v ON_ERROR_STOP=1 -d "$URL"', plain, { URL: target.url })
  assert.equal(await shopDigest(target), await shopDigest(database))

  const listed = (await host.cairn(['list', '--json'])).json<{ id: string; unit: string; kind: string }[]>()
  assert.deepEqual(
    listed.map(({ kind }) => kind),
    ['logical', 'logical'],
  )
  const { id } = listed.find(({ unit }) => unit === database.name) ?? { id: '' }
  const other = await freshDatabase(15)
  const restored = await host.cairn(['restore', id, '--to', other.url])
  assert.equal(restored.code, 0, restored.stderr)
  assert.equal(await shopDigest(other), await shopDigest(database))
  assert.equal((await host.cairn(['verify'])).code, 0)
})

test('moonflower: on a server that refuses keys with a slash in front, they are written and found without', async t => {
  const here = await place(t, { server: 's3-rclone' })
  if (!here) return
  const { bucket, database, host } = here
  const ran = await host.cairn(['backup', '--verbose'])
  assert.equal(ran.code, 0, ran.stderr)
  const key = (await keysIn(t, bucket)).find(each => each.startsWith(`${database.name}_`)) ?? ''
  assert.ok(sh('gunzip', await bytesOf(t, bucket, key)).includes('PostgreSQL database dump'))
  const listed = (await host.cairn(['list', '--json'])).json<{ id: string; unit: string; kind: string }[]>()
  assert.equal(listed.filter(({ kind }) => kind === 'logical').length, 2)
  const { id } = listed.find(({ unit }) => unit === database.name) ?? { id: '' }
  const other = await freshDatabase(15)
  const restored = await host.cairn(['restore', id, '--to', other.url])
  assert.equal(restored.code, 0, restored.stderr)
  assert.equal(await shopDigest(other), await shopDigest(database))
  const verified = await host.cairn(['verify'])
  assert.equal(verified.code, 0, verified.stderr)
  const pruned = await host.cairn(['prune'])
  assert.equal(pruned.code, 0, pruned.stderr)
})

test('moonflower: what it has left is listed as foreign, verified, restored, and damage is found', async t => {
  const here = await place(t)
  if (!here) return
  const { bucket, database, host } = here
  const client = rawClient(t, bucket)
  const dump = sh('pg_dump --no-owner -d "$URL"', undefined, { URL: database.url })
  const key = `/${database.name}_2025-03-01T01:00:00.123Z.sql.gz`
  const cut = `/${database.name}_2025-02-01T01:00:00.000Z.sql.gz`
  const packed = sh('gzip', dump)
  // Where a server has not kept the slash; and what another one has written into a folder.
  const bare = `${database.name}_2025-01-15T01:00:00.000Z.sql.gz`
  for (const each of [bare, `other/${bare}`])
    await client.putObject({ Bucket: bucket.bucket, Key: each, Body: packed })
  await client.putObject({ Bucket: bucket.bucket, Key: key, Body: packed })
  await client.putObject({ Bucket: bucket.bucket, Key: cut, Body: packed.subarray(0, packed.length - 30) })
  await client.putObject({ Bucket: bucket.bucket, Key: '/somebody_elses.sql.gz', Body: packed })
  const listed = (await host.cairn(['list', '--json'])).json<
    { id: string; kind: string; startedAt: string }[]
  >()
  assert.deepEqual(
    listed.map(({ kind }) => kind),
    ['foreign', 'foreign', 'foreign'],
  )
  assert.equal(new Date(listed[0]?.startedAt ?? '').toISOString().slice(0, 19), '2025-03-01T01:00:00')
  const [whole, short, slashless] = listed.map(({ id }) => id)
  assert.ok(whole && short && slashless)
  const third = await freshDatabase(15)
  const back = await host.cairn(['restore', slashless, '--to', third.url])
  assert.equal(back.code, 0, back.stderr)
  assert.equal(await shopDigest(third), await shopDigest(database))
  assert.match((await host.cairn(['show', slashless])).out, new RegExp(`/${bucket.bucket}/${bare}`))
  assert.match((await host.cairn(['show', whole])).out, /foreign|no digest/)
  assert.equal((await host.cairn(['verify', whole])).code, 0)
  const damaged = await host.cairn(['verify', short])
  assert.equal(damaged.code, 20, damaged.stderr)
  const target = await freshDatabase(15)
  const restored = await host.cairn(['restore', key, '--to', target.url])
  assert.equal(restored.code, 0, restored.stderr)
  assert.equal(await shopDigest(target), await shopDigest(database))
  const broken = await freshDatabase(15)
  assert.equal((await host.cairn(['restore', short, '--to', broken.url])).code, 20)
})

test('moonflower: encrypted with a passphrase or for a key it is read with gpg, and by Cairn', async t => {
  const here = await place(t)
  if (!here) return
  const { bucket, database, host } = here
  const only = { PG_DATABASES: database.name }
  const passphrase = { ...only, ENCRYPTION_PASSPHRASE: 'my secret "passphrase' }
  assert.equal((await host.cairn(['backup'], passphrase)).code, 0)
  const [symmetric = ''] = await keysIn(t, bucket)
  assert.match(symmetric, /\.sql\.gpg$/)
  const home = host.path('gnupg')
  writeFileSync(host.path('passphrase'), passphrase.ENCRYPTION_PASSPHRASE)
  const env = { GNUPGHOME: home, PASS: host.path('passphrase') }
  sh(
    'mkdir -m 700 "$GNUPGHOME"; gpg -q --batch --passphrase "" --quick-gen-key "Backup Encryption Key" default default',
    undefined,
    env,
  )
  const plain = sh(
    'gpg -q -d --batch --pinentry-mode loopback --passphrase-file "$PASS"',
    await bytesOf(t, bucket, symmetric),
    env,
  )
  assert.match(plain.toString(), /PostgreSQL database dump complete/)

  const publicKey = sh('gpg --export --armor | base64 -w 0', undefined, env).toString()
  await rawClient(t, bucket).deleteObject({ Bucket: bucket.bucket, Key: symmetric })
  assert.equal((await host.cairn(['backup'], { ...only, ENCRYPTION_PUBLIC_KEY: publicKey })).code, 0)
  const [asymmetric = ''] = await keysIn(t, bucket)
  const decrypted = sh('gpg -q -d', await bytesOf(t, bucket, asymmetric), env)
  assert.match(decrypted.toString(), /PostgreSQL database dump complete/)
  sh('gpgconf --kill all', undefined, env)
  // An identity is what the old configuration never held.
  const target = await freshDatabase(15)
  const restored = await host.cairn(['restore', asymmetric, '--to', target.url], {
    ...only,
    ENCRYPTION_PUBLIC_KEY: publicKey,
  })
  assert.equal(restored.code, 12, restored.stderr)
})

test('moonflower: Object Lock, Expires, the folder and retention are as its variables say', async t => {
  const here = await place(t, { lock: true })
  if (!here) return
  const { bucket, database, host } = here
  const said = {
    PG_DATABASES: database.name,
    S3_PATH: '/db/',
    S3_GOVERNANCE: '1 month',
    S3_EXPIRES_IN: '30 days',
  }
  const client = rawClient(t, bucket)
  const old = `db/${database.name}_2020-01-01T00:00:00.000Z.sql.gz`
  await client.putObject({ Bucket: bucket.bucket, Key: old, Body: sh('gzip', Buffer.from('SELECT 1;\n')) })
  assert.equal((await host.cairn(['backup'], said)).code, 0)
  const key = (await keysIn(t, bucket)).find(each => each !== old) ?? ''
  assert.match(key, /^db\/db_/)
  const head = await client.headObject({ Bucket: bucket.bucket, Key: key })
  assert.equal(head.ObjectLockMode, 'GOVERNANCE')
  const days = ((head.ObjectLockRetainUntilDate?.getTime() ?? 0) - Date.now()) / 86_400_000
  assert.ok(days > 27 && days < 32, String(days))
  const gone = (new Date(head.ExpiresString ?? '').getTime() - Date.now()) / 86_400_000
  assert.ok(gone > 29.9 && gone < 30.1, String(gone))
  const pruned = await host.cairn(['prune'], said)
  assert.equal(pruned.code, 0, pruned.stderr)
  assert.deepEqual(await keysIn(t, bucket), [key])
})

test('moonflower: what is missing or wrong is named, all at once, before anything is touched', async () => {
  const host = oldHost({ PG_DATABASES: 'shop' })
  const missing = await host.cairn(['backup'])
  assert.equal(missing.code, 2)
  for (const name of [
    'PG_HOST',
    'PG_USER',
    'PG_PASSWORD',
    'S3_ENDPOINT',
    'S3_BUCKET',
    'S3_ACCESS_KEY',
    'S3_SECRET_KEY',
  ])
    assert.match(missing.stderr, new RegExp(`${name}: expected .*it is not set`), name)
  const whole = {
    ...{ PG_HOST: 'h', PG_USER: 'u', PG_PASSWORD: 'p', S3_ENDPOINT: 'https://s3.example', S3_BUCKET: 'b' },
    ...{ S3_ACCESS_KEY: 'k', S3_SECRET_KEY: 's' },
  }
  const wrong: [string, string][] = [
    ['PG_PORT', 'http'],
    ['S3_GOVERNANCE', 'next monday'],
    ['S3_EXPIRES_IN', '30'],
    ['WEBHOOK_START', 'hc-ping'],
    ['ENCRYPTION_PASSPHRASE', 'short77'],
  ]
  for (const [name, value] of wrong) {
    const { code, stderr } = await host.cairn(['config', 'from-env'], { ...whole, [name]: value })
    assert.equal(code, 2, name)
    assert.match(stderr, new RegExp(`${name}: expected`))
    if (name === 'ENCRYPTION_PASSPHRASE') assert.doesNotMatch(stderr, /short77/)
  }
  const odd = await host.cairn(['config', 'from-env'], {
    ...whole,
    S3_REGOIN: 'x',
    PG_PORT: '',
    S3_PORT_80_TCP: 'tcp://x',
  })
  assert.equal(odd.code, 0, odd.stderr)
  assert.match(odd.stderr, /S3_REGOIN means nothing; did you mean S3_REGION/)
  assert.doesNotMatch(odd.stderr, /TCP/)
  assert.match(odd.out, /port: 5432/)
})

test('moonflower: the quick start names the keys of S3 otherwise, secrets come from files, quotes are taken off', async t => {
  const here = await place(t)
  if (!here) return
  const { bucket, database, host } = here
  writeFileSync(host.path('password'), `${database.password}\n`)
  const ran = await host.cairn(['backup'], {
    ...{ PG_DATABASES: `"${database.name}"`, PG_PASSWORD: '', PG_PASSWORD_FILE: host.path('password') },
    ...{ S3_KEY_ID: bucket.accessKey, S3_ACCESS_KEY: `'${bucket.secretKey}'`, S3_SECRET_KEY: undefined },
  })
  assert.equal(ran.code, 0, ran.stderr)
})

test('moonflower: its environment as a configuration makes the same kind of backup', async t => {
  const here = await place(t)
  if (!here) return
  const { bucket, database, host } = here
  const yaml = await host.cairn(['config', 'from-env'], { PG_DATABASES: database.name })
  assert.equal(yaml.code, 0, yaml.stderr)
  for (const secret of [database.password, bucket.secretKey]) assert.ok(!yaml.out.includes(secret))
  writeFileSync(host.config, yaml.out)
  const env = {
    PG_PASSWORD: database.password,
    S3_ACCESS_KEY: bucket.accessKey,
    S3_SECRET_KEY: bucket.secretKey,
  }
  await host.ok(['backup'], { env })
  const [key = ''] = await keysIn(t, bucket)
  assert.match(key, new RegExp(`^/${database.name}_.*\\.sql\\.gz$`))
  assert.match(readFileSync(host.config, 'utf8'), /dialect moonflower/)
})

test('moonflower: by its schedule, each run with its webhooks and its log, a failure does not end it', async t => {
  const here = await place(t)
  if (!here) return
  const { bucket, database, host } = here
  await using server = await webhookServer()
  const hooks = {
    WEBHOOK_START: `${server.origin}/start`,
    WEBHOOK_SUCCESS: `${server.origin}/success`,
    WEBHOOK_FAILURE: `${server.origin}/failure`,
    WEBHOOK_POST_LOGS: '1',
  }
  const env = { ...here.env, ...hooks, SCHEDULE: '* * * * * *', PG_DATABASES: `${database.name} nowhere` }
  const running = host.start(['run'], { env })
  await server.called('failure', 2)
  running.child.kill('SIGTERM')
  assert.equal((await running.ended).code, 143)
  assert.deepEqual(
    server.calls.slice(0, 2).map(({ method, path }) => [method, path]),
    [
      ['POST', '/start'],
      ['POST', '/failure'],
    ],
  )
  const body = server.calls.find(({ path }) => path === '/failure')?.body ?? ''
  assert.match(body, /nowhere/)
  for (const secret of [database.password, bucket.secretKey]) assert.ok(!body.includes(secret))
  assert.ok((await keysIn(t, bucket)).some(key => key.includes(database.name)))
  writeFileSync(host.path('success'), hooks.WEBHOOK_SUCCESS)
  const fromFile = { WEBHOOK_SUCCESS: '', WEBHOOK_SUCCESS_FILE: host.path('success') }
  const once = await host.cairn(['run'], { ...hooks, ...fromFile, PG_DATABASES: database.name })
  assert.equal(once.code, 0, once.stderr)
  assert.equal(server.calls.at(-1)?.path, '/success')
})
