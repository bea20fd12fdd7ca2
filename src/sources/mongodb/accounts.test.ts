import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { BSON, type Document } from 'mongodb'
import { type Captured, capture, manifestOf, recordOf } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { excuses, freshMongo, optionsOf, withClient } from '../../../test/support/mongodb/databases.ts'
import { fakeServer } from '../../../test/support/mongodb/fake-server.ts'
import { readerOver } from '../../../test/support/reader.ts'
import type { RestoreReport, Selection } from '../../model/restore.ts'
import { secretSource } from '../../platform/secret-source.ts'
import { mongodbSource } from './index.ts'
import { restorerOf } from './restorer.ts'
import { openSession, type SessionOptions } from './session.ts'

type Fake = ReturnType<typeof fakeServer>

const nothing: Selection = { allow: new Set<string>() }
const ctx = testContext()

/** With fields whose names are numbers, and types that decoding would change. */
function user(db: string, name: string, salt = 'c2FsdA=='): Document {
  const credentials = { 'SCRAM-SHA-256': { iterationCount: 15000, salt, storedKey: 'k', serverKey: 's' } }
  const own = { customData: { b: 1, 0: new BSON.Long(7) }, roles: [{ role: 'readWrite', db }] }
  return { _id: `${db}.${name}`, userId: new BSON.UUID(), user: name, db, credentials, ...own }
}

function role(db: string, name: string): Document {
  const privileges = [{ resource: { db, collection: '' }, actions: ['find'] }]
  return { _id: `${db}.${name}`, role: name, db, privileges, roles: [] }
}

/** A server of two databases with two users each, of whom one of admin, and a role. */
async function filled(version = 5): Promise<Fake> {
  const fake = fakeServer()
  const put = (database: string, name: string, documents: Document[]) =>
    fake.server.insert(
      database,
      name,
      documents.map(one => BSON.serialize(one)),
    )
  for (const name of ['shop', 'wiki']) await put(name, 'orders', [{ n: 1 }, { n: 2 }])
  await put('admin', 'system.users', [
    ...[user('shop', 'reader'), user('shop', 'writer')],
    ...[user('wiki', 'reader'), user('admin', 'boss')],
  ])
  await put('admin', 'system.roles', [role('shop', 'clerk'), role('admin', 'auditor')])
  await put('admin', 'system.version', [
    { _id: 'featureCompatibilityVersion', version: '7.0' },
    { _id: 'authSchema', currentVersion: version },
  ])
  return fake
}

async function taken({ server }: Fake, more: Partial<SessionOptions> = {}): Promise<Captured> {
  const options: SessionOptions = {
    ...{ server, databases: ['shop', 'wiki'], unit: 'all', whole: true, census: 'counts' },
    ...{ layout: 'archive', accounts: true, snapshot: undefined },
    ...more,
  }
  const { unit: name } = options
  return capture(
    {
      engine: 'mongodb',
      inspect: async () => ({ identity: 'x', version: '7', units: [{ name }], estimate: 0 }),
      open: (_unit, _parent, _census, context) => openSession(options, context),
    },
    ctx,
  )
}

const ofShop = { databases: ['shop'], unit: 'shop', whole: false } as const

async function restored(
  { manifest, reader }: Pick<Captured, 'manifest' | 'reader'>,
  to: Fake,
  pick: Selection = nothing,
  target?: string,
): Promise<RestoreReport> {
  const options = target === undefined ? {} : { target: secretSource(target) }
  return restorerOf(options, async () => to.server).apply([manifest], pick, false, reader, ctx)
}

function bytesIn(fake: Fake, name: string): string[] {
  const documents = fake.databases.get('admin')?.get(name)?.documents ?? []
  return documents.map(one => Buffer.from(one).toString('hex')).sort()
}

function namesIn(fake: Fake, name: string): string[] {
  const documents = fake.databases.get('admin')?.get(name)?.documents ?? []
  return documents.map(one => String(BSON.deserialize(one)._id)).sort()
}

