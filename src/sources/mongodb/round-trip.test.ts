// budget: 120 s
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Captured, capture, manifestOf, recordOf } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import {
  addLarge,
  contents,
  dotted,
  excuses,
  type FreshMongo,
  fillHostile,
  freshMongo,
  optionsOf,
  withClient,
} from '../../../test/support/mongodb/databases.ts'
import { readerOver } from '../../../test/support/reader.ts'
import { sourceContract } from '../../../test/support/source-contract.ts'
import type { Manifest } from '../../model/manifest.ts'
import { secretSource } from '../../platform/secret-source.ts'
import { mongodbRestorer, mongodbSource } from './index.ts'

const nothing = { allow: new Set<string>() }

sourceContract(
  'mongodb',
  async () => {
    const [from, to] = [await freshMongo(), await freshMongo()]
    await withClient(from, async client => {
      await client
        .db(from.name)
        .collection('a')
        .insertMany([{ n: 1 }, { n: 2 }, { n: 3 }])
      await client.db(from.name).collection('b').createIndex({ n: 1 }, { unique: true })
    })
    return {
      source: mongodbSource(optionsOf(from)),
      restorer: into(to),
      state: () => contents(from),
      compare: async () => assert.deepEqual(await contents(to), await contents(from)),
    }
  },
  excuses,
)

for (const layout of ['archive', 'directory'] as const)
  test(`everything comes back under another name, and under its own: ${layout}`, excuses, async () => {
    const [from, back] = [await freshMongo(), await freshMongo()]
    await fillHostile(from)
    if (layout === 'archive') await addLarge(from)
    const before = await contents(from)
    const ctx = testContext()
    const { manifest, reader, census } = await capture(mongodbSource(optionsOf(from, { layout })), ctx)
    const report = await into(back).apply([manifest], nothing, false, reader, ctx)
    assert.deepEqual(await contents(back), before)
    assert.equal(report.objects, census.objects.length)
    assert.equal(
      report.rows,
      census.objects.reduce((sum, { rows }) => sum + (rows ?? 0), 0),
    )

    const home = mongodbRestorer({ source: secretSource(from.url) })
    await withClient(from, async client => {
      await client.db(from.name).collection('types').deleteMany({})
      await client.db(from.name).collection('empty').drop()
      await client.db(from.name).collection('extra').insertOne({})
    })
    const plan = await home.plan([manifest], nothing, ctx, reader)
    assert.ok(plan.replaces.includes(`collection ${from.name}.extra`))
    await assert.rejects(home.apply([manifest], nothing, false, reader, ctx), /it is not empty/)
    await home.apply([manifest], nothing, true, reader, ctx)
    assert.deepEqual(await contents(from), before)
  })

test('one collection comes back alone, and nothing else is touched', excuses, async () => {
  const [from, to] = [await freshMongo(), await freshMongo()]
  await fillHostile(from)
  const ctx = testContext()
  const { manifest, reader } = await capture(mongodbSource(optionsOf(from)), ctx)
  await withClient(to, async client => {
    await client.db(to.name).collection('mine').insertOne({ n: 1 })
    await client.db(to.name).collection('with space').insertOne({ old: true })
  })
  const only = { ...nothing, only: ['indexed', `${from.name}.with space`] }
  assert.deepEqual((await into(to).plan([manifest], only, ctx, reader)).replaces, [
    `collection ${to.name}.with space`,
  ])
  await into(to).apply([manifest], only, true, reader, ctx)
  const [found, all] = [await contents(to), await contents(from)]
  assert.deepEqual(Object.keys(found), ['indexed', 'mine', 'with space'])
  assert.deepEqual([found.indexed, found['with space']], [all.indexed, all['with space']])
  await assert.rejects(
    into(to).apply([manifest], { ...nothing, only: ['absent'] }, true, reader, ctx),
    /no such collection/,
  )
})

