// budget: 300 s
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { freshBucket } from '../../../test/services/index.ts'
import { testContext } from '../../../test/support/context.ts'
import {
  openedBucket,
  rawClient,
  storeOf,
  throughProxy,
  unfinished,
} from '../../../test/support/s3-bucket.ts'
import { s3Error } from '../../../test/support/s3-proxy.ts'
import { collect, hostileBytes, inChunks, storeContract } from '../../../test/support/store-contract.ts'
import { Failure } from '../../model/failure.ts'
import { AlreadyExists, NotFound, Transient } from '../../model/store.ts'
import { S3Options, s3Store } from './index.ts'

const MiB = 2 ** 20
const race = 'of simultaneous conditional writes to a versioned bucket, Ceph lets more than one win'

storeContract('s3 in a bucket with versions and Object Lock', t => openedBucket(t, { lock: true }), {
  sameKeyRace: race,
})
storeContract('s3 in a plain bucket', t => openedBucket(t))

test('loading the store does not load the SDK', async () => {
  const script = `await import(${JSON.stringify(import.meta.resolve('./index.ts'))})
    const { createRequire } = await import('node:module')
    console.log(Object.keys(createRequire(import.meta.url).cache).filter(name => name.includes('@aws-sdk')).length)`
  const loaded = async (code: string) => {
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', code])
    return Number(stdout)
  }
  assert.equal(await loaded(script), 0)
  const sdk = JSON.stringify(import.meta.resolve('@aws-sdk/client-s3'))
  assert((await loaded(`await import(${sdk});${script}`)) > 0, 'the test would notice')
})

test('an access key without its secret is an error of the configuration', () => {
  assert.throws(() => S3Options.parse({ bucket: 'b', accessKeyId: 'a' }), /go together/)
  assert.throws(() => S3Options.parse({ bucket: 'b', unknown: 1 }), /unknown/)
})

test('the shell command to fetch an object is safe to paste, and holds no secret', () => {
  const given = {
    bucket: 'b',
    prefix: "it's",
    endpoint: 'https://s3.example',
    region: 'eu-1',
    accessKeyId: 'SECRET',
  }
  const store = s3Store('s3', S3Options.parse({ ...given, secretAccessKey: 'SECRET' }))
  const command = store.shell('$(x) 1')
  assert.equal(
    command,
    "aws s3 cp 's3://b/it'\\''s/$(x) 1' - --endpoint-url https://s3.example --region eu-1",
  )
})

test('lock, tags, expiry and the rest are seen by HEAD, of small objects and of large ones', async t => {
  const bucket = await freshBucket({ lock: true })
  const store = storeOf(t, bucket, { storageClass: 'STANDARD' })
  const until = new Date(Date.now() + 3_600_000)
  const options = { lock: { mode: 'compliance', until }, tags: { a: 'b' }, expires: until } as const
  await store.put('small', Buffer.from('x'), options, testContext())
  await store.put('large', inChunks(hostileBytes(9 * MiB), [MiB]), options, testContext())
  for (const Key of ['small', 'large']) {
    const head = await rawClient(t, bucket).headObject({ Bucket: bucket.bucket, Key })
    assert.equal(head.ObjectLockMode, 'COMPLIANCE')
    assert(Math.abs(Number(head.ObjectLockRetainUntilDate) - Number(until)) < 1000)
    assert(Math.abs(Date.parse(head.ExpiresString ?? '') - Number(until)) < 1000)
  }
})

test('a lock in a bucket that can have none is refused, and the error says so', async t => {
  const store = storeOf(t, await freshBucket())
  const lock = { mode: 'governance', until: new Date(Date.now() + 60_000) } as const
  await assert.rejects(store.put('a', Buffer.from('x'), { lock }, testContext()), /has no Object Lock/)
})

test('a deletion that only hid an object does not count: remove finds the versions below', async t => {
  const bucket = await freshBucket({ lock: true })
  const [store, raw, ctx] = [storeOf(t, bucket), rawClient(t, bucket), testContext()]
  const first = await store.put('a', Buffer.from('1'), {}, ctx)
  await store.put('a', Buffer.from('2'), { replace: true }, ctx)
  await store.put('ab', Buffer.from('neighbour'), {}, ctx)
  await raw.deleteObject({ Bucket: bucket.bucket, Key: 'a' })
  await assert.rejects(collect(store.get('a', {}, ctx)), NotFound)
  assert.equal((await collect(store.get('a', { version: first.version ?? '' }, ctx))).toString(), '1')
  assert.equal(await store.remove('a', undefined, ctx), 'removed')
  const { Versions = [], DeleteMarkers = [] } = await raw.listObjectVersions({ Bucket: bucket.bucket })
  assert.deepEqual(
    [...Versions, ...DeleteMarkers].map(each => each.Key),
    ['ab'],
  )
})

test('of an object with a locked version the others go, and the answer is locked', async t => {
  const store = storeOf(t, await freshBucket({ lock: true }))
  const ctx = testContext()
  const lock = { mode: 'governance', until: new Date(Date.now() + 60_000) } as const
  const { version = '' } = await store.put('a', Buffer.from('1'), { lock }, ctx)
  await store.put('a', Buffer.from('2'), { replace: true }, ctx)
  assert.equal(await store.remove('a', undefined, ctx), 'locked')
  assert.equal((await collect(store.get('a', { version }, ctx))).toString(), '1')
})

