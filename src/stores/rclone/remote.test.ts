import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  bucketOf,
  isBroken,
  keyOf,
  nameOf,
  parseRemote,
  secretsOf,
  withLargeParts,
  withoutSecrets,
  writeRemote,
} from './remote.ts'

const none = async () => ({})

test('remotes are taken apart as rclone does it', () => {
  const cases = [
    ['gdrive:backups/x', { name: 'gdrive', settings: {}, path: 'backups/x' }],
    ['gdrive:', { name: 'gdrive', settings: {}, path: '' }],
    ['/srv/a:b', { name: '', settings: {}, path: '/srv/a:b' }],
    ['relative/folder', { name: '', settings: {}, path: 'relative/folder' }],
    [':sftp,host=nas,port=22:a:b', { name: ':sftp', settings: { host: 'nas', port: '22' }, path: 'a:b' }],
    [
      `s3,endpoint="https://a:9,""b""",flag,empty=:bucket`,
      { name: 's3', settings: { endpoint: 'https://a:9,"b"', flag: 'true', empty: '' }, path: 'bucket' },
    ],
    [":a,b='c''d':e", { name: ':a', settings: { b: "c'd" }, path: 'e' }],
    ['my remote,broken', { name: '', settings: {}, path: 'my remote,broken' }],
  ] as const
  for (const [text, remote] of cases) {
    assert.deepEqual(parseRemote(text), remote, text)
    assert.deepEqual(parseRemote(writeRemote(remote)), remote, text)
  }
})

test('passwords of a connection string are secrets, paths to key files are not', () => {
  const remote = parseRemote(':sftp,host=nas,pass=hidden1,key_file=/k,key_pem=hidden2:x')
  assert.deepEqual(
    secretsOf(remote).map(secret => secret.reveal()),
    ['hidden1', 'hidden2'],
  )
  assert.equal(withoutSecrets(':sftp,host=nas,pass=hidden1:x'), ':sftp,host="nas",pass="***":x')
})

test('of a connection string that cannot be read nothing is shown; paths are shown', () => {
  for (const text of [
    ':s3,secret_access_key="geheim:b',
    'nas,pass="geheim',
    ":sftp,pass='geheim:x",
    ':geheim',
  ]) {
    assert.ok(isBroken(text), text)
    assert.equal(withoutSecrets(text), '***')
  }
  for (const text of ['/srv/a,b=c', 'folder', 'a,b', 'nas:x', ':sftp,host=nas:x', 'nas:a,b="c'])
    assert.equal(withoutSecrets(text), text)
})

test('the first folder of a path is the bucket', () => {
  assert.deepEqual(bucketOf('azure:box/a/b/'), { remote: 'azure:box', below: 'a/b' })
  assert.deepEqual(bucketOf(':azureblob,account=x:box/a'), {
    remote: ':azureblob,account="x":box',
    below: 'a',
  })
  for (const text of ['azure:box', 'azure:box/', 'azure:', '/a/folder', 'a/b/c'])
    assert.equal(bucketOf(text), null)
})

test('a stream to S3 gets parts large enough for twice its expected size', async () => {
  const gigabyte = 2 ** 30
  const cases = [
    [1 * gigabyte, ':s3:b'],
    [20 * gigabyte, ':s3:b'],
    [48 * gigabyte, ':s3,chunk_size="16Mi",upload_concurrency="4":b'],
    [500 * gigabyte, ':s3,chunk_size="128Mi",upload_concurrency="1":b'],
    [undefined, ':s3,chunk_size="32Mi",upload_concurrency="2":b'],
  ] as const
  for (const [size, expected] of cases) {
    assert.equal(await withLargeParts(':s3:b', size, none), expected, `${size}`)
  }
})

test('a part size that the user has chosen is kept, and so are remotes without parts', async () => {
  const tera = 2 ** 40
  const chosen = async () => ({ type: 's3', chunk_size: '5Mi' })
  assert.equal(await withLargeParts('mine:b', tera, chosen), 'mine:b')
  assert.equal(await withLargeParts(':s3,chunk_size=6Mi:b', tera, none), ':s3,chunk_size=6Mi:b')
  assert.equal(await withLargeParts('nas:b', tera, async () => ({ type: 'sftp' })), 'nas:b')
  assert.equal(await withLargeParts('nobody:b', tera, none), 'nobody:b')
  assert.equal(await withLargeParts('/a/folder', tera, none), '/a/folder')
})

test('the parts of an encrypting remote are those of the one below', async () => {
  const known: Record<string, Record<string, string>> = {
    secret: { type: 'crypt', remote: 'mine:bucket/dir' },
    mine: { type: 's3' },
  }
  const changed = await withLargeParts('secret:x', 2 ** 37, async name => known[name] ?? {})
  const { settings } = parseRemote(changed)
  assert.equal(settings.remote, 'mine,chunk_size="32Mi",upload_concurrency="2":bucket/dir')
})

test('a remote that stands for itself is left as it is', async () => {
  const circle = async () => ({ type: 'alias', remote: 'me:x' })
  assert.equal(await withLargeParts('me:', 2 ** 40, circle), 'me:')
})

test('keys survive the way rclone spells control characters', () => {
  for (const key of ['a\nb', 'a\u240ab', 'a\u0001\u001f\u007f', '\u2421', 'plain', '\u201bx', 'ü/😀']) {
    assert.equal(keyOf(nameOf(key)), key)
  }
  assert.equal(nameOf('a\nb'), 'a\u240ab')
  assert.notEqual(nameOf('a\nb'), nameOf('a\u240ab'))
})
