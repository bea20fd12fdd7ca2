// An S3 server that is not a mock: Ceph's gateway, version 20, from a tree of newer Debian packages.
//
// It does versioning, Object Lock, checksums with trailers, conditional writes and policies as AWS does. Not so: of
// many simultaneous `If-None-Match: *` PUTs to one key of a versioned bucket more than one wins; unversioned, one does.

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CreateBucketCommand, DeleteBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { type S3Facts, ServiceUnavailable } from './facts.ts'
import { sid } from './places.ts'
import { freePorts, until } from './process.ts'
import type { Starting } from './registry.ts'

export async function startS3(start: Starting): Promise<S3Facts> {
  if (!existsSync(join(sid.root, 'usr/bin/radosgw')))
    throw new ServiceUnavailable(`no radosgw in ${sid.root}`)
  if (process.getuid?.() !== 0) throw new ServiceUnavailable('radosgw runs in a chroot, which needs root')
  const port = await freePorts(20)
  const [owner, ...others] = ['owner', 'second', 'third'].map(newUser)
  if (!owner) throw new Error('unreachable')
  const { accessKey, secretKey } = owner
  const facts: S3Facts = {
    endpoint: `http://127.0.0.1:${port}`,
    region: 'us-east-1',
    accessKey,
    secretKey,
    others,
  }

  const lines = [owner, ...others].map(user => `${user.name} ${user.accessKey} ${user.secretKey}\n`)
  await writeFile(join(start.dir, 'users'), lines.join(''), { mode: 0o600 })
  await copyFile(join(import.meta.dirname, 'ceph.sh'), join(start.dir, 'ceph.sh'))
  const tree = join(import.meta.dirname, 'debian-tree.sh')
  // In the tree, the folder is /mnt.
  const inside = ['bash', '/mnt/ceph.sh', '/mnt', String(port), '/mnt/users']
  const daemon = start.daemon(tree, ['run', sid.root, start.dir, ...inside], { stopWith: 'SIGTERM' })
  await until('radosgw', 90, daemon, () => firstBucket(facts))
  return facts
}

function newUser(name: string): S3Facts['others'][number] {
  return {
    name,
    accessKey: `AK${randomBytes(9).toString('hex').toUpperCase()}`,
    secretKey: randomBytes(20).toString('hex'),
  }
}

/** The gateway listens before it can write. */
async function firstBucket(facts: S3Facts): Promise<void> {
  const client = s3Client(facts)
  try {
    await client.send(new CreateBucketCommand({ Bucket: 'first-bucket' }))
    await client.send(new DeleteBucketCommand({ Bucket: 'first-bucket' }))
  } finally {
    client.destroy()
  }
}

export function s3Client(facts: Pick<S3Facts, 'endpoint' | 'region' | 'accessKey' | 'secretKey'>): S3Client {
  return new S3Client({
    endpoint: facts.endpoint,
    region: facts.region,
    forcePathStyle: true,
    credentials: { accessKeyId: facts.accessKey, secretAccessKey: facts.secretKey },
  })
}
