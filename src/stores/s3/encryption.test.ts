import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import type { HeadObjectCommandOutput } from '@aws-sdk/client-s3'
import { freshBucket, orSkip } from '../../../test/services/index.ts'
import { testContext } from '../../../test/support/context.ts'
import { rawClient, storeOf, throughProxy } from '../../../test/support/s3-bucket.ts'
import { collect, hostileBytes } from '../../../test/support/store-contract.ts'

const MiB = 2 ** 20

async function* inParts(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < bytes.length; at += MiB) yield bytes.slice(at, at + MiB)
}

test('with a key of the customer, objects small and large are stored and read with it, and not without', async t => {
  const bucket = await orSkip(t, freshBucket({ lock: true }))
  if (!bucket) return
  const ctx = testContext()
  const customerKey = randomBytes(32).toString('base64')
  const store = storeOf(t, bucket, { customerKey })
  const large = hostileBytes(12 * MiB)
  const lock = { mode: 'governance', until: new Date(Date.now() + 60_000) } as const
  await store.put('small', Buffer.from('x'), { lock, tags: { a: 'b' } }, ctx)
  await store.put('large', inParts(large), { lock, tags: { a: 'b' } }, ctx)
  assert.equal((await collect(store.get('small', {}, ctx))).toString(), 'x')
  assert.ok((await collect(store.get('large', {}, ctx))).equals(large))
  assert.ok(
    (await collect(store.get('large', { range: [MiB, MiB + 9] }, ctx))).equals(large.subarray(MiB, MiB + 10)),
  )

  const raw = rawClient(t, bucket)
  await assert.rejects(raw.headObject({ Bucket: bucket.bucket, Key: 'small' }))
  const without = storeOf(t, bucket)
  await assert.rejects(collect(without.get('small', {}, ctx)), /customerKey/)
  const other = storeOf(t, bucket, { customerKey: randomBytes(32).toString('base64') })
  await assert.rejects(collect(other.get('large', {}, ctx)), (error: Error) => {
    assert.match(error.message, /customerKey/)
    assert.ok(!error.message.includes(customerKey))
    return true
  })
  assert.match(store.shell('small'), /--sse-c AES256/)
  assert.ok(!store.shell('small').includes(customerKey))
})

test('a key of the customer that is none is refused before anything is sent', async t => {
  const { store, proxy } = await throughProxy(t, { options: { customerKey: 'c2hvcnQ=' } })
  await assert.rejects(store.put('a', Buffer.from('x'), {}, testContext()), /not the base64 of 32 bytes/)
  assert.equal(proxy.seen.length, 0)
})

test('objects are encrypted by the key manager of the server, with the key that was named', async t => {
  const bucket = await orSkip(t, freshBucket())
  if (!bucket) return
  const ctx = testContext()
  const store = storeOf(t, bucket, { sse: { algorithm: 'aws:kms', kmsKeyId: 'testkey-1' } })
  const large = hostileBytes(12 * MiB)
  await store.put('small', Buffer.from('x'), {}, ctx)
  await store.put('large', inParts(large), {}, ctx)
  const raw = rawClient(t, bucket)
  for (const Key of ['small', 'large']) {
    const head: HeadObjectCommandOutput = await raw.headObject({ Bucket: bucket.bucket, Key })
    assert.equal(head.ServerSideEncryption, 'aws:kms')
    assert.equal(head.SSEKMSKeyId, 'testkey-1')
  }
  assert.ok((await collect(store.get('large', {}, ctx))).equals(large))
})

test('SSE-S3 and the storage class stand in the request that makes an object, small or large', async t => {
  // The server here knows neither; what it is asked for is seen on the way.
  const asked: Record<string, string | undefined>[] = []
  const { store, proxy } = await throughProxy(t, {
    options: { sse: { algorithm: 'AES256' }, storageClass: 'STANDARD_IA' },
  })
  proxy.rule = ({ method, headers, query }) => {
    if (method === 'PUT' || (method === 'POST' && query.has('uploads')))
      asked.push({
        sse: headers['x-amz-server-side-encryption'] as string | undefined,
        storage: headers['x-amz-storage-class'] as string | undefined,
      })
    return undefined
  }
  await store.put('small', Buffer.from('x'), {}, testContext()).catch(() => {})
  await store.put('large', inParts(hostileBytes(12 * MiB)), {}, testContext()).catch(() => {})
  assert.ok(asked.length >= 2)
  assert.deepEqual(asked[0], { sse: 'AES256', storage: 'STANDARD_IA' })
  assert.deepEqual(
    asked.find((_, index) => index > 0),
    { sse: 'AES256', storage: 'STANDARD_IA' },
  )
})
