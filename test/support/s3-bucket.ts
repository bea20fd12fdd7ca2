import type { TestContext } from 'node:test'
import { S3 } from '@aws-sdk/client-s3'
import type { Store } from '../../src/model/store.ts'
import { S3Options, s3Store } from '../../src/stores/s3/index.ts'
import { type FreshBucket, freshBucket } from '../services/index.ts'
import { type S3Proxy, s3Proxy } from './s3-proxy.ts'

/** Does not make tests wait for pauses between attempts. */
const impatient = { attempts: 5, pauseMs: 2 }

/** Options as they would stand in the configuration. */
export type GivenOptions = Partial<Parameters<typeof S3Options.parse>[0] & Record<string, unknown>>

export function storeOf(t: TestContext, bucket: FreshBucket, more: GivenOptions = {}): Store {
  const { endpoint, region, accessKey: accessKeyId, secretKey: secretAccessKey } = bucket
  const given = { bucket: bucket.bucket, endpoint, region, accessKeyId, secretAccessKey, ...more }
  const store = s3Store('s3', S3Options.parse(given), impatient)
  t.after(() => store.close?.())
  return store
}

/** The bucket as somebody sees it who needs no store. */
export function rawClient(t: TestContext, bucket: FreshBucket): S3 {
  const client = new S3({
    endpoint: bucket.endpoint,
    region: bucket.region,
    forcePathStyle: true,
    credentials: { accessKeyId: bucket.accessKey, secretAccessKey: bucket.secretKey },
  })
  t.after(() => client.destroy())
  return client
}

/** A bucket behind a proxy that can be told what to do wrong. */
export async function throughProxy(
  t: TestContext,
  o: { lock?: boolean; options?: GivenOptions } = {},
): Promise<{ store: Store; proxy: S3Proxy; raw: S3; bucket: FreshBucket }> {
  const bucket = await freshBucket({ lock: o.lock ?? false })
  const proxy = await s3Proxy(bucket.endpoint)
  t.after(() => proxy[Symbol.asyncDispose]())
  const store = storeOf(t, { ...bucket, endpoint: proxy.endpoint }, o.options)
  return { store, proxy, raw: rawClient(t, bucket), bucket }
}

/** The keys of multipart uploads that were neither completed nor aborted. */
export async function unfinished(raw: S3, bucket: FreshBucket): Promise<string[]> {
  const { Uploads = [] } = await raw
    .listMultipartUploads({ Bucket: bucket.bucket })
    // rclone serve s3 says so when there is none.
    .catch(error => (error.name === 'NoSuchUpload' ? { Uploads: [] } : Promise.reject(error)))
  return Uploads.map(each => each.Key ?? '')
}
