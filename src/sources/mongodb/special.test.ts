import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { BSON } from 'mongodb'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { fakeServer, moment } from '../../../test/support/mongodb/fake-server.ts'
import { collect } from '../../../test/support/reader.ts'
import type { Source } from '../../model/source.ts'
import { openArchive } from './archive.ts'
import { restorerOf } from './restorer.ts'
import type { Server } from './server.ts'
import { openSession, type SessionOptions } from './session.ts'
import { takeMoment } from './snapshot.ts'

// What needs a MongoDB of its own: views, time series, validators, snapshots. FerretDB has none of them.

const nothing = { allow: new Set<string>() }
const bucket = BSON.serialize({ _id: 1, control: { version: 1 }, data: { time: { 0: new Date(0) } } })

async function filled(database = 'shop') {
  const fake = fakeServer({ snapshots: true })
  const { server } = fake
  await server.command(database, { create: 'orders', validator: { n: { $gt: 0 } }, capped: true, size: 4096 })
  await server.insert(database, 'orders', [BSON.serialize({ n: -1 }), BSON.serialize({ n: 2 })])
  await server.command(database, {
    createIndexes: 'orders',
    indexes: [{ v: 2, key: { n: 1 }, name: 'n_1', expireAfterSeconds: 60 }],
  })
  await server.command(database, {
    create: 'large',
    viewOn: 'orders',
    pipeline: [{ $match: { n: { $gt: 1 } } }],
  })
  await server.command(database, { create: 'weather', timeseries: { timeField: 'at', granularity: 'hours' } })
  await server.insert(database, 'system.buckets.weather', [bucket])
  await server.command(database, {
    createIndexes: 'weather',
    indexes: [{ v: 2, key: { at: -1 }, name: 'at_-1' }],
  })
  await server.command(database, { create: 'system.views' })
  await server.command(database, { create: 'system.profile' })
  return fake
}

function sourceOf(server: Server, more: Partial<SessionOptions> = {}): Source {
  const options: SessionOptions = {
    ...{ server, databases: ['shop'], unit: 'shop', whole: false, census: 'counts', layout: 'archive' },
    ...{ accounts: false, snapshot: undefined },
    ...more,
  }
  return {
    engine: 'mongodb',
    inspect: async () => ({ identity: 'x', version: '7', units: [{ name: 'shop' }], estimate: 0 }),
    open: (_unit, _parent, census, ctx) => openSession({ ...options, census }, ctx),
  }
}

test('views go with their definition, time series with their buckets, both as mongodump writes them', async () => {
  const { server } = await filled()
  const ctx = testContext()
  const { bytes } = await capture(sourceOf(server), ctx)
  const [archive = new Uint8Array()] = bytes.values()
  const opened = await openArchive(some(archive), 'it')
  assert.deepEqual(
    opened.listed.map(({ collection, type }) => [collection, type]),
    [
      ['large', 'view'],
      ['orders', 'collection'],
      ['weather', 'timeseries'],
    ],
  )
  const found: string[] = []
  for await (const met of opened.contents())
    if (met.type === 'documents') found.push(`${met.collection} ${met.count}`)
  assert.deepEqual(found, ['orders 2', 'system.buckets.weather 1'])

  const folder = await capture(sourceOf(server, { layout: 'directory' }), ctx)
  assert.deepEqual(
    [...folder.bytes.keys()],
    [
      'shop/large.metadata.json',
      'shop/orders.metadata.json',
      'shop/orders.bson',
      'shop/weather.metadata.json',
      'shop/system.buckets.weather.bson',
    ],
  )
  const view = JSON.parse(Buffer.from(folder.bytes.get('shop/large.metadata.json') ?? []).toString())
  assert.deepEqual(view.options.pipeline, [{ $match: { n: { $gt: { $numberInt: '1' } } } }])
  assert.deepEqual([view.type, view.indexes], ['view', []])
})