test('all databases in one backup, and one of them from it', excuses, async t => {
  const [one, two] = [await freshMongo(), await freshMongo()]
  await fillHostile(one)
  await withClient(two, client => client.db(two.name).collection('t').insertOne({ n: 1 }))
  await withClient(one, client => client.db(one.name).command({ createUser: 'app', pwd: 'x', roles: [] }))
  const ctx = testContext()
  const { manifest, reader, census, bytes } = await ofThese(one, two)
  assert.equal(manifest.unit, 'all')
  assert.ok(census.objects.some(({ name, rows }) => name === `${two.name}.t` && rows === 1))
  const before = [await contents(one), await contents(two)]
  const archive = join(folder(t), 'all.archive')
  writeFileSync(archive, bytes.get('mongodb/all.archive') ?? '')
  // It has read users and all else; FerretDB cannot merge them.
  assert.throws(
    () => run(one.mongorestore, ['--uri', one.uri, '--drop', '--noIndexRestore', `--archive=${archive}`]),
    /restoring users from archive[\s\S]* no such command: '_mergeAuthzCollections'/,
  )
  await withClient(one, client => client.db(one.name).command({ dropUser: 'app' }))
  for (const { name } of [one, two]) await withClient(one, client => client.db(name).dropDatabase())
  const home = mongodbRestorer({ source: secretSource(one.uri) })
  const report = await home.apply([manifest], nothing, false, reader, ctx)
  assert.deepEqual([await contents(one), await contents(two)], before)
  assert.match(report.warnings.join('\n'), /there already, and stay as they are/)
  assert.match(
    report.warnings.join('\n'),
    new RegExp(`users ${one.name}.app: not restored, because this server`),
  )
  const beside = await freshMongo()
  await into(beside).apply([manifest], { ...nothing, only: [two.name] }, false, reader, ctx)
  assert.deepEqual(await contents(beside), await contents(two))
  await assert.rejects(into(beside).apply([manifest], nothing, true, reader, ctx), /backup holds several/)
})

/** A backup of all databases of the server but those of other tests, which come and go. */
async function ofThese(...these: readonly FreshMongo[]): Promise<Captured> {
  const [{ uri }] = these as [FreshMongo]
  const ours = these.map(({ name }) => name)
  for (let tries = 1; ; tries++) {
    const all = await withClient({ uri }, client =>
      client.db('admin').admin().listDatabases({ nameOnly: true }),
    )
    const exclude = all.databases.map(({ name }) => name).filter(name => !ours.includes(name))
    const source = mongodbSource(optionsOf({ url: uri }, { whole: true, exclude }))
    // One that has come since is in it, and may have gone again before it was read.
    const taken = await capture(source, testContext()).catch(error => {
      if (tries === 10) throw error
    })
    if (taken && (taken.facts.options.databases as string[]).length === ours.length) return taken
  }
}

test('mongorestore reads our archive and our folder', excuses, async t => {
  const from = await freshMongo()
  await fillHostile(from)
  await withClient(from, client => client.db(from.name).collection(dotted).insertOne({ n: 1 }))
  const before = await documentsIn(from)
  const ctx = testContext()
  const dir = folder(t)
  const archive = join(dir, 'ours.archive')
  const ours = await capture(mongodbSource(optionsOf(from)), ctx)
  for (const bytes of ours.bytes.values()) writeFileSync(archive, bytes)
  const one = await freshMongo()
  mongorestore(from, one, [`--archive=${archive}`])
  assert.deepEqual(await documentsIn(one), before)

  const files = await capture(mongodbSource(optionsOf(from, { layout: 'directory' })), ctx)
  writeFiles(join(dir, 'ours'), files.bytes)
  const two = await freshMongo()
  mongorestore(from, two, ['--dir', join(dir, 'ours')])
  assert.deepEqual(await documentsIn(two), before)
})