test('without the right to list versions, or without versions, the current one is removed until none is left', async t => {
  for (const refusal of [s3Error(403, 'AccessDenied'), s3Error(501, 'NotImplemented')]) {
    for (const lock of [true, false]) {
      const { store, proxy } = await throughProxy(t, { lock })
      const ctx = testContext()
      proxy.rule = ({ query }) => (query.has('versions') ? refusal : undefined)
      await store.put('a', Buffer.from('1'), {}, ctx)
      await store.put('a', Buffer.from('2'), { replace: true }, ctx)
      assert.equal(await store.remove('a', undefined, ctx), 'removed')
      assert.equal(await store.remove('a', undefined, ctx), 'absent')
    }
  }
})

test('sweeping aborts unfinished uploads under the prefix and no others', async t => {
  const bucket = await freshBucket()
  const [store, raw] = [storeOf(t, bucket, { prefix: 'root' }), rawClient(t, bucket)]
  for (const Key of ['root/job/a +%😀\n', 'root/job/a +%😀\n', 'root/other', 'job/x']) {
    await raw.createMultipartUpload({ Bucket: bucket.bucket, Key })
  }
  assert.equal(await store.sweep('job/', testContext()), 2)
  assert.deepEqual((await unfinished(raw, bucket)).sort(), ['job/x', 'root/other'])
})

test('the right to put is enough to store small and large objects, and a refused list is no fault', async t => {
  const { store } = await anotherUser(t, ['s3:PutObject'])
  const ctx = testContext()
  await store.probe(ctx)
  await store.put('small', Buffer.from('x'), {}, ctx)
  await store.put('streamed', inChunks(hostileBytes(1000), [7]), {}, ctx)
  await store.put('large', inChunks(hostileBytes(17 * MiB), [MiB]), {}, ctx)
  assert.deepEqual(ctx.events, [])
  await assert.rejects(collect(store.get('small', {}, ctx)), /do not permit it/)
  await assert.rejects(Array.fromAsync(store.list('', ctx)), /do not permit it/)
  await assert.rejects(store.remove('small', undefined, ctx), /do not permit it/)
  await assert.rejects(store.put('small', Buffer.from('y'), {}, ctx), AlreadyExists)
})

test('a failed upload that may not be aborted is a warning that says what stays', async t => {
  const { store } = await anotherUser(t, ['s3:PutObject'])
  const ctx = testContext()
  const failing = async function* () {
    yield hostileBytes(17 * MiB)
    throw new Error('the source failed')
  }
  await assert.rejects(store.put('a', failing(), {}, ctx), /the source failed/)
  // Ceph permits whoever may put to abort; AWS asks for a right of its own.
  assert(ctx.events.length === 0 || ctx.events.some(event => event.type === 'warning'))
})

test('a lock and tags that may be written but not read are there, without a warning', async t => {
  const mayWrite = ['s3:PutObject', 's3:PutObjectRetention', 's3:PutObjectTagging']
  const { store, permit, raw } = await anotherUser(t, mayWrite, true)
  const ctx = testContext()
  const until = new Date(Date.now() + 60_000)
  const options = { lock: { mode: 'governance', until }, tags: { a: 'b' } } as const
  await store.put('small', Buffer.from('x'), options, ctx)
  await store.put('large', inChunks(hostileBytes(9 * MiB), [MiB]), options, ctx)
  assert.deepEqual(ctx.events, [])
  await permit(['s3:*'])
  for (const Key of ['small', 'large']) assert.equal((await raw(Key)).ObjectLockMode, 'GOVERNANCE')
})

test('a lock that can neither be read nor set again is a warning, once for small objects', async t => {
  const { store, proxy } = await throughProxy(t, { lock: true })
  const ctx = testContext()
  proxy.rule = ({ query }) => (query.has('retention') ? s3Error(403, 'AccessDenied') : undefined)
  const lock = { mode: 'governance', until: new Date(Date.now() + 60_000) } as const
  for (const key of ['a', 'b', 'c']) await store.put(key, Buffer.from('x'), { lock }, ctx)
  assert.equal(ctx.events.length, 1)
  assert.match(JSON.stringify(ctx.events), /cannot check the lock of a/)
})

const rights = [
  ...[
    's3:PutObject',
    's3:PutObjectRetention',
    's3:PutObjectTagging',
    's3:DeleteObject',
    's3:DeleteObjectVersion',
  ],
  ...['s3:GetObject', 's3:GetObjectVersion', 's3:GetObjectRetention', 's3:GetObjectTagging', 's3:ListBucket'],
  ...['s3:GetObjectVersionTagging', 's3:ListBucketVersions', 's3:AbortMultipartUpload'],
]