test('a server that keeps no buckets beside a time series is asked for the raw data', async () => {
  const { server, databases, commands } = await filled()
  databases.get('shop')?.delete('system.buckets.weather')
  databases.get('shop')?.get('weather')?.documents.push(bucket)
  await capture(sourceOf(server), testContext())
  assert.ok(commands.some(({ find, rawData }) => find === 'weather' && rawData === true))
})

for (const layout of ['archive', 'directory'] as const)
  test(`views, time series and options come back, onto nothing and over what is there: ${layout}`, async () => {
    const from = await filled()
    const ctx = testContext()
    const { manifest, reader } = await capture(sourceOf(from.server, { layout }), ctx)
    const to = fakeServer()
    const restorer = restorerOf({}, async () => to.server)
    await restorer.apply([manifest], nothing, false, reader, ctx)
    const shop = () =>
      [...(to.databases.get('shop') ?? [])]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, kept]) => [
          name,
          kept.type,
          kept.documents.length,
          kept.indexes.length,
          Object.keys(kept.options),
        ])
    const expected = [
      ['large', 'view', 0, 0, ['viewOn', 'pipeline']],
      ['orders', 'collection', 2, 1, ['validator', 'capped', 'size']],
      ['system.buckets.weather', 'collection', 1, 0, []],
      ['weather', 'timeseries', 0, 1, ['timeseries']],
    ]
    assert.deepEqual(shop(), expected)
    await to.server.command('shop', { create: 'extra' })
    await to.server.command('shop', { create: 'old', timeseries: { timeField: 'at' } })
    const plan = await restorer.plan([manifest], nothing, ctx, reader)
    assert.deepEqual(
      plan.replaces,
      [
        'view shop.large',
        'time series shop.weather',
        'collection shop.orders',
        'collection shop.extra',
        'time series shop.old',
      ].toSorted((a, b) => plan.replaces.indexOf(a) - plan.replaces.indexOf(b)),
    )
    assert.match(plan.steps.join(), /time series that is replaced is dropped before/)
    await restorer.apply([manifest], nothing, true, reader, ctx)
    assert.deepEqual(shop(), expected)
  })

test('a view that cannot be made undoes everything, and the old view is there again', async () => {
  const from = await filled()
  const ctx = testContext()
  const { manifest, reader } = await capture(sourceOf(from.server), ctx)
  const to = fakeServer()
  await to.server.command('shop', { create: 'orders' })
  await to.server.insert('shop', 'orders', [BSON.serialize({ old: true })])
  await to.server.command('shop', { create: 'large', viewOn: 'orders', pipeline: [] })
  const before = structuredClone([...(to.databases.get('shop')?.keys() ?? [])].sort())
  const failing: Server = {
    ...to.server,
    command: async (database, command, signal) => {
      // The undo, which has a signal of its own, is let through.
      if (command.viewOn && !signal) throw new Error('no view today')
      return await to.server.command(database, command, signal)
    },
  }
  const restorer = restorerOf({}, async () => failing)
  await assert.rejects(restorer.apply([manifest], nothing, true, reader, ctx), /no view today/)
  assert.deepEqual([...(to.databases.get('shop')?.keys() ?? [])].sort(), before)
  assert.equal(to.databases.get('shop')?.get('orders')?.documents.length, 1)
})

test('all collections are read, and counted, as of the moment that the server gives', async () => {
  const { server, commands } = await filled()
  const { facts, census } = await capture(sourceOf(server), testContext())
  assert.equal(census.at, 'snapshot')
  assert.equal(facts.options.snapshot, true)
  assert.equal(facts.capturedAt.getTime(), 1_800_000_000_000)
  assert.deepEqual(facts.warnings, [])
  const reads = commands.filter(({ find, aggregate, limit }) => (find ?? aggregate) && !limit)
  assert.ok(reads.length >= 3)
  for (const { readConcern } of reads)
    assert.deepEqual(readConcern, { level: 'snapshot', atClusterTime: moment })
})