/** Of what a restore puts aside. */
function demandTidy(fake: Fake): void {
  for (const name of ['tempusers', 'temproles'])
    assert.equal(fake.databases.get('admin')?.has(name) ?? false, false, name)
}

for (const layout of ['archive', 'directory'] as const)
  test(`users and roles of a whole server come back byte by byte: ${layout}`, async () => {
    const from = await filled()
    const to = fakeServer()
    const report = await restored(await taken(from, { layout }), to)
    assert.deepEqual(report.warnings, [])
    for (const name of ['system.users', 'system.roles'])
      assert.deepEqual(bytesIn(to, name), bytesIn(from, name), name)
    assert.equal(to.databases.get('admin')?.has('system.version'), false)
    demandTidy(to)
  })

test('users and roles that are there stay as they are, and are named', async () => {
  const to = fakeServer()
  const there = [user('shop', 'reader', 'another'), user('admin', 'us')].map(one => BSON.serialize(one))
  await to.server.insert('admin', 'system.users', there)
  // What another restore has left when it was killed.
  await to.server.insert('admin', 'tempusers', [BSON.serialize(user('shop', 'ghost'))])
  const backup = await taken(await filled())
  const plan = await restorerOf({}, async () => to.server).plan(
    [backup.manifest],
    nothing,
    ctx,
    backup.reader,
  )
  assert.match(plan.steps.join('\n'), /creates the users and roles that are missing/)
  const { warnings } = await restored(backup, to)
  assert.deepEqual(warnings, ['users shop.reader: there already, and stay as they are'])
  const names = ['admin.boss', 'admin.us', 'shop.reader', 'shop.writer', 'wiki.reader']
  assert.deepEqual(namesIn(to, 'system.users'), names)
  for (const one of there) assert.ok(bytesIn(to, 'system.users').includes(Buffer.from(one).toString('hex')))
  assert.deepEqual(namesIn(to, 'system.roles'), ['admin.auditor', 'shop.clerk'])
  demandTidy(to)
})

test('with one database come its own users and roles, unless its name is another one', async () => {
  const backup = await taken(await filled(), ofShop)
  const to = fakeServer()
  assert.deepEqual((await restored(backup, to)).warnings, [])
  assert.deepEqual(namesIn(to, 'system.users'), ['shop.reader', 'shop.writer'])
  assert.deepEqual(namesIn(to, 'system.roles'), ['shop.clerk'])
  const beside = fakeServer()
  const { warnings } = await restored(backup, beside, nothing, 'mongodb://fake:27017/shop_side')
  assert.deepEqual(warnings, [
    'users shop.reader, shop.writer; roles shop.clerk: not restored, because they are those of the database shop, and the target has another name',
  ])
  assert.equal(beside.databases.get('shop_side')?.get('orders')?.documents.length, 2)
  assert.deepEqual(namesIn(beside, 'system.users'), [])
})

test('a part of a backup, or one without privileges, comes without users and roles', async () => {
  const backup = await taken(await filled())
  const picks: Selection[] = [
    { ...nothing, only: ['shop'] },
    { ...nothing, only: ['shop.orders'] },
    { ...nothing, options: { noPrivileges: true } },
  ]
  for (const pick of picks) {
    const to = fakeServer()
    assert.deepEqual((await restored(backup, to, pick)).warnings, [])
    assert.deepEqual(namesIn(to, 'system.users'), [])
    demandTidy(to)
  }
})

test('what the server refuses of users and roles is told, and the data is there', async () => {
  const backup = await taken(await filled())
  const old = await taken(await filled(1))
  for (const [taking, refuses, why] of [
    [backup, 59, /this server takes none that were saved .* make them by hand/],
    [backup, 13, /grant the role "restore"/],
    [old, undefined, /they are of version 1/],
  ] as const) {
    const to = fakeServer(refuses === undefined ? {} : { refuses })
    const { warnings } = await restored(taking, to)
    assert.equal(warnings.length, 1)
    assert.match(
      warnings[0] ?? '',
      /^users shop.reader, shop.writer, wiki.reader, admin.boss; roles .*: not restored, because/,
    )
    assert.match(warnings[0] ?? '', why)
    assert.equal(to.databases.get('wiki')?.get('orders')?.documents.length, 2)
    assert.deepEqual(namesIn(to, 'system.users'), [])
    demandTidy(to)
  }
})

