// budget: 120 s
import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { test } from 'node:test'
import { testContext } from '../../../test/support/context.ts'
import { throughProxy, unfinished } from '../../../test/support/s3-bucket.ts'
import { type Fault, type Seen, s3Error } from '../../../test/support/s3-proxy.ts'
import { collect, hostileBytes, inChunks } from '../../../test/support/store-contract.ts'
import { AlreadyExists, Transient } from '../../model/store.ts'
import { memoryBudget } from '../../platform/budget.ts'
import { connection } from './client.ts'
import { S3Options } from './options.ts'
import { upload } from './upload.ts'

const MiB = 2 ** 20
const largeBytes = hostileBytes(33 * MiB)
const large = () => inChunks(largeBytes, [MiB])

const isPart = ({ query }: Seen) => query.has('partNumber')
const isBegin = ({ method, query }: Seen) => method === 'POST' && query.has('uploads')
const isEnd = ({ method, query }: Seen) => method === 'POST' && query.has('uploadId')
const isWhole = ({ method, query }: Seen) => method === 'PUT' && query.size <= 1 && !query.has('partNumber')

/** The fault meets each request of the kind so many times. */
function first(times: number, kind: (request: Seen) => boolean, fault: Fault) {
  const met = new Map<string, number>()
  return (request: Seen): Fault | undefined => {
    if (!kind(request)) return undefined
    const name = `${request.method} ${request.path} ${request.query.get('partNumber')}`
    const count = (met.get(name) ?? 0) + 1
    met.set(name, count)
    return count <= times ? fault : undefined
  }
}

const passing: [string, (request: Seen) => boolean, Fault][] = [
  ['every part is answered 500 twice', isPart, s3Error(500, 'InternalError')],
  ['every part is answered 503 twice', isPart, s3Error(503, 'SlowDown')],
  ['every part is cut in the middle twice', isPart, { cutRequestAfter: 3 * MiB }],
  ['the answer to every part is lost twice', isPart, { loseAnswer: true }],
  ['the beginning fails twice', isBegin, { status: 502 }],
  ['the end fails twice', isEnd, s3Error(503, 'ServiceUnavailable')],
  ['the answer to the end is lost', isEnd, { loseAnswer: true }],
]
for (const [title, kind, fault] of passing) {
  test(`an object arrives whole though ${title}`, async t => {
    const { store, proxy, raw, bucket } = await throughProxy(t)
    proxy.rule = first(2, kind, fault)
    const put = await store.put('a', large(), {}, testContext())
    assert.equal(put.bytes, 33 * MiB)
    assert((await collect(store.get('a', {}, testContext()))).equals(largeBytes))
    assert.deepEqual(await unfinished(raw, bucket), [])
  })
}

for (const lock of [false, true]) {
  test(`a small object whose answer was lost is known again as ours, ${lock ? 'with' : 'without'} versions`, async t => {
    const { store, proxy } = await throughProxy(t, { lock })
    proxy.rule = first(1, isWhole, { loseAnswer: true })
    const ctx = testContext()
    const put = await store.put('a', Buffer.from('x'), {}, ctx)
    assert.equal(put.version !== undefined, lock)
    proxy.rule = first(1, isWhole, { loseAnswer: true })
    await assert.rejects(store.put('a', Buffer.from('x'), {}, ctx), AlreadyExists)
    assert.deepEqual(ctx.events, [])
  })
}

test('where a lost answer cannot be looked up, the object counts, with a warning', async t => {
  const { store, proxy } = await throughProxy(t)
  const lose = first(1, isWhole, { loseAnswer: true })
  proxy.rule = request => (request.method === 'HEAD' ? { status: 403 } : lose(request))
  const ctx = testContext()
  await store.put('a', Buffer.from('x'), {}, ctx)
  assert.match(JSON.stringify(ctx.events), /the answer was lost/)
})

const lasting: [string, (request: Seen) => boolean, Fault][] = [
  ['the third part always fails', r => r.query.get('partNumber') === '3', s3Error(500, 'InternalError')],
  ['the third part is always cut', r => r.query.get('partNumber') === '3', { cutRequestAfter: MiB }],
  ['the end always fails', isEnd, s3Error(500, 'InternalError')],
]
for (const [title, kind, fault] of lasting) {
  test(`when ${title}, put fails as something that may pass and leaves nothing`, async t => {
    const { store, proxy, raw, bucket } = await throughProxy(t)
    proxy.rule = first(99, kind, fault)
    const ctx = testContext()
    await assert.rejects(store.put('a', large(), {}, ctx), Transient)
    assert.deepEqual(await unfinished(raw, bucket), [])
    assert.deepEqual(await Array.fromAsync(store.list('', ctx)), [])
    assert.deepEqual(ctx.events, [])
    assert.equal(ctx.budget.claim(64 * MiB, 0).bytes, 64 * MiB, 'memory was given back')
  })
}

test('a part that is refused is not tried again', async t => {
  const { store, proxy } = await throughProxy(t)
  proxy.rule = request => (request.query.get('partNumber') === '2' ? s3Error(403, 'AccessDenied') : undefined)
  await assert.rejects(store.put('a', large(), {}, testContext()), /do not permit it/)
  assert.equal(proxy.seen.filter(request => request.query.get('partNumber') === '2').length, 1)
})

