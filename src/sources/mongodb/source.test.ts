// budget: 120 s
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import {
  contents,
  excuses,
  type FreshMongo,
  fillHostile,
  freshMongo,
  optionsOf,
  withClient,
} from '../../../test/support/mongodb/databases.ts'
import { inChunks, readerOver } from '../../../test/support/reader.ts'
import { placeFor } from '../../../test/support/source-contract.ts'
import { Failure } from '../../model/failure.ts'
import type { Bytes } from '../../model/step.ts'
import { secretSource } from '../../platform/secret-source.ts'
import { MongodbOptions, mongodbRestorer, mongodbSource } from './index.ts'

const nothing = { allow: new Set<string>() }

async function filled(): Promise<FreshMongo> {
  const database = await freshMongo()
  await withClient(database, client =>
    client
      .db(database.name)
      .collection('t')
      .insertMany([{ n: 1 }, { n: 2 }]),
  )
  return database
}

function into(to: { readonly url: string }) {
  return mongodbRestorer({ target: secretSource(to.url) })
}

test('what keeps us from reading is said with its remedy, and never with the password', excuses, async () => {
  const { url, user, password, port, name } = await filled()
  const cases: [string, RegExp, RegExp][] = [
    [url.replace(password, 'falsch'), /Authentication failed/, /user and password, and authSource/],
    [url.replace(user, 'nobody'), /Authentication failed/, /user and password/],
    [`mongodb://127.0.0.1:${port}/${name}`, /requires authentication/i, /role "backup"/],
    [url.replace(`:${port}`, ':1'), /ECONNREFUSED/, /host, port and firewalls/],
    [url.replace('127.0.0.1', 'no-such-host.invalid'), /ENOTFOUND|EAI_AGAIN/, /name of the host/],
    [`${url}&tls=true`, /./, /tls/],
    [`${url}&tls=true&tlsCAFile=/no/such/file`, /no such file|ENOENT/, /./],
    [`${url}&replicaSet=rs0`, /./, /./],
    [`${url}&colour=red`, /colour/, /percent-encoded/],
    [url.replace('mongodb://', 'http://'), /./, /write it as mongodb:/],
    [url.replace(password, 'p@ss:w/rd'), /./, /percent-encoded/],
    [url.replace(name, 'no_such_db'), /there is no database "no_such_db"/, /there are .*db_/],
  ]
  for (const [uri, why, remedy] of cases) {
    // Where nobody can answer, nobody is waited for; who answers may take his time.
    const isVain = /:1\/|\.invalid|tls=true|replicaSet/.test(uri)
    const patience = isVain ? '&serverSelectionTimeoutMS=1500' : ''
    const source = mongodbSource(MongodbOptions.parse({ uri: uri + patience }))
    await assert.rejects(source.inspect(testContext()), error => {
      assert.ok(error instanceof Failure, String(error))
      assert.match(error.why, why)
      assert.match(error.remedy, remedy)
      for (const secret of [password, 'falsch', 'p@ss'])
        assert.ok(!JSON.stringify({ ...error, m: error.message }).includes(secret), uri)
      return true
    })
  }
})

test('the URI decides what is backed up, unless the options do', excuses, async () => {
  const [one, two] = [await filled(), await filled()]
  const units = async (url: string, more = {}) =>
    (await mongodbSource(optionsOf({ url }, more)).inspect(testContext())).units.map(({ name }) => name)
  assert.deepEqual(await units(one.url), [one.name])
  assert.deepEqual(await units(one.url, { database: two.name }), [two.name])
  assert.deepEqual(await units(one.url, { databases: [two.name, one.name] }), [two.name, one.name])
  const all = await units(one.uri)
  assert.ok(all.includes(one.name) && all.includes(two.name) && !all.includes('admin'), all.join())
  // Other tests make databases on this server meanwhile.
  const again = await units(one.uri.replace('/?', '/admin?'), { databases: 'all' })
  assert.ok(again.includes(one.name) && again.includes(two.name) && !again.includes('admin'), again.join())
  assert.ok(!(await units(one.uri, { databases: 'all', exclude: [two.name] })).includes(two.name))
  assert.deepEqual(await units(one.url, { whole: true }), ['all'])
  // Of several, one that is missing fails alone.
  const source = mongodbSource(optionsOf(one, { databases: [one.name, 'no_such_db'] }))
  await source.inspect(testContext())
  await assert.rejects(
    source.open({ name: 'no_such_db' }, null, 'none', testContext()),
    /there is no database/,
  )
  assert.throws(() => optionsOf(one, { whole: true, database: 'x' }), /say one of/)
})

test('the identity tells databases and servers apart, and holds no secret', excuses, async () => {
  const database = await filled()
  const { identity, units, local, version } = await mongodbSource(optionsOf(database)).inspect(testContext())
  assert.equal(identity, `mongodb:127.0.0.1:${database.port}/${database.name}`)
  assert.equal(units[0]?.identity, identity)
  assert.equal(local, true)
  assert.match(version, /^7\.0/)
})

