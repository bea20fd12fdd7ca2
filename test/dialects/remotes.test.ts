// budget: 200 s
import assert from 'node:assert/strict'
import { existsSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ofTypes, secretOptions } from '../../src/config/dialects/rclone-secrets.ts'
import { freshBucket, freshFolder, newerRclone, orSkip, service } from '../services/index.ts'
import { rawClient } from '../support/s3-bucket.ts'
import { oldHost, roundTrip, sh, shop } from './support.ts'

test('rclone: an SFTP server with its key and known hosts, below an absolute path', async t => {
  const here = await shop(t)
  const sftp = await orSkip(t, service('sftp'))
  if (!here || !sftp) return
  const host = oldHost({
    ...here.env,
    RCLONE_CONFIG_STORE_TYPE: 'sftp',
    RCLONE_CONFIG_STORE_SHELL_TYPE: 'none',
    RCLONE_CONFIG_STORE_HOST: sftp.host,
    RCLONE_CONFIG_STORE_PORT: String(sftp.port),
    RCLONE_CONFIG_STORE_USER: sftp.user,
    RCLONE_CONFIG_STORE_KEY_FILE: sftp.keyFile,
    RCLONE_CONFIG_STORE_KNOWN_HOSTS_FILE: sftp.knownHosts,
    UPLOAD_PREFIX: `${sftp.folder}/${here.database.name}`,
  })
  await roundTrip(host, here.database)
})

test('rclone: a WebDAV server', async t => {
  const here = await shop(t)
  const webdav = await orSkip(t, service('webdav'))
  if (!here || !webdav) return
  const host = oldHost({
    ...here.env,
    RCLONE_CONFIG_STORE_TYPE: 'webdav',
    RCLONE_CONFIG_STORE_URL: webdav.url,
    RCLONE_CONFIG_STORE_USER: webdav.user,
    RCLONE_CONFIG_STORE_PASS: sh('rclone obscure "$P"', undefined, { P: webdav.password }).toString().trim(),
    UPLOAD_PREFIX: here.database.name,
  })
  await roundTrip(host, here.database)
})

test('rclone: a connection string works, and the password in it is never printed', async t => {
  const here = await shop(t)
  const webdav = await orSkip(t, service('webdav'))
  if (!here || !webdav) return
  const pass = sh('rclone obscure "$P"', undefined, { P: webdav.password }).toString().trim()
  const host = oldHost({
    ...here.env,
    REMOTE_NAME: `:webdav,url="${webdav.url}",user=${webdav.user},pass=${pass}:`,
    UPLOAD_PREFIX: here.database.name,
  })
  await roundTrip(host, here.database)
  const shown = await host.cairn(['config', 'from-env'])
  assert.equal(shown.code, 0, shown.stderr)
  assert.match(shown.stdout.toString(), /url: http/)
  assert.ok(!`${shown.stdout}${shown.stderr}`.includes(pass))
})

test('rclone: S3 as the README has it, and with credentials that may only write', async t => {
  const here = await shop(t)
  const bucket = await orSkip(t, freshBucket())
  if (!here || !bucket) return
  if (!existsSync(newerRclone)) return t.skip(`no rclone of 1.70 or newer: ${newerRclone}`)
  const folder = await freshFolder()
  symlinkSync(newerRclone, join(folder, 'rclone'))
  const [writer] = bucket.others
  assert.ok(writer)
  const env = {
    ...here.env,
    PATH: `${folder}:${process.env.PATH}`,
    ...{
      RCLONE_CONFIG_STORE_TYPE: 's3',
      RCLONE_CONFIG_STORE_PROVIDER: 'Ceph',
      RCLONE_CONFIG_STORE_ENV_AUTH: 'true',
    },
    ...{ AWS_ENDPOINT_URL_S3: bucket.endpoint, AWS_REGION: bucket.region },
    ...{ AWS_ACCESS_KEY_ID: bucket.accessKey, AWS_SECRET_ACCESS_KEY: bucket.secretKey },
    UPLOAD_PREFIX: `${bucket.bucket}/db`,
  }
  await roundTrip(oldHost(env), here.database)
  const Principal = { AWS: [`arn:aws:iam:::user/${writer.name}`] }
  const Resource = [`arn:aws:s3:::${bucket.bucket}`, `arn:aws:s3:::${bucket.bucket}/*`]
  const Statement = [
    { Effect: 'Allow', Principal, Action: ['s3:PutObject'], Resource },
    { Effect: 'Deny', Principal, NotAction: ['s3:PutObject'], Resource },
  ]
  const Policy = JSON.stringify({ Version: '2012-10-17', Statement })
  await rawClient(t, bucket).putBucketPolicy({ Bucket: bucket.bucket, Policy })
  const host = oldHost({
    ...env,
    ...{ AWS_ACCESS_KEY_ID: writer.accessKey, AWS_SECRET_ACCESS_KEY: writer.secretKey },
    ...{ RCLONE_S3_NO_CHECK_BUCKET: 'true', RCLONE_S3_NO_HEAD: 'true', BACKUP_FILE_NAME: 'only/$DB-%s' },
  })
  const ran = await host.cairn(['run'])
  assert.equal(ran.code, 0, ran.stderr)
  const { Contents = [] } = await rawClient(t, bucket).listObjectsV2({
    Bucket: bucket.bucket,
    Prefix: 'db/only/',
  })
  assert.equal(Contents.length, 1)
})

