// budget: 120 s

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import {
  type FreshDatabase,
  freshBucket,
  freshDatabase,
  freshFolder,
  freshServer,
  newerRclone,
  orSkip,
  postgresClients,
  postgresMajors,
  service,
} from './index.ts'
import { run } from './process.ts'

const clientMajors = [15, 17, 18] as const
const rclones = ['rclone', newerRclone].filter(path => path === 'rclone' || existsSync(path))

type Login = Pick<FreshDatabase, 'host' | 'port' | 'user' | 'password' | 'name'>

/** Runs a client program the way a person would: libpq's variables, found by its path. */
function client(major: number, program: string, database: Login, ...args: string[]): Promise<string> {
  const { host, port, user, password, name } = database
  const env = { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: name }
  return run(join(postgresClients, String(major), 'bin', program), args, { env })
}

const psql = (major: number, database: Login, sql: string) =>
  client(major, 'psql', database, '-X', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-c', sql)

suite('a PostgreSQL server', { concurrency: true }, () => {
  for (const major of postgresMajors) {
    test(`of version ${major} answers with its version`, async t => {
      const database = await orSkip(t, freshDatabase(major))
      if (!database) return
      const version = await psql(15, database, 'show server_version')
      assert.match(version, new RegExp(`^${major}\\.`))
      await database.drop()
      await assert.rejects(psql(15, database, 'select 1'), /does not exist/)
    })
  }
})

test('two fresh databases of a server know nothing of each other', async t => {
  const [one, other] = (await orSkip(t, Promise.all([freshDatabase(15), freshDatabase(15)]))) ?? []
  if (!one || !other) return
  assert.equal(one.port, other.port)
  await psql(15, one, 'create table only_here (id int)')
  await assert.rejects(psql(15, other, 'select * from only_here'), /does not exist/)
})

suite('the PostgreSQL clients', { concurrency: true }, () => {
  for (const major of clientMajors) {
    test(`of version ${major} dump a database and restore it`, async t => {
      const from = await orSkip(t, freshDatabase(major))
      const to = await orSkip(t, freshDatabase(major))
      if (!from || !to) return
      await psql(major, from, `create table thing as select 7 as id, 'sieben' as name`)
      const dump = join(await freshFolder(), 'thing.dump')
      await client(major, 'pg_dump', from, '-Fc', '-f', dump)
      await client(major, 'pg_restore', to, '-d', to.name, '--exit-on-error', dump)
      assert.equal(await psql(major, to, 'select name from thing where id = 7'), 'sieben\n')
    })

    test(`of version ${major} dump a whole server with pg_dumpall, which calls pg_dump`, async t => {
      const server = await orSkip(t, freshServer(major))
      if (!server) return
      const { host, port, user, password } = server
      const database = { major, host, port, user, password, name: 'postgres' }
      await psql(major, database, 'create table thing_of_all (id int)')
      const everything = await client(major, 'pg_dumpall', database, '--no-sync')
      assert.match(everything, /CREATE ROLE postgres;/)
      assert.match(everything, /CREATE TABLE public\.thing_of_all/)
      assert.match(everything, new RegExp(`Dumped by pg_dump version ${major}\\.`))
    })
  }

  for (const major of [17, 18] as const) {
    test(`of version ${major} take and verify a base backup`, async t => {
      const database = await orSkip(t, freshDatabase(major))
      if (!database) return
      const folder = join(await freshFolder(), 'base')
      await client(major, 'pg_basebackup', database, '-D', folder, '--checkpoint=fast', '--no-sync')
      await client(major, 'pg_verifybackup', database, folder)
    })
  }
})

suite('the S3 server', () => {
  test('gives back what was put, to those with the key', async t => {
    const s3 = await orSkip(t, freshBucket())
    if (!s3) return
    const file = join(await freshFolder(), 'object')
    await writeFile(file, 'put by curl')
    const object = `${s3.endpoint}/${s3.bucket}/folder/object`
    const signed = [
      '-fsS',
      '--aws-sigv4',
      `aws:amz:${s3.region}:s3`,
      '-H',
      'x-amz-content-sha256: UNSIGNED-PAYLOAD',
    ]
    await run('curl', [...signed, '-u', `${s3.accessKey}:${s3.secretKey}`, '-T', file, object])
    const got = await run('curl', [...signed, '-u', `${s3.accessKey}:${s3.secretKey}`, object])
    assert.equal(got, 'put by curl')
    await assert.rejects(run('curl', [...signed, '-u', `${s3.accessKey}:wrong`, object]), /403/)
    for (const other of s3.others) {
      await assert.rejects(
        run('curl', [...signed, '-u', `${other.accessKey}:${other.secretKey}`, object]),
        /403/,
      )
    }
  })

  test('keeps a locked object from its owner', async t => {
    const s3 = await orSkip(t, freshBucket({ lock: true }))
    if (!s3) return
    const { s3Client } = await import('./s3.ts')
    const { DeleteObjectCommand, PutObjectCommand } = await import('@aws-sdk/client-s3')
    const client = s3Client(s3)
    t.after(() => client.destroy())
    const locked = {
      ObjectLockMode: 'COMPLIANCE',
      ObjectLockRetainUntilDate: new Date(Date.now() + 60_000),
    } as const
    const object = { Bucket: s3.bucket, Key: 'kept' }
    const put = await client.send(new PutObjectCommand({ ...object, Body: 'kept', ...locked }))
    assert.ok(put.VersionId)
    const remove = new DeleteObjectCommand({ ...object, VersionId: put.VersionId })
    await assert.rejects(client.send(remove), { name: 'AccessDenied' })
  })
})

test('SFTP takes a file from rclone, by key, and only at the known host', async t => {
  const sftp = await orSkip(t, service('sftp'))
  if (!sftp) return
  const file = join(await freshFolder(), 'file')
  await writeFile(file, 'over ssh')
  const remote = (knownHosts: string) =>
    `:sftp,host='${sftp.host}',port=${sftp.port},user='${sftp.user}',key_file='${sftp.keyFile}',known_hosts_file='${knownHosts}':${sftp.folder}`
  for (const rclone of rclones) {
    const target = join('taken', rclone.replaceAll('/', '-'))
    await run(rclone, ['copyto', file, `${remote(sftp.knownHosts)}/${target}`])
    assert.equal(await readFile(join(sftp.folder, target), 'utf8'), 'over ssh')
  }
  const strangers = join(await freshFolder(), 'known_hosts')
  await writeFile(strangers, '')
  const once = ['--retries', '1', '--low-level-retries', '1']
  await assert.rejects(run('rclone', ['lsf', ...once, remote(strangers)]), /key is unknown/)
})

test('WebDAV takes a file from rclone, by password', async t => {
  const webdav = await orSkip(t, service('webdav'))
  if (!webdav) return
  const folder = await freshFolder()
  await mkdir(join(folder, 'in'))
  await writeFile(join(folder, 'in/file'), 'over http')
  for (const rclone of rclones) {
    const target = rclone.replaceAll('/', '-')
    const obscured = (await run(rclone, ['obscure', webdav.password])).trim()
    const remote = `:webdav,url='${webdav.url}',vendor=other,user=${webdav.user},pass=${obscured}:${target}`
    await run(rclone, ['copy', folder, remote])
    assert.equal(await readFile(join(webdav.folder, target, 'in/file'), 'utf8'), 'over http')
  }
  const refused = await fetch(webdav.url, { method: 'PROPFIND' })
  assert.equal(refused.status, 401)
})

test('a fresh folder is empty and of this test alone', async () => {
  const [one, other] = await Promise.all([freshFolder(), freshFolder()])
  assert.notEqual(one, other)
  assert.ok((await stat(one)).isDirectory())
})
