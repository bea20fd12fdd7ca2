// budget: 240 s
import assert from 'node:assert/strict'
import { chmodSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  type FreshBucket,
  type FreshDatabase,
  freshBucket,
  freshDatabase,
  orSkip,
} from '../services/index.ts'
import { sql } from '../support/postgres/hostile.ts'
import { rawClient } from '../support/s3-bucket.ts'
import { fillShop, type OldHost, oldHost, sh, shopDigest } from './support.ts'

interface Place {
  readonly bucket: FreshBucket
  readonly database: FreshDatabase
  readonly host: OldHost
}

/** A database, a bucket that keeps versions or not, and what the old image was given. */
async function place(t: TestContext, lock = true, server?: 's3-rclone'): Promise<Place | null> {
  const bucket = await orSkip(t, freshBucket({ lock, ...(server && { server }) }))
  const database = await orSkip(t, freshDatabase(15))
  if (!bucket || !database) return null
  await fillShop(database)
  const host = oldHost({})
  const { name, port, user, password } = database
  writeFileSync(host.path('pgpass'), `${database.host}:${port}:*:${user}:${password}\n`, { mode: 0o600 })
  writeFileSync(host.path('encrypt.key'), `${'k'.repeat(40)}\n`, { mode: 0o600 })
  const env = {
    ...{ AWS_ACCESS_KEY_ID: bucket.accessKey, AWS_SECRET_ACCESS_KEY: bucket.secretKey },
    ...{ AWS_DEFAULT_REGION: bucket.region, AWS_BUCKET: bucket.bucket, AWS_ENDPOINT_URL: bucket.endpoint },
    ...{ AWS_BACKUP_SCHEDULE_TAG: 'daily & more', PG_HOST: database.host, PG_PORT: String(port) },
    ...{
      PG_DB: name,
      PG_USER: user,
      PGPASSFILE: host.path('pgpass'),
      ENCRYPT_KEY_FILE: host.path('encrypt.key'),
    },
  }
  return {
    bucket,
    database,
    host: { ...host, cairn: (args, changes) => host.run(args, { env: { ...env, ...changes } }) },
  }
}

/** Decrypts and unpacks what lies under the old key, as anybody would; returns the folder. */
async function unpacked(t: TestContext, { bucket, database, host }: Place): Promise<string> {
  const Key = `${database.name}-backup.enc`
  const { Body } = await rawClient(t, bucket).getObject({ Bucket: bucket.bucket, Key })
  const dir = host.path('unpacked')
  sh(
    'rm -rf "$DIR"; mkdir "$DIR"; aespipe -d -e AES256 -C 10000 -P "$KEY" | gzip -dcq | tar -x -C "$DIR" || test $? = 2',
    await Body?.transformToByteArray(),
    {
      DIR: dir,
      KEY: host.path('encrypt.key'),
    },
  )
  return dir
}

test('pgdump-s3: the object under the old key holds the dump and the globals, with its tag, and each backup is a version', async t => {
  const here = await place(t)
  if (!here) return
  const { bucket, database, host } = here
  writeFileSync(host.path('secret'), `${bucket.secretKey}\n`)
  const fromFile = { AWS_SECRET_ACCESS_KEY: '', AWS_SECRET_ACCESS_KEY_FILE: host.path('secret') }
  for (let n = 0; n < 2; n++) {
    const ran = await host.cairn(['run'], n === 0 ? {} : fromFile)
    assert.equal(ran.code, 0, ran.stderr)
    if (n === 0) await sql(database, 'DELETE FROM item WHERE id > 400')
  }
  const dir = await unpacked(t, here)
  assert.deepEqual(readdirSync(dir).sort(), [`${database.host}-globals`, `${database.name}-backup`].sort())
  const target = await freshDatabase(15)
  sh('pg_restore --no-owner -j 2 -d "$URL" "$DUMP"', undefined, {
    URL: target.url,
    DUMP: join(dir, `${database.name}-backup`),
  })
  assert.equal(await shopDigest(target), await shopDigest(database))
  const { TagSet } = await rawClient(t, bucket).getObjectTagging({
    Bucket: bucket.bucket,
    Key: `${database.name}-backup.enc`,
  })
  assert.deepEqual(TagSet, [{ Key: 'backup/schedule', Value: 'daily & more' }])

  const listed = (await host.cairn(['list', '--json'])).json<{ id: string; kind: string }[]>()
  assert.deepEqual(
    listed.map(({ kind }) => kind),
    ['logical', 'logical'],
  )
  assert.equal((await host.cairn(['verify'])).code, 0)
  const restored = await host.cairn(['restore', listed[1]?.id ?? '', '--yes'])
  assert.equal(restored.code, 0, restored.stderr)
  const [{ n } = { n: 0 }] = await sql<{ n: number }>(database, 'SELECT count(*)::int AS n FROM item')
  assert.equal(n, 500)
})

