// budget: 120 s
import assert from 'node:assert/strict'
import { cpSync, mkdirSync, rmSync, symlinkSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import { exitCode } from '../../src/model/failure.ts'
import { type FreshBucket, freshBucket, orSkip } from '../services/index.ts'
import { type Listed, listed, type Machine, machine, randomFiles, tree } from '../support/cli.ts'
import { freePort } from '../support/free-port.ts'
import { rawClient } from '../support/s3-bucket.ts'

/** A server that is too busy for everything, and counts how often it is asked. */
async function busyServer(t: TestContext): Promise<{ url: string; asked: () => number }> {
  let asked = 0
  const server: Server = createServer((_, response) => {
    asked++
    response.writeHead(503).end()
  })
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  t.after(() => server.close())
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked: () => asked }
}

const s3At = (endpoint: string): object => ({
  ...{ type: 's3', bucket: 'b', endpoint, region: 'here' },
  ...{ accessKeyId: { value: 'a' }, secretAccessKey: { value: 'b' } },
})

/** A host with a backup in a folder, and other stores beside. */
async function backedUp(stores: object): Promise<Machine> {
  const host = machine()
  const data = randomFiles(host.path('data'), 1000)
  const source = { type: 'files', paths: [data] }
  const configured = { disk: { type: 'local', path: host.path('disk') }, ...stores }
  host.configure({ stores: configured, jobs: { data: { source, to: ['disk'] } } })
  await host.ok(['backup'])
  return host
}

test('who only reads is soon told which store nobody answers for, and gets what the others have', async t => {
  const [s3, dav] = [await busyServer(t), await busyServer(t)]
  const refused = `http://127.0.0.1:${await freePort()}`
  const host = await backedUp({
    s3: s3At(s3.url),
    dav: { type: 'rclone', remote: `:webdav,url='${dav.url}':folder` },
    gone: s3At(refused),
  })
  const ran = await host.run(['list', '--json'])
  assert.equal(ran.code, exitCode.partial, ran.stderr)
  assert.deepEqual(
    ran.json<Listed[]>().map(({ stores }) => stores),
    [['disk']],
  )
  for (const name of ['s3', 'dav', 'gone'])
    assert.match(ran.stderr, new RegExp(`warning: store ${name} does not answer: `))
  assert.match(ran.stderr, new RegExp(`${refused.slice('http://'.length)}: nobody answers at that address`))
  // With the patience of a backup it would be ten, and twelve.
  assert.ok(s3.asked() >= 1 && s3.asked() <= 6, `s3 was asked ${s3.asked()} times`)
  assert.ok(dav.asked() >= 1 && dav.asked() <= 6, `dav was asked ${dav.asked()} times`)
  const only = await host.run(['show', 'latest', '--store', 's3'])
  assert.equal(only.code, exitCode.failed)
  assert.match(only.stderr, /error: cannot list .* in s3:\/\/b at 127\.0\.0\.1:\d+: /)
})

test('of two stores, one empty and one silent, pruning is done in part; of one that is silent, not at all', async () => {
  const host = machine()
  mkdirSync(host.path('disk'))
  symlinkSync(host.path('loop'), host.path('loop'))
  const source = { type: 'files', paths: [randomFiles(host.path('data'), 1000)] }
  const stores = {
    disk: { type: 'local', path: host.path('disk') },
    broken: { type: 'local', path: host.path('loop') },
  }
  host.configure({ stores, jobs: { data: { source, to: ['disk', 'broken'], keep: { last: 1 } } } })
  const part = await host.run(['prune'])
  assert.equal(part.code, exitCode.partial, part.stderr)
  assert.match(part.stderr, /store broken does not answer/)
  host.configure({ stores, jobs: { data: { source, to: ['broken'], keep: { last: 1 } } } })
  assert.equal((await host.run(['prune'])).code, exitCode.failed)
  const named = await host.run(['list', '--store', host.path('loop')])
  assert.equal(named.code, exitCode.failed)
  assert.match(named.stderr, /too many symbolic links/)
})

/** Deletes as somebody does who has no right to delete versions. */
async function hideAll(t: TestContext, bucket: FreshBucket): Promise<void> {
  const raw = rawClient(t, bucket)
  const { Contents = [] } = await raw.listObjectsV2({ Bucket: bucket.bucket })
  for (const { Key = '' } of Contents) await raw.deleteObject({ Bucket: bucket.bucket, Key })
}

/** As docs/how-to/s3.md has it. */
async function showAll(t: TestContext, bucket: FreshBucket): Promise<void> {
  const raw = rawClient(t, bucket)
  const { DeleteMarkers = [] } = await raw.listObjectVersions({ Bucket: bucket.bucket })
  for (const { Key, VersionId, IsLatest } of DeleteMarkers)
    if (IsLatest) await raw.deleteObject({ Bucket: bucket.bucket, Key, VersionId })
}

