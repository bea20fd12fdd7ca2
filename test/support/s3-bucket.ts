import type { TestContext } from 'node:test'
import { S3 } from '@aws-sdk/client-s3'
import type { Store } from '../../src/model/store.ts'
import { S3Options, s3Store } from '../../src/stores/s3/index.ts'
import { type FreshBucket, freshBucket } from '../services/index.ts'
import { type S3Proxy, s3Proxy } from './s3-proxy.ts'
import type { Opened } from './store-contract.ts'

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

/** A store in a fresh bucket, for the contract of stores. */
export async function openedBucket(
  t: TestContext,
  { lock = false, ...more }: Parameters<typeof freshBucket>[0] & object = {},
): Promise<Opened> {
  const bucket = await freshBucket({ lock, ...more })
  const store = storeOf(t, bucket, { prefix: 'root/of this' })
  const raw = rawClient(t, bucket)
  return {
    store: lock ? store : withoutVersions(store),
    leftovers: () => unfinished(raw, bucket),
    async facts(key) {
      const address = { Bucket: bucket.bucket, Key: `root/of this/${key}` }
      const { TagSet = [] } = await raw.getObjectTagging(address)
      const { ExpiresString } = await raw.headObject(address)
      const tags = Object.fromEntries(TagSet.map(tag => [tag.Key ?? '', tag.Value ?? '']))
      return { tags, ...(ExpiresString && { expires: new Date(ExpiresString) }) }
    },
  }
}

/** The store cannot know that its bucket keeps no versions; the contract is held to what is so. */
function withoutVersions(store: Store): Store {
  const { lockUntil: _, ...rest } = store
  return { ...rest, can: { ...store.can, versions: false, lock: false } }
}

/** The keys of multipart uploads that were neither completed nor aborted. */
export async function unfinished(raw: S3, bucket: FreshBucket): Promise<string[]> {
  const { Uploads = [] } = await raw
    .listMultipartUploads({ Bucket: bucket.bucket })
    // rclone serve s3 says so when there is none.
    .catch(error => (error.name === 'NoSuchUpload' ? { Uploads: [] } : Promise.reject(error)))
  return Uploads.map(each => each.Key ?? '')
}
