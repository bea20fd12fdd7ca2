// budget: 240 s
import type { TestContext } from 'node:test'
import { freshBucket } from '../../../test/services/index.ts'
import { rawClient, storeOf, unfinished } from '../../../test/support/s3-bucket.ts'
import { type Opened, storeContract } from '../../../test/support/store-contract.ts'
import type { Store } from '../../model/store.ts'

// In buckets with versions it ignores conditions: keys that nobody uses twice are all that protects.
storeContract('Ceph 16 with versions and Object Lock', async t =>
  notExclusive(await opened(t, 's3-ceph16', true)),
)
storeContract('Ceph 16, a plain bucket', t => opened(t, 's3-ceph16', false))
storeContract('rclone serve s3', async t => notExclusive(await opened(t, 's3-rclone', false)), {
  noTags: 'rclone serve s3 keeps no tags',
})

async function opened(t: TestContext, server: 's3-ceph16' | 's3-rclone', lock: boolean): Promise<Opened> {
  const bucket = await freshBucket({ lock, server })
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

function notExclusive(given: Opened): Opened {
  return { ...given, store: { ...given.store, can: { ...given.store.can, exclusive: false } } }
}

/** The store cannot know that its bucket keeps no versions; the contract is held to what is so. */
function withoutVersions(store: Store): Store {
  const { lockUntil: _, ...rest } = store
  return { ...rest, can: { ...store.can, versions: false, lock: false } }
}