test('a server that quietly leaves users out is found out', async () => {
  const to = fakeServer()
  const quiet = {
    ...to,
    server: {
      ...to.server,
      command: async (database: string, command: Document, signal?: AbortSignal) =>
        command._mergeAuthzCollections && command.tempUsersCollection
          ? { ok: 1 }
          : await to.server.command(database, command, signal),
    },
  }
  const { warnings } = await restored(await taken(await filled(), ofShop), quiet)
  assert.match(warnings.join(), /^users shop.reader, shop.writer; roles shop.clerk: the server did not take/)
  demandTidy(to)
})

test('a backup that is cut changes no user, and leaves none aside', async () => {
  const { manifest, bytes } = await taken(await filled())
  const [[name, whole] = ['', new Uint8Array()]] = bytes
  const to = fakeServer()
  await to.server.insert('admin', 'system.users', [BSON.serialize(user('admin', 'us'))])
  const reader = readerOver(new Map([[name, whole.subarray(0, -20)]]), ctx)
  await assert.rejects(restored({ manifest, reader }, to), /damaged/)
  assert.deepEqual(namesIn(to, 'system.users'), ['admin.us'])
  assert.equal(to.databases.get('shop')?.size ?? 0, 0)
  demandTidy(to)
})

test('what mongodump saves of users comes back by us, and mongorestore finds ours', excuses, async t => {
  const from = await freshMongo()
  const made = { createUser: 'app', pwd: 'kept secret', roles: [] }
  await withClient(from, async client => {
    await client.db(from.name).collection('t').insertOne({ n: 1 })
    await client.db(from.name).command(made)
  })
  const dir = mkdtempSync(join(tmpdir(), 'cairn-mongodb-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  const theirs = join(dir, 'theirs.archive')
  const options = ['--uri', from.uri, '--db', from.name]
  run(t, from.mongodump, [...options, '--dumpDbUsersAndRoles', `--archive=${theirs}`])
  const archive = readFileSync(theirs)
  const facts = { kind: 'foreign', capturedAt: new Date(), consistentAt: new Date() } as const
  const manifest = manifestOf(
    { engine: 'mongodb', identity: 'x', version: '', unit: from.name },
    [recordOf({ name: 'x.archive', media: 'mongodump-archive', role: 'data' }, archive)],
    { ...facts, client: '', options: {}, warnings: [] },
    ctx,
  )
  const to = fakeServer()
  await restored({ manifest, reader: readerOver(new Map([['x.archive', archive]]), ctx) }, to)
  assert.deepEqual(namesIn(to, 'system.users'), [`${from.name}.app`])

  for (const layout of ['archive', 'directory'] as const) {
    const ours = await capture(mongodbSource(optionsOf(from, { layout })), ctx)
    for (const [name, bytes] of ours.bytes) {
      mkdirSync(dirname(join(dir, name)), { recursive: true })
      writeFileSync(join(dir, name), bytes)
    }
    const where =
      layout === 'archive' ? `--archive=${join(dir, `mongodb/${from.name}.archive`)}` : join(dir, from.name)
    // FerretDB cannot merge what mongorestore has read and put aside.
    const said = run(t, from.mongorestore, [...options, '--drop', '--restoreDbUsersAndRoles', where], 1)
    assert.match(said, /restoring users from /)
    assert.match(said, /no such command: '_mergeAuthzCollections'/)
  }
})

function run(t: TestContext, program: string, args: string[], status = 0): string {
  const ran = spawnSync(program, args, { encoding: 'utf8', signal: t.signal })
  assert.equal(ran.status, status, ran.stderr)
  return ran.stderr
}