test('an upload that cannot be aborted is a warning, and a sweep finds it later', async t => {
  const { store, proxy, raw, bucket } = await throughProxy(t)
  proxy.rule = request => {
    if (request.method === 'DELETE') return s3Error(403, 'AccessDenied')
    return request.query.get('partNumber') === '2' ? s3Error(403, 'AccessDenied') : undefined
  }
  const ctx = testContext()
  await assert.rejects(store.put('job/a', large(), {}, ctx))
  assert.match(JSON.stringify(ctx.events), /parts of an unfinished upload of job\/a stay/)
  proxy.rule = () => undefined
  assert.equal(await store.sweep('job/', ctx), 1)
  assert.deepEqual(await unfinished(raw, bucket), [])
})

for (const [title, kind] of [
  ['a part', isPart],
  ['the end', isEnd],
  ['a small object', isWhole],
] as const) {
  test(`a server that takes ${title} and then says nothing has failed when the time of a stall is over`, async t => {
    const { store, proxy } = await throughProxy(t)
    proxy.rule = request => (kind(request) ? { hang: true } : undefined)
    const started = performance.now()
    const body = kind === isWhole ? Buffer.from('x') : large()
    await assert.rejects(store.put('a', body, {}, testContext({ stallMs: 900 })), /did not answer in time/)
    assert(performance.now() - started < 25_000)
  })
}

test('a server that is slow but answers is waited for', async t => {
  const { store, proxy } = await throughProxy(t)
  proxy.rule = request => (isPart(request) || isEnd(request) ? { delayMs: 400 } : undefined)
  await store.put('a', large(), {}, testContext({ stallMs: 10_000 }))
})

test('an abort does not wait for a server that hangs', async t => {
  const { store, proxy } = await throughProxy(t)
  proxy.rule = request => (isPart(request) ? { hang: true } : undefined)
  const abort = new AbortController()
  const reason = new Error('told to stop')
  setTimeout(() => abort.abort(reason), 200)
  const started = performance.now()
  await assert.rejects(
    store.put('a', large(), {}, testContext({ signal: abort.signal })),
    error => error === reason,
  )
  // The time of a stall is sixty seconds.
  assert(performance.now() - started < 20_000)
})

test('with a budget too small for a part, parts are gathered in files that are gone afterwards', async t => {
  const { store, proxy } = await throughProxy(t)
  proxy.rule = first(1, isPart, { cutRequestAfter: 3 * MiB })
  const ctx = testContext({ budget: memoryBudget(3 * MiB) })
  await store.put('a', large(), {}, ctx)
  await store.put('small', inChunks(hostileBytes(100_000), [1000]), {}, ctx)
  await store.put('empty', inChunks(hostileBytes(0), [1]), {}, ctx)
  assert((await collect(store.get('a', {}, ctx))).equals(largeBytes))
  assert.deepEqual(await collect(store.get('small', {}, ctx)), hostileBytes(100_000))
  assert.deepEqual(await readdir(ctx.spool), [])
  assert.equal(ctx.budget.claim(3 * MiB, 0).bytes, 3 * MiB)
})

test('with a budget for two parts, no more than two are in memory', async t => {
  const { store } = await throughProxy(t)
  const budget = memoryBudget(17 * MiB)
  let held = 0
  let most = 0
  const watched: typeof budget = {
    claim(want, least) {
      const claim = budget.claim(want, least)
      held += claim.bytes
      most = Math.max(most, held)
      return {
        bytes: claim.bytes,
        [Symbol.dispose]() {
          held -= claim.bytes
          claim[Symbol.dispose]()
        },
      }
    },
  }
  await store.put('a', large(), {}, testContext({ budget: watched }))
  assert(most <= 17 * MiB, `${most}`)
  assert.equal(held, 0)
})

test('parts of a fixed size are all of that size but the last', async t => {
  const { store, proxy } = await throughProxy(t, { options: { partSize: 5 * MiB } })
  assert.equal(store.can.maxObjectBytes, 50_000 * MiB)
  await store.put('a', large(), {}, testContext())
  const lengths = proxy.seen.filter(isPart).map(request => Number(request.headers['content-length']))
  assert.deepEqual(
    lengths.sort(),
    [3, 5, 5, 5, 5, 5, 5].map(n => n * MiB),
  )
})

for (const budget of [64 * MiB, 3 * MiB]) {
  test(`nothing is sent in a form that lesser servers refuse, with ${budget / MiB} MiB of memory`, async t => {
    const { store, proxy } = await throughProxy(t, { lock: true })
    proxy.rule = ({ headers }) => {
      const strange = `${headers['content-encoding']} ${headers['x-amz-trailer']} ${headers['x-amz-content-sha256']}`
      if (/aws-chunked|STREAMING|crc|sha1/.test(strange)) return s3Error(501, 'NotImplemented')
      if (headers['transfer-encoding'] || headers.expect) return s3Error(411, 'MissingContentLength')
      return undefined
    }
    const ctx = testContext({ budget: memoryBudget(budget) })
    await store.put('small', inChunks(hostileBytes(10), [1]), {}, ctx)
    await store.put('large', large(), {}, ctx)
    assert((await collect(store.get('large', {}, ctx))).equals(largeBytes))
  })
}