test('pgdump-s3: versions of the old tool are listed and restored; a version that is gone is not listed', async t => {
  const here = await place(t)
  if (!here) return
  const { bucket, database, host } = here
  const client = rawClient(t, bucket)
  const Key = `${database.name}-backup.enc`
  sh(
    'cd "$DIR"; pg_dump -Fd -j 2 -Z 0 -d "$URL" -f "$NAME-backup"; pg_dumpall --globals-only -d "$URL" > "$H-globals"; tar -cz "$NAME-backup" "$H-globals" | aespipe -e AES256 -C 10000 -P "$KEY" > out.enc',
    undefined,
    {
      DIR: host.folder,
      URL: database.url,
      NAME: database.name,
      H: database.host,
      KEY: host.path('encrypt.key'),
    },
  )
  const Body = sh('cat "$DIR/out.enc"', undefined, { DIR: host.folder })
  const { VersionId } = await client.putObject({ Bucket: bucket.bucket, Key, Body })
  assert.equal((await host.cairn(['backup'])).code, 0)
  const listed = (await host.cairn(['list', '--json'])).json<
    { id: string; kind: string; encrypted: boolean }[]
  >()
  assert.deepEqual(
    listed.map(({ kind, encrypted }) => [kind, encrypted]),
    [
      ['logical', true],
      ['foreign', true],
    ],
  )
  await sql(database, 'DROP TABLE item')
  const restored = await host.cairn(['restore', '--yes', '--', VersionId ?? ''])
  assert.equal(restored.code, 0, restored.stderr)
  await shopDigest(database)
  writeFileSync(host.path('other.key'), `${'x'.repeat(40)}\n`)
  const wrong = await host.cairn(['restore', '--yes', '--', VersionId ?? ''], {
    ENCRYPT_KEY_FILE: host.path('other.key'),
  })
  assert.equal(wrong.code, 12, wrong.stderr)
  const { Versions = [] } = await client.listObjectVersions({ Bucket: bucket.bucket, Prefix: Key })
  const newest = Versions.find(version => version.IsLatest)?.VersionId
  await client.deleteObject({ Bucket: bucket.bucket, Key, VersionId: newest })
  const left = (await host.cairn(['list', '--json'])).json<{ kind: string }[]>()
  assert.deepEqual(
    left.map(({ kind }) => kind),
    ['foreign'],
  )
  // Its manifest goes with the next good backup; that of a version which is there stays.
  const manifests = async (): Promise<number> => {
    const { Versions: all = [] } = await client.listObjectVersions({
      Bucket: bucket.bucket,
      Prefix: '.cairn/v1/manifests/',
    })
    return all.length
  }
  assert.equal((await host.cairn(['backup'])).code, 0)
  assert.equal(await manifests(), 1)
  assert.equal((await host.cairn(['backup'])).code, 0)
  assert.equal(await manifests(), 2)
})