test('without a snapshot it is said; where one is demanded, its absence fails', async () => {
  const collection = { database: 'shop', collection: 'orders' }
  const take = async (wanted: boolean | undefined, fake: ReturnType<typeof fakeServer>, bytes = 0) =>
    await takeMoment(fake.server, wanted, collection, bytes)
  assert.match((await take(undefined, fakeServer())).warnings[0]?.what ?? '', /no replica set/)
  assert.match(
    (await take(false, fakeServer({ snapshots: true }))).warnings[0]?.what ?? '',
    /snapshot: false/,
  )
  await assert.rejects(take(true, fakeServer()), /offers no snapshots/)
  const large = 7 * 1024 ** 3
  assert.match(
    (await take(undefined, fakeServer({ snapshots: true }), large)).warnings[0]?.what ?? '',
    /300 s of its past/,
  )
  assert.equal((await take(undefined, fakeServer({ snapshots: true, window: 3600 }), large)).at, moment)
  assert.equal((await take(true, fakeServer({ snapshots: true }), large)).at, moment)
})

test('what is made, altered or dropped while the backup runs is told', async () => {
  const { server } = await filled()
  const ctx = testContext()
  await using session = await sourceOf(server).open({ name: 'shop' }, null, 'none', ctx)
  for await (const artifact of session.artifacts())
    await collect(artifact.open(ctx) as AsyncIterable<Uint8Array>)
  await server.command('shop', { create: 'new' })
  await server.command('shop', { drop: 'large' })
  await server.command('shop', { createIndexes: 'orders', indexes: [{ v: 2, key: { x: 1 }, name: 'x_1' }] })
  assert.deepEqual(
    (await session.finish()).warnings.map(({ what }) => what),
    [
      'shop.new was made while the backup ran, and is not in it',
      'shop.orders got other indexes or options while the backup ran: it has the earlier ones',
      'shop.large was dropped while the backup ran: it may not be whole in it',
    ],
  )
})

test('an index on fields whose names are numbers is told, and never built in another order', async () => {
  const { server } = await filled()
  const key = { b: 1, 0: 1 }
  await server.command('shop', { createIndexes: 'orders', indexes: [{ v: 2, key, name: 'numbers' }] })
  const ctx = testContext()
  const { manifest, reader } = await capture(sourceOf(server), ctx)
  assert.match(manifest.warnings[0]?.what ?? '', /index numbers .* by hand/)
  const to = fakeServer()
  const report = await restorerOf({}, async () => to.server).apply([manifest], nothing, false, reader, ctx)
  assert.match(report.warnings.join(), /build it by hand/)
  assert.deepEqual(
    to.databases
      .get('shop')
      ?.get('orders')
      ?.indexes.map(({ name }) => name),
    ['n_1'],
  )
})

test('loading the source does not load the driver', () => {
  const script = `await import(${JSON.stringify(import.meta.resolve('../index.ts'))})
    const { createRequire } = await import('node:module')
    console.log(Object.keys(createRequire(import.meta.url).cache).filter(name => name.includes('/mongodb/lib/')).length)`
  const loaded = (code: string): number =>
    Number(execFileSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' }))
  assert.equal(loaded(script), 0)
  const driver = JSON.stringify(import.meta.resolve('mongodb'))
  assert.ok(loaded(`await import(${driver});${script}`) > 0, 'the test would notice')
})

async function* some(bytes: Uint8Array) {
  yield bytes
}

test('indexes keep their own collation where the collection has another', async () => {
  const { server } = fakeServer()
  await server.command('shop', { create: 'words', collation: { locale: 'de' } })
  const indexes = [
    { v: 2, key: { a: 1 }, name: 'plain' },
    { v: 2, key: { b: 1 }, name: 'french', collation: { locale: 'fr' } },
    { buildUUID: 1, spec: {} },
  ]
  await server.command('shop', { createIndexes: 'words', indexes })
  const ctx = testContext()
  const { manifest, reader } = await capture(sourceOf(server), ctx)
  const to = fakeServer()
  await restorerOf({}, async () => to.server).apply([manifest], nothing, false, reader, ctx)
  const built = to.databases.get('shop')?.get('words')?.indexes
  assert.deepEqual(
    built?.map(({ name, collation }) => [name, collation.locale]),
    [
      ['plain', 'simple'],
      ['french', 'fr'],
    ],
  )
})