/** Another user's view of a bucket, who is permitted these actions and no more. */
async function anotherUser(t: TestContext, actions: string[], lock = false) {
  const bucket = await freshBucket({ lock })
  const [other] = bucket.others
  assert(other)
  const owner = rawClient(t, bucket)
  const Principal = { AWS: [`arn:aws:iam:::user/${other.name}`] }
  const Resource = [`arn:aws:s3:::${bucket.bucket}`, `arn:aws:s3:::${bucket.bucket}/*`]
  const permit = async (Action: string[]): Promise<void> => {
    const allow = { Effect: 'Allow', Principal, Action, Resource }
    // In Ceph the writer owns what he writes, and may read it unless that is denied.
    const denied = rights.filter(right => !Action.includes(right) && !Action.includes('s3:*'))
    const deny = denied.length > 0 ? [{ Effect: 'Deny', Principal, Action: denied, Resource }] : []
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement: [allow, ...deny] })
    await owner.putBucketPolicy({ Bucket: bucket.bucket, Policy })
  }
  await permit(actions)
  const { accessKey, secretKey } = other
  const client = rawClient(t, { ...bucket, accessKey, secretKey })
  return {
    store: storeOf(t, { ...bucket, accessKey, secretKey }),
    permit,
    raw: (Key: string) => client.headObject({ Bucket: bucket.bucket, Key }),
  }
}

test('what is wrong with the configuration is told apart, without a secret', async t => {
  const bucket = await freshBucket()
  const cases: [Parameters<typeof storeOf>[2], RegExp][] = [
    [{ accessKeyId: 'AKIAUNKNOWN0000000' }, /access key is not known/],
    [{ secretAccessKey: 'not-the-secret-at-all' }, /secret key does not belong/],
    [{ bucket: 'no-such-bucket-here' }, /there is no such bucket/],
    [{ endpoint: 'http://127.0.0.1:9' }, /nobody answers/],
    [{ endpoint: 'http://nowhere.invalid' }, /no such host/],
    [{ endpoint: bucket.endpoint.replace('http:', 'https:') }, /does not speak TLS/],
  ]
  for (const [wrong, expected] of cases) {
    const store = storeOf(t, bucket, wrong)
    const put = () => store.put('a', Buffer.from('x'), {}, testContext())
    for (const work of [() => store.probe(testContext()), put]) {
      const error = await work().then(
        () => assert.fail(`${JSON.stringify(wrong)} was accepted`),
        (thrown: unknown) => thrown,
      )
      assert(error instanceof Failure && error.remedy !== '', `${error}`)
      assert.match(error.message, expected)
      assert(!error.message.includes('not-the-secret') && !error.message.includes(bucket.secretKey))
    }
  }
})

test('a wrong clock, another region, no S3 at all: each is told', async t => {
  const { store, proxy } = await throughProxy(t)
  const cases = [
    [s3Error(403, 'RequestTimeTooSkewed', 'The difference is too large'), /clock/],
    [s3Error(400, 'AuthorizationHeaderMalformed', "expecting 'eu-west-3'"), /another region.*eu-west-3/],
    [s3Error(301, 'PermanentRedirect'), /another region/],
    [s3Error(403, 'ExpiredToken'), /expired/],
    [{ status: 404, body: '<html>nginx</html>' }, /404/],
    [s3Error(500, 'InternalError'), /failed|InternalError/],
  ] as const
  for (const [fault, expected] of cases) {
    proxy.rule = () => fault
    await assert.rejects(
      store.probe(testContext()),
      error => error instanceof Failure && expected.test(error.message),
    )
  }
})

test('a read that is cut by the server or the network throws, as something that may pass', async t => {
  const { store, proxy } = await throughProxy(t)
  await store.put('a', hostileBytes(3 * MiB), {}, testContext())
  for (const cutAnswerAfter of [0, 1, MiB, 3 * MiB - 1]) {
    proxy.rule = ({ method }) => (method === 'GET' ? { cutAnswerAfter } : undefined)
    await assert.rejects(collect(store.get('a', {}, testContext())), Transient)
  }
})

test('a server that hangs in the middle of a read has stalled, and a reader that is slow has not', async t => {
  const { store, proxy } = await throughProxy(t)
  await store.put('a', hostileBytes(9 * MiB), {}, testContext())
  const ctx = testContext({ stallMs: 2_000 })
  let bytes = 0
  for await (const chunk of store.get('a', {}, ctx)) {
    if (bytes === 0) await new Promise(resolve => setTimeout(resolve, 4000))
    bytes += chunk.length
  }
  assert.equal(bytes, 9 * MiB)
  proxy.rule = () => ({ hang: true })
  const started = performance.now()
  await assert.rejects(collect(store.get('a', {}, ctx)), /did not answer in time/)
  assert(performance.now() - started < 20_000)
})

test('a listing of more than a thousand objects is whole', async t => {
  const store = storeOf(t, await freshBucket())
  const keys = Array.from({ length: 1050 }, (_, n) => `k/${n} +`)
  for (let n = 0; n < keys.length; n += 30) {
    await Promise.all(keys.slice(n, n + 30).map(key => store.put(key, Buffer.from(key), {}, testContext())))
  }
  const entries = await Array.fromAsync(store.list('k/', testContext()))
  assert.deepEqual(entries.map(entry => entry.key).sort(), keys.sort())
})