test('users are kept as mongodump keeps them, and the manifest holds no secret', excuses, async () => {
  const database = await filled()
  const user = { createUser: 'reader', pwd: 'kept secret', roles: [] }
  await withClient(database, client => client.db(database.name).command(user))
  const { bytes, facts, manifest } = await capture(
    mongodbSource(optionsOf(database, { layout: 'directory' })),
    testContext(),
  )
  const users = bytes.get(`${database.name}/$admin.system.users.bson`)
  assert.match(Buffer.from(users ?? []).toString('latin1'), /reader/)
  assert.ok(
    !Buffer.from(users ?? [])
      .toString('latin1')
      .includes('owner'),
    'of this database only',
  )
  assert.equal(facts.options.accounts, 'full')
  for (const secret of [database.password, 'kept secret'])
    assert.ok(!JSON.stringify({ facts, manifest }).includes(secret))
  const none = await capture(mongodbSource(optionsOf(database, { accounts: false })), testContext())
  assert.equal(none.facts.options.accounts, 'none')
})

test('documents are the same when a cursor may live in several servers', excuses, async () => {
  const database = await freshMongo()
  await fillHostile(database)
  const take = async (url: string) => {
    const { bytes } = await capture(mongodbSource(optionsOf({ url }, { layout: 'directory' })), testContext())
    return Object.fromEntries([...bytes].map(([name, plain]) => [name, Buffer.from(plain).toString('hex')]))
  }
  assert.deepEqual(await take(`${database.url}&readPreference=secondaryPreferred`), await take(database.url))
})

test('a backup that is cut, changed or breaks off leaves the target as it was', excuses, async t => {
  const [from, to] = [await freshMongo(), await filled()]
  await fillHostile(from)
  const place = placeFor(t)
  const { manifest, bytes } = await capture(mongodbSource(optionsOf(from)), place.ctx)
  const [[name, whole] = ['', new Uint8Array()]] = bytes
  const before = await contents(to)
  const changed = Uint8Array.from(whole)
  const at = Buffer.from(whole).indexOf('numbers') + 1
  changed[at] = (changed[at] ?? 0) ^ 1
  const breaksOff = async function* (): Bytes {
    yield* inChunks(whole.subarray(0, whole.length / 2))
    throw new Error('the store went away')
  }
  const cases: [Uint8Array | (() => Bytes), object][] = [
    [whole.subarray(0, whole.length - 1), { exit: 20 }],
    [whole.subarray(0, whole.length / 2), { exit: 20 }],
    [whole.subarray(0, 100), { exit: 20 }],
    [changed, { exit: 20, message: /checksum of .*types is wrong/ }],
    [breaksOff, /the store went away/],
  ]
  for (const [kept, why] of cases) {
    const reader = readerOver(new Map([[name, kept]]), place.ctx)
    for (const url of [to.url, (await freshMongo()).url])
      await assert.rejects(into({ url }).apply([manifest], nothing, true, reader, place.ctx), why)
    assert.deepEqual(await contents(to), before)
  }
  place.demandClean()
})

test('a restore that is told to stop leaves the target as it was', excuses, async t => {
  const [from, to] = [await freshMongo(), await filled()]
  await fillHostile(from)
  const before = await contents(to)
  const { ctx, controller } = placeFor(t)
  const { manifest, bytes } = await capture(mongodbSource(optionsOf(from)), ctx)
  const reason = new Error('told to stop')
  const [[name, whole] = ['', new Uint8Array()]] = bytes
  let readings = 0
  const stopping = async function* (): Bytes {
    const isFirst = ++readings === 1
    yield whole.subarray(0, whole.length / 2)
    // The first reading is to see what there is.
    if (!isFirst) controller.abort(reason)
    yield whole.subarray(whole.length / 2)
  }
  const reader = readerOver(new Map([[name, stopping]]), ctx)
  await assert.rejects(into(to).apply([manifest], nothing, true, reader, ctx), error => error === reason)
  assert.deepEqual(await contents(to), before)
})

test('a target that fills up while it is restored into is not replaced', excuses, async () => {
  const [from, to] = [await filled(), await freshMongo()]
  const ctx = testContext()
  const { manifest, bytes } = await capture(mongodbSource(optionsOf(from)), ctx)
  const [[name, whole] = ['', new Uint8Array()]] = bytes
  let readings = 0
  const slow = async function* (): Bytes {
    if (++readings === 2)
      await withClient(to, client => client.db(to.name).collection('t').insertOne({ mine: true }))
    yield* inChunks(whole)
  }
  const reader = readerOver(new Map([[name, slow]]), ctx)
  await assert.rejects(into(to).apply([manifest], nothing, false, reader, ctx), /was empty, and no longer is/)
  assert.deepEqual(Object.keys(await contents(to)), ['t'])
})

test("a target on the source's own hosts needs no second password", excuses, async () => {
  const [from, to] = [await filled(), await freshMongo()]
  const ctx = testContext()
  const { manifest, reader } = await capture(mongodbSource(optionsOf(from)), ctx)
  const target = secretSource(`mongodb://127.0.0.1:${to.port}/${to.name}`)
  await mongodbRestorer({ target, source: secretSource(from.url) }).apply(
    [manifest],
    nothing,
    false,
    reader,
    ctx,
  )
  assert.deepEqual(await contents(to), await contents(from))
  await assert.rejects(mongodbRestorer({}).plan([manifest], nothing, ctx), /there is no target/)
  const other = { ...manifest, source: { ...manifest.source, engine: 'mariadb' } }
  await assert.rejects(into(to).plan([other], nothing, ctx), /not a backup of MongoDB/)
})