test('list --hidden shows the backups that somebody has hidden by delete markers, and no others', async t => {
  const bucket = await orSkip(t, freshBucket({ lock: true }))
  if (!bucket) return
  const keys = { accessKeyId: { value: bucket.accessKey }, secretAccessKey: { value: bucket.secretKey } }
  const there = {
    type: 's3',
    bucket: bucket.bucket,
    endpoint: bucket.endpoint,
    region: bucket.region,
    ...keys,
  }
  const host = machine()
  const source = { type: 'files', paths: [randomFiles(host.path('data'), 1000)] }
  const stores = { there, disk: { type: 'local', path: host.path('disk') } }
  host.configure({ stores, jobs: { data: { source, to: ['there', 'disk'] } } })
  await host.ok(['backup'])
  const [first] = await listed(host)
  const none = await host.ok(['list', '--hidden'])
  assert.equal(none.out, '')
  assert.match(none.stderr, /no backup is hidden\ndisk shows no versions/)
  assert.doesNotMatch(none.stderr, /there shows/)
  await hideAll(t, bucket)
  await host.ok(['backup'])
  assert.deepEqual(
    (await listed(host, '--store', 'there')).map(({ id }) => id === first?.id),
    [false],
  )
  const hidden = (await host.ok(['list', '--hidden', '--json'])).json<Listed[]>()
  assert.deepEqual(
    hidden.map(({ id, status, stores: names }) => ({ id, status, names })),
    [{ id: first?.id, status: 'hidden', names: ['there'] }],
  )
  const told = await host.ok(['list', 'data', '--hidden', '--store', 'there'])
  assert.match(told.out, new RegExp(`${first?.id}.* there +hidden`))
  assert.match(told.stderr, /hidden by delete markers.*\n {2}hint: .*s3\.md/)
  await showAll(t, bucket)
  assert.match((await host.ok(['list', '--hidden', '--store', 'there'])).stderr, /no backup is hidden/)
  await host.ok(['verify', first?.id ?? '', '--store', 'there'])
})

/** Writes rubbish over everything, and hides it, as somebody does who may put and delete but no versions. */
async function spoilAll(t: TestContext, bucket: FreshBucket): Promise<void> {
  const raw = rawClient(t, bucket)
  const { Contents = [] } = await raw.listObjectsV2({ Bucket: bucket.bucket })
  for (const { Key = '' } of Contents) {
    await raw.putObject({ Bucket: bucket.bucket, Key, Body: 'pay, or else' })
    // Of the manifests the delete markers come later.
    if (Key.endsWith('.zst')) await raw.deleteObject({ Bucket: bucket.bucket, Key })
  }
}

test('a backup that somebody has overwritten and hidden in a bucket with versions is restored from the versions that were there first', async t => {
  const bucket = await orSkip(t, freshBucket({ lock: true }))
  if (!bucket) return
  const host = machine()
  const data = randomFiles(host.path('data'), 1000)
  const keys = { accessKeyId: { value: bucket.accessKey }, secretAccessKey: { value: bucket.secretKey } }
  const { endpoint, region } = bucket
  const there = { type: 's3', bucket: bucket.bucket, prefix: 'deep/er', endpoint, region, ...keys }
  const source = { type: 'files', paths: [data] }
  const safe = { type: 'local', path: host.path('safe') }
  host.configure({ stores: { there, safe }, jobs: { data: { source, to: ['there'] } } })
  await host.ok(['backup'])
  const [backup] = await listed(host)
  const id = backup?.id ?? ''
  await spoilAll(t, bucket)
  assert.equal((await host.run(['verify'])).code, exitCode.damaged)
  await host.ok(['copy', id, '--to', 'safe'])
  await host.ok(['verify', id, '--store', 'safe'])
  rmSync(host.path('safe'), { recursive: true })
  const first = await host.ok(['restore', 'latest', '--to', host.path('first')])
  assert.match(first.stderr, /overwritten or hidden the manifest of .*its first version is right/)
  assert.match(first.stderr, /trying the copy in there \(the versions that were there first\)/)
  assert.deepEqual(tree(host.path('first/data')), tree(data))
  await hideAll(t, bucket)
  const none = await host.run(['restore', 'latest', '--to', host.path('none')])
  assert.equal(none.code, exitCode.noSuchBackup)
  assert.match(none.stderr, /hint: 1 backup hidden by delete markers: cairn list --hidden/)
  const other = await host.run(['restore', 'wiki@latest', '--to', host.path('none')])
  assert.match(other.stderr, /job wiki has no backup/)
  assert.doesNotMatch(other.stderr, /hidden/)
  await host.ok(['restore', id, '--to', host.path('second')])
  assert.deepEqual(tree(host.path('second/data')), tree(data))
  assert.equal((await host.run(['hold', id])).code, exitCode.noSuchBackup)
  const pipe = await host.ok(['cat', id, 'files/data.tar'])
  assert.ok(pipe.out.length > 1000)
})

test('who names the folder above a store, or one without .cairn, hears it from list, restore and verify', async () => {
  const host = machine()
  const source = { type: 'files', paths: [randomFiles(host.path('data'), 1000)] }
  const stores = { disk: { type: 'local', path: host.path('all/disk') } }
  host.configure({ stores, jobs: { data: { source, to: ['disk'] } } })
  await host.ok(['backup'])
  for (const handle of ['dtaa', 'dtaa@latest'])
    assert.match((await host.run(['show', handle])).stderr, /hint: did you mean data@latest\?/)
  const above = host.path('all')
  for (const args of [['list'], ['restore', 'latest', '--to', host.path('to')], ['verify']])
    assert.match((await host.run([...args, '--store', above])).stderr, /there is a store below it, in disk\n/)
  // `cp -r disk/* copy`
  cpSync(host.path('all/disk/data'), host.path('copy/data'), { recursive: true })
  for (const args of [['list'], ['show', 'latest']])
    assert.match(
      (await host.run([...args, '--store', host.path('copy')])).stderr,
      /without the folder \.cairn/,
    )
})