test('rclone: a server that is not there, and a login that is wrong, are one clear error each', async t => {
  const here = await shop(t)
  if (!here) return
  const nowhere = { RCLONE_CONFIG_STORE_TYPE: 'webdav', RCLONE_CONFIG_STORE_URL: 'http://127.0.0.1:1/' }
  const ran = await oldHost({ ...here.env, ...nowhere }).cairn(['backup'])
  assert.equal(ran.code, 1, ran.stderr)
  assert.match(ran.stderr, /connection refused/)
  const password = await oldHost({
    ...here.env,
    REMOTE_NAME: ':local',
    UPLOAD_PREFIX: '/nowhere',
    PGPASSWORD: 'wrong',
  }).cairn(['run'])
  assert.notEqual(password.code, 0)
  assert.match(password.stderr, /the password for user .* is wrong/)
})

test('rclone: an SMB server, spelled as the README has it, with the password in clear', async t => {
  const here = await shop(t)
  const smb = await orSkip(t, service('smb'))
  if (!here || !smb) return
  const host = oldHost({
    ...here.env,
    RCLONE_CONFIG_STORE_SMB_HOST: smb.host,
    RCLONE_CONFIG_STORE_SMB_PORT: String(smb.port),
    RCLONE_CONFIG_STORE_SMB_USER: smb.user,
    RCLONE_CONFIG_STORE_SMB_PASS: smb.password,
    RCLONE_CONFIG_STORE_SMB_DOMAIN: 'workgroup',
    UPLOAD_PREFIX: `${smb.share}/${here.database.name}`,
  })
  await roundTrip(host, here.database)
})

test('rclone: a password in a file, as RCLONE_CONFIG_STORE_PASS_FILE, opens the remote and is never printed', async t => {
  const here = await shop(t)
  const webdav = await orSkip(t, service('webdav'))
  if (!here || !webdav) return
  const pass = sh('rclone obscure "$P"', undefined, { P: webdav.password }).toString().trim()
  const folder = await freshFolder()
  const [file, wrong] = [join(folder, 'pass'), join(folder, 'wrong')]
  writeFileSync(file, `${pass}\n`)
  writeFileSync(wrong, `${sh('rclone obscure wrong').toString().trim()}\n`)
  const host = oldHost({
    ...here.env,
    RCLONE_CONFIG_STORE_TYPE: 'webdav',
    RCLONE_CONFIG_STORE_URL: webdav.url,
    RCLONE_CONFIG_STORE_USER: webdav.user,
    RCLONE_CONFIG_STORE_PASS_FILE: file,
    UPLOAD_PREFIX: here.database.name,
  })
  await roundTrip(host, here.database)
  const refused = await host.cairn(['list', '--verbose'], { RCLONE_CONFIG_STORE_PASS_FILE: wrong })
  assert.notEqual(refused.code, 0)
  const missing = await host.cairn(['run', '--verbose'], {
    RCLONE_CONFIG_STORE_PASS_FILE: join(folder, 'no'),
  })
  assert.equal(missing.code, 2)
  assert.match(missing.stderr, /RCLONE_CONFIG_STORE_PASS_FILE: expected a file that can be read/)
  const both = await host.cairn(['list', '--verbose'], {
    RCLONE_CONFIG_STORE_PASS_FILE: wrong,
    RCLONE_CONFIG_STORE_PASS: pass,
  })
  assert.equal(both.code, 0, both.stderr)
  assert.match(both.stderr, /RCLONE_CONFIG_STORE_PASS and RCLONE_CONFIG_STORE_PASS_FILE are both set/)
  const shown = await host.cairn(['config', 'show'])
  for (const { stdout, stderr } of [refused, missing, both, shown])
    assert.ok(!`${stdout}${stderr}`.includes(pass))
})

test('no backend of rclone has an option of the name that a file for a secret would have', t => {
  const programs = ['rclone', newerRclone].filter(program => program === 'rclone' || existsSync(program))
  for (const program of programs) {
    interface Backend {
      readonly Name: string
      readonly Options: readonly { readonly Name: string }[]
    }
    const backends: Backend[] = JSON.parse(sh(`"${program}" config providers`).toString())
    const having = (option: string): string[] =>
      backends.filter(({ Options }) => Options.some(({ Name }) => Name === option)).map(({ Name }) => Name)
    for (const option of secretOptions)
      assert.deepEqual(having(`${option}_file`), [], `${program}: ${option}`)
    for (const [option, types] of Object.entries(ofTypes))
      assert.ok(!having(`${option}_file`).some(name => types.includes(name)), `${program}: ${option}`)
    if (program === newerRclone) assert.ok(having('secret_access_key').includes('s3'))
  }
  t.diagnostic(`asked ${programs.join(' and ')}`)
})
