// budget: 240 s
import { openedBucket } from '../../../test/support/s3-bucket.ts'
import { type Opened, storeContract } from '../../../test/support/store-contract.ts'

const old = 's3-ceph16'

// In buckets with versions it ignores conditions: keys that nobody uses twice are all that protects.
storeContract('Ceph 16 with versions and Object Lock', async t =>
  notExclusive(await openedBucket(t, { server: old, lock: true })),
)
storeContract('Ceph 16, a plain bucket', t => openedBucket(t, { server: old }))
storeContract('rclone serve s3', async t => notExclusive(await openedBucket(t, { server: 's3-rclone' })), {
  noTags: 'rclone serve s3 keeps no tags',
})

function notExclusive(given: Opened): Opened {
  return { ...given, store: { ...given.store, can: { ...given.store.can, exclusive: false } } }
}
