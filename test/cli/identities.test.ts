// budget: 120 s
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type FreshBucket, freshBucket, orSkip } from '../services/index.ts'
import { listed, type Machine, machine, randomFiles, tree } from '../support/cli.ts'
import { rawClient } from '../support/s3-bucket.ts'

const page = readFileSync(join(import.meta.dirname, '../../docs/how-to/s3.md'), 'utf8')

/** The actions that the page gives to an identity. */
function actionsOf(identity: string): string[] {
  const block = new RegExp(`\`\`\`json ${identity}\\n([\\s\\S]*?)\`\`\``).exec(page)?.[1]
  assert.ok(block, identity)
  return JSON.parse(block)
}

/** Everything that one of the identities may do and another may not. In Ceph, who writes an object owns it: the rest has to be denied. */
const all = [...new Set(['writer', 'reader', 'pruner'].flatMap(actionsOf))]

async function permit(t: TestContext, bucket: FreshBucket, user: string, identity: string): Promise<void> {
  const Principal = { AWS: [`arn:aws:iam:::user/${user}`] }
  const Resource = [`arn:aws:s3:::${bucket.bucket}`, `arn:aws:s3:::${bucket.bucket}/*`]
  const Action = actionsOf(identity)
  const Statement = [
    { Effect: 'Allow', Principal, Action, Resource },
    { Effect: 'Deny', Principal, Action: all.filter(action => !Action.includes(action)), Resource },
  ]
  const Policy = JSON.stringify({ Version: '2012-10-17', Statement })
  await rawClient(t, bucket).putBucketPolicy({ Bucket: bucket.bucket, Policy })
}

/** A host with a job of files into the bucket, as somebody. */
function hostOf(bucket: FreshBucket, keys: { accessKey: string; secretKey: string }, job: object): Machine {
  const host = machine()
  randomFiles(host.path('wiki'), 50_000)
  host.configure({
    stores: {
      offsite: {
        ...{
          type: 's3',
          bucket: bucket.bucket,
          prefix: 'cairn',
          endpoint: bucket.endpoint,
          region: bucket.region,
        },
        ...{ accessKeyId: keys.accessKey, secretAccessKey: keys.secretKey },
      },
    },
    jobs: {
      wiki: {
        source: { type: 'files', paths: [host.path('wiki')] },
        to: ['offsite'],
        ...{ keep: { last: 1 }, undelete: '0 s' },
        ...job,
      },
    },
  })
  return host
}

test('a writer backs up and can do nothing else; a reader restores; a pruner prunes and restores nothing more than it must', async t => {
  const bucket = await orSkip(t, freshBucket({ lock: true }))
  if (!bucket) return
  const [user] = bucket.others
  assert.ok(user)
  const host = hostOf(bucket, user, {})

  await permit(t, bucket, user.name, 'writer')
  const { out } = await host.ok(['doctor'])
  assert.match(
    out,
    /ok +store offsite: write[\s\S]*warn +store offsite: read: .*\n.*nothing, if[\s\S]*warn +store offsite: delete/,
  )
  for (let n = 0; n < 2; n++) assert.doesNotMatch((await host.ok(['backup'])).stderr, /warning/)
  for (const command of [['list'], ['verify'], ['prune'], ['restore', 'latest', '--to', host.path('no')]]) {
    const refused = await host.run(command)
    assert.notEqual(refused.code, 0, command.join(' '))
    assert.match(refused.stderr, /do not permit|may read|can be listed/, command.join(' '))
  }

  await permit(t, bucket, user.name, 'reader')
  const backups = await listed(host)
  assert.equal(backups.length, 2)
  await host.ok(['verify', 'latest'])
  await host.ok(['restore', 'latest', '--to', host.path('out')])
  assert.deepEqual(tree(host.path('out', 'wiki')), tree(host.path('wiki')))
  assert.notEqual((await host.run(['backup'])).code, 0)
  assert.notEqual((await host.run(['hold', 'latest'])).code, 0)

  await permit(t, bucket, user.name, 'pruner')
  await host.ok(['prune'])
  await host.ok(['prune'])
  assert.deepEqual(
    (await listed(host)).map(({ id }) => id),
    [backups[0]?.id],
  )
  const raw = rawClient(t, bucket)
  const { Versions = [] } = await raw.listObjectVersions({ Bucket: bucket.bucket })
  assert.ok(!Versions.some(({ Key }) => Key?.includes(backups[1]?.id ?? '?')), 'a version was left')
})

test('in a bucket that locks everything in compliance mode from the first day, all works, and what cannot go stays without harm', async t => {
  const bucket = await orSkip(t, freshBucket({ lock: true }))
  if (!bucket) return
  const raw = rawClient(t, bucket)
  await raw.putObjectLockConfiguration({
    Bucket: bucket.bucket,
    ObjectLockConfiguration: {
      ObjectLockEnabled: 'Enabled',
      Rule: { DefaultRetention: { Mode: 'COMPLIANCE', Days: 1 } },
    },
  })
  const host = hostOf(bucket, bucket, {})
  await host.ok(['doctor'])
  await host.ok(['doctor'])
  for (let n = 0; n < 2; n++) await host.ok(['backup'])
  const [newest, oldest] = await listed(host)
  assert.ok(newest && oldest)
  await host.ok(['verify'])
  await host.ok(['hold', newest.id])
  await host.ok(['prune'])
  const prune = await host.ok(['prune'])
  assert.match(prune.stderr, /stays in offsite: the store has locked/)
  const { Versions = [], DeleteMarkers = [] } = await raw.listObjectVersions({
    Bucket: bucket.bucket,
    Prefix: `cairn/wiki/${oldest.id}`,
  })
  assert.ok(Versions.length > 0)
  assert.deepEqual(DeleteMarkers, [])

  // A backup that fails leaves what is locked; it is never listed, and does not stop the next one.
  const killed = host.start(['backup'])
  await killed.said(/wiki/).catch(() => {})
  killed.child.kill('SIGKILL')
  await killed.ended
  await host.ok(['backup'])
  const after = await listed(host)
  assert.ok(after.length >= 2)
  await host.ok(['verify', 'latest'])
})