test("we read mongodump's archive and folder, and our folder is the same as its", excuses, async t => {
  const from = await freshMongo()
  await fillHostile(from)
  const before = await contents(from)
  const theirs = join(folder(t), 'theirs')
  run(from.mongodump, ['--uri', from.uri, '--db', from.name, `--archive=${theirs}.archive`])
  const one = await freshMongo()
  await bring(new Map([['x.archive', readFileSync(`${theirs}.archive`)]]), 'mongodump-archive', from, one)
  assert.deepEqual(await contents(one), before)

  run(from.mongodump, ['--uri', from.uri, '--db', from.name, '--out', theirs])
  const dumped = new Map(
    readdirSync(join(theirs, from.name)).map(name => [
      `${from.name}/${name}`,
      readFileSync(join(theirs, from.name, name)),
    ]),
  )
  const two = await freshMongo()
  await bring(dumped, 'bson', from, two)
  assert.deepEqual(await contents(two), before)

  const source = mongodbSource(optionsOf(from, { layout: 'directory', accounts: false }))
  const { bytes } = await capture(source, testContext())
  dumped.delete(`${from.name}/prelude.json`)
  const text = (files: ReadonlyMap<string, Uint8Array>) =>
    Object.fromEntries(
      [...files]
        .map(([name, plain]) => [name, Buffer.from(plain)] as const)
        .map(([name, plain]) => [
          name,
          name.endsWith('.json') ? JSON.parse(plain.toString()) : plain.toString('hex'),
        ]),
    )
  assert.deepEqual(text(bytes), text(dumped))
})

test('a rename that the server refuses half-way leaves the target as it was', excuses, async () => {
  const [from, to] = [await freshMongo(), await freshMongo()]
  await withClient(from, async client => {
    for (const name of ['a', dotted, 'z']) await client.db(from.name).collection(name).insertOne({ name })
  })
  await withClient(to, async client => {
    for (const name of ['a', 'b']) await client.db(to.name).collection(name).insertOne({ old: name })
    await client.db(to.name).collection('b').createIndex({ old: 1 })
  })
  const before = await contents(to)
  const ctx = testContext()
  const { manifest, reader } = await capture(mongodbSource(optionsOf(from)), ctx)
  await assert.rejects(into(to).apply([manifest], nothing, true, reader, ctx), /refused renameCollection/)
  assert.deepEqual(await contents(to), before)
})

/** The documents alone: FerretDB refuses the indexes as mongorestore asks for them. */
async function documentsIn(database: FreshMongo): Promise<Record<string, unknown>> {
  const all = Object.entries(await contents(database))
  return Object.fromEntries(all.map(([name, found]) => [name, (found as { documents: unknown }).documents]))
}

function writeFiles(dir: string, files: ReadonlyMap<string, Uint8Array>): void {
  for (const [name, bytes] of files) {
    mkdirSync(dirname(join(dir, name)), { recursive: true })
    writeFileSync(join(dir, name), bytes)
  }
}

/** Restores bytes that another tool made. */
async function bring(
  bytes: ReadonlyMap<string, Uint8Array>,
  media: string,
  from: FreshMongo,
  to: FreshMongo,
): Promise<void> {
  const ctx = testContext()
  const records = [...bytes].map(([name, plain], index) =>
    recordOf({ name, media, role: 'data' }, plain, index),
  )
  const now = new Date()
  const facts = {
    kind: 'foreign',
    capturedAt: now,
    consistentAt: now,
    client: '',
    options: {},
    warnings: [],
  } as const
  const manifest: Manifest = manifestOf(
    { engine: 'mongodb', identity: 'x', version: '', unit: from.name },
    records,
    facts,
    ctx,
  )
  await into(to).apply([manifest], nothing, false, readerOver(bytes, ctx), ctx)
}

function into(to: FreshMongo) {
  return mongodbRestorer({ target: secretSource(to.url) })
}

function mongorestore(from: FreshMongo, to: FreshMongo, args: string[]): void {
  run(from.mongorestore, [
    '--uri',
    from.uri,
    `--nsFrom=${from.name}.*`,
    `--nsTo=${to.name}.*`,
    '--noIndexRestore',
    ...args,
  ])
}

function run(program: string, args: string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
}

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'cairn-mongodb-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}