test('every part of a locked object carries a digest', async t => {
  const { store, proxy } = await throughProxy(t, { lock: true })
  const lock = { mode: 'governance', until: new Date(Date.now() + 60_000) } as const
  await store.put('small', Buffer.from('x'), { lock }, testContext())
  await store.put('large', large(), { lock }, testContext())
  const puts = proxy.seen.filter(
    request => isPart(request) || (isWhole(request) && !request.query.has('retention')),
  )
  assert(puts.length >= 6)
  for (const { headers } of puts) assert(headers['content-md5'] ?? headers['x-amz-checksum-crc32'])
})

test('where CRC-32 is used, as on AWS, the server keeps the digest of the whole, from memory and from files', async t => {
  const { raw, bucket } = await throughProxy(t)
  const { endpoint, region, accessKey: accessKeyId, secretKey: secretAccessKey } = bucket
  const given = { bucket: bucket.bucket, endpoint, region, accessKeyId, secretAccessKey }
  const link = connection(S3Options.parse(given), { attempts: 1, pauseMs: 0 })
  t.after(() => link.close())
  const digests = { inMemory: 'crc32', inFile: 'crc32' } as const
  const to = { connection: link, store: 's3', create: {}, exclusive: true, nonce: '', digests }
  for (const budget of [64 * MiB, MiB]) {
    const ctx = testContext({ budget: memoryBudget(budget) })
    for (const body of [large, () => inChunks(hostileBytes(1000), [7])]) {
      const Key = `${budget}-${body === large}`
      await upload(body(), { ...to, key: Key, lacks: { conditions: false } }, ctx)
      const head = await raw.headObject({ Bucket: bucket.bucket, Key, ChecksumMode: 'ENABLED' })
      assert(head.ChecksumCRC32, Key)
    }
  }
})

test('a server that knows no conditions is written to without, and is not asked again', async t => {
  for (const body of [() => Buffer.from('x'), large]) {
    const { store, proxy } = await throughProxy(t)
    proxy.rule = ({ headers }) => (headers['if-none-match'] ? s3Error(501, 'NotImplemented') : undefined)
    await store.put('a', body(), {}, testContext())
    await store.put('b', body(), {}, testContext())
    assert.equal(proxy.seen.filter(request => request.headers['if-none-match']).length, 1)
  }
})

/** Lets the server begin multipart uploads without the lock and the tags, as Ceph 16 does. */
async function forgetful(t: Parameters<typeof throughProxy>[0]) {
  const through = await throughProxy(t, { lock: true })
  const { proxy, raw, bucket } = through
  const begin = async (request: Seen): Promise<Fault | undefined> => {
    if (!isBegin(request)) return undefined
    const Key = decodeURIComponent(request.path.split('/').slice(2).join('/'))
    const { UploadId } = await raw.createMultipartUpload({ Bucket: bucket.bucket, Key })
    const names = `<Bucket>${bucket.bucket}</Bucket><Key>${Key}</Key><UploadId>${UploadId}</UploadId>`
    return { status: 200, body: `<InitiateMultipartUploadResult>${names}</InitiateMultipartUploadResult>` }
  }
  proxy.rule = begin
  return { ...through, begin }
}

const extras = {
  lock: { mode: 'governance', until: new Date(Date.now() + 600_000) },
  tags: { 'backup/schedule': 'a +b' },
} as const

test('a lock and tags that the server drops are set afterwards', async t => {
  const { store, raw, bucket } = await forgetful(t)
  const ctx = testContext()
  await store.put('a', large(), extras, ctx)
  const address = { Bucket: bucket.bucket, Key: 'a' }
  assert.equal((await raw.headObject(address)).ObjectLockMode, 'GOVERNANCE')
  assert.deepEqual((await raw.getObjectTagging(address)).TagSet, [{ Key: 'backup/schedule', Value: 'a +b' }])
  assert.deepEqual(ctx.events, [])
})

for (const [name, options] of [
  ['retention', { lock: extras.lock }],
  ['tagging', { tags: extras.tags }],
] as const) {
  test(`when the server drops it and refuses ${name} afterwards, put fails`, async t => {
    const { store, proxy, begin } = await forgetful(t)
    proxy.rule = request => {
      const sets = request.method === 'PUT' && request.query.has(name)
      return sets ? s3Error(403, 'AccessDenied') : begin(request)
    }
    await assert.rejects(store.put('a', large(), options, testContext()), /the server dropped it/)
  })

  test(`when the server drops it and swallows ${name} afterwards, put fails`, async t => {
    const { store, proxy, begin } = await forgetful(t)
    proxy.rule = request => {
      const sets = request.method === 'PUT' && request.query.has(name)
      return sets ? { status: 200 } : begin(request)
    }
    await assert.rejects(store.put('a', large(), options, testContext()), /the server dropped it/)
  })
}