test('pgdump-s3: the right to put and to tag is enough, and what Cairn records beside may be refused', async t => {
  const here = await place(t, false)
  if (!here) return
  const { bucket, database, host } = here
  const [writer] = bucket.others
  assert.ok(writer)
  const Principal = { AWS: [`arn:aws:iam:::user/${writer.name}`] }
  const own = `arn:aws:s3:::${bucket.bucket}/${database.name}-backup.enc`
  const everything = [`arn:aws:s3:::${bucket.bucket}`, `arn:aws:s3:::${bucket.bucket}/*`]
  const Statement = [
    { Effect: 'Allow', Principal, Action: ['s3:PutObject', 's3:PutObjectTagging'], Resource: [own] },
    { Effect: 'Deny', Principal, NotAction: ['s3:PutObject', 's3:PutObjectTagging'], Resource: everything },
  ]
  await rawClient(t, bucket).putBucketPolicy({
    Bucket: bucket.bucket,
    Policy: JSON.stringify({ Version: '2012-10-17', Statement }),
  })
  const as = { AWS_ACCESS_KEY_ID: writer.accessKey, AWS_SECRET_ACCESS_KEY: writer.secretKey }
  const ran = await host.cairn(['run'], as)
  assert.equal(ran.code, 0, ran.stderr)
  assert.match(ran.stderr, /does not take what Cairn records/)
  // In Ceph, who has written an object is the one who may be allowed to read it.
  const Open = [{ Effect: 'Allow', Principal, Action: ['s3:*'], Resource: everything }]
  await rawClient(t, bucket).putBucketPolicy({
    Bucket: bucket.bucket,
    Policy: JSON.stringify({ Version: '2012-10-17', Statement: Open }),
  })
  const asWriter = {
    ...here,
    bucket: { ...bucket, accessKey: writer.accessKey, secretKey: writer.secretKey },
  }
  assert.equal(readdirSync(await unpacked(t, asWriter)).length, 2)
  const listed = (await host.cairn(['list', '--json'], as)).json<{ kind: string }[]>()
  assert.deepEqual(
    listed.map(({ kind }) => kind),
    ['foreign'],
  )
})

test('pgdump-s3: a server that keeps no tags has the backup all the same; that they are missing is told, by exit 3 too', async t => {
  const here = await place(t, false, 's3-rclone')
  if (!here) return
  const { database, host } = here
  const ran = await host.cairn(['run'])
  assert.equal(ran.code, 3, ran.stderr)
  assert.equal(ran.stderr.match(/the tags of .* cannot be set/g)?.length, 1, ran.stderr)
  const listed = (await host.cairn(['list', '--json'])).json<{ id: string; kind: string }[]>()
  assert.deepEqual(
    listed.map(({ kind }) => kind),
    ['logical'],
  )
  const before = await shopDigest(database)
  await sql(database, 'DELETE FROM item WHERE id > 400')
  const restored = await host.cairn(['restore', listed[0]?.id ?? '', '--yes'])
  assert.equal(restored.code, 0, restored.stderr)
  assert.equal(await shopDigest(database), before)
})

test('pgdump-s3: a dump that fails does not take the place of the last good one', async t => {
  const here = await place(t, false)
  if (!here) return
  const { bucket, database, host } = here
  assert.equal((await host.cairn(['run'])).code, 0)
  const Key = `${database.name}-backup.enc`
  const before = await rawClient(t, bucket).headObject({ Bucket: bucket.bucket, Key })
  await sql(
    database,
    `UPDATE pg_class SET relnatts = 99 WHERE relname = 'item'`,
    `DELETE FROM pg_attribute WHERE attrelid = 'item'::regclass AND attnum = 2`,
  )
  const failed = await host.cairn(['run'])
  assert.equal(failed.code, 1, failed.stderr)
  const after = await rawClient(t, bucket).headObject({ Bucket: bucket.bucket, Key })
  assert.equal(after.ETag, before.ETag)
  assert.equal((await host.cairn(['verify'])).code, 0)
})

test('pgdump-s3: what is missing or too open is named before anything is dumped', async t => {
  const here = await place(t, false)
  if (!here) return
  const { host } = here
  for (const name of ['PG_HOST', 'PG_DB', 'PG_USER', 'AWS_BUCKET']) {
    const { code, stderr } = await host.cairn(['run'], { [name]: '' })
    assert.equal(code, 2, name)
    assert.match(stderr, new RegExp(`${name}: expected`))
  }
  const port = await host.cairn(['run'], { PG_PORT: '0' })
  assert.match(port.stderr, /PG_PORT: expected a whole number/)
  writeFileSync(host.path('short.key'), 'short\n')
  const short = await host.cairn(['run'], { ENCRYPT_KEY_FILE: host.path('short.key') })
  assert.equal(short.code, 2)
  assert.match(short.stderr, /less than 20 characters/)
  const absent = await host.cairn(['run'], { PGPASSFILE: host.path('nowhere') })
  assert.equal(absent.code, 2, absent.stderr)
  assert.match(absent.stderr, /nowhere: there is no such file/)
  chmodSync(host.path('pgpass'), 0o644)
  const loose = await host.cairn(['run'])
  assert.equal(loose.code, 2)
  assert.match(loose.stderr, /group or others may read/)
})
