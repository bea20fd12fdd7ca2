// An S3 server that is not a mock: Ceph's gateway, version 20, from a tree of newer Debian packages.
//
// It does versioning, Object Lock, checksums with trailers, conditional writes and policies as AWS does. Not so: of
// many simultaneous `If-None-Match: *` PUTs to one key of a versioned bucket more than one wins; unversioned, one does.

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CreateBucketCommand, DeleteBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { type S3Facts, ServiceUnavailable } from './facts.ts'
import { fullerRclone, sid } from './places.ts'
import { freePorts, until } from './process.ts'
import type { Starting } from './registry.ts'

export async function startS3(start: Starting): Promise<S3Facts> {
  if (!existsSync(join(sid.root, 'usr/bin/radosgw')))
    throw new ServiceUnavailable(`no radosgw in ${sid.root}`)
  if (process.getuid?.() !== 0) throw new ServiceUnavailable('radosgw runs in a chroot, which needs root')
  const tree = join(import.meta.dirname, 'debian-tree.sh')
  // In the tree, the folder is /mnt.
  return await startCeph(start, '/mnt', tree, ['run', sid.root, start.dir, 'bash', '/mnt/ceph.sh'])
}

/** Ceph 16, from Debian 12 itself. */
export async function startCeph16(start: Starting): Promise<S3Facts> {
  if (!existsSync('/usr/bin/radosgw')) throw new ServiceUnavailable('radosgw is not installed')
  return await startCeph(start, start.dir, 'bash', [join(start.dir, 'ceph.sh')])
}

/** What rclone makes of folders. */
export async function startServeS3(start: Starting): Promise<S3Facts> {
  if (!existsSync(fullerRclone))
    throw new ServiceUnavailable('rclone serve s3 has to be built by Go, which is not here')
  const port = await freePorts(1)
  const { accessKey, secretKey } = newUser('owner')
  const facts = {
    endpoint: `http://127.0.0.1:${port}`,
    region: 'us-east-1',
    accessKey,
    secretKey,
    others: [],
  }
  const data = join(start.dir, 'data')
  await mkdir(data)
  const daemon = start.daemon(
    fullerRclone,
    ['serve', 's3', data, '--addr', `127.0.0.1:${port}`, '--auth-key', `${accessKey},${secretKey}`],
    { stopWith: 'SIGTERM', env: { RCLONE_CONFIG: '/dev/null' } },
  )
  await until('rclone serve s3', 30, daemon, () => firstBucket(facts))
  return facts
}

/** `command` runs ceph.sh, which sees the service's folder as `folder`. */
async function startCeph(start: Starting, folder: string, command: string, args: string[]): Promise<S3Facts> {
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
  const daemon = start.daemon(command, [...args, folder, String(port), `${folder}/users`], {
    stopWith: 'SIGTERM',
  })
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
