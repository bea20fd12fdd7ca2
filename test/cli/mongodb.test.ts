import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { machine, type Running } from '../support/cli.ts'
import {
  addLarge,
  contents,
  excuses,
  type FreshMongo,
  fillHostile,
  freshMongo,
  withClient,
} from '../support/mongodb/databases.ts'

for (const layout of ['directory', 'archive'] as const)
  test(`as a member of an archive, a database comes back where it was: ${layout}`, excuses, async () => {
    const host = machine()
    const database = await freshMongo()
    await fillHostile(database)
    const before = await contents(database)
    const source = { type: 'mongodb', uri: { env: 'SHOP_URI' }, layout, accounts: false }
    host.configure({
      stores: { disk: { type: 'local', path: host.path('disk') } },
      jobs: {
        side: {
          source: { type: 'archive', name: 'side', members: [{ name: 'mongodb-dump', source }] },
          to: ['disk'],
        },
      },
    })
    const options = { env: { SHOP_URI: database.url } }
    const backup = await host.ok(['backup', 'side'], options)
    await host.ok(['restore', 'side@latest', '--to', host.path('parts')], options)
    const refused = await host.run(['restore', 'side@latest'], options)
    assert.equal(refused.code, 2)
    assert.match(refused.stderr, layout === 'directory' ? /is not empty|would be replaced/ : /is not empty/)

    await withClient(database, client => client.db(database.name).dropDatabase())
    const restored = await host.ok(['restore', 'side@latest'], options)
    assert.deepEqual(await contents(database), before)
    for (const ran of [backup, refused, restored])
      assert.ok(!`${ran.out}${ran.stderr}`.includes(database.password))
  })

test('a backup is verified, shown and restored by name, and no secret is printed', excuses, async () => {
  const host = machine()
  const [from, to] = [await freshMongo(), await freshMongo()]
  await fillHostile(from)
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: { shop: { source: { type: 'mongodb', uri: { env: 'SHOP_URI' } }, to: ['disk'] } },
  })
  const env = { SHOP_URI: from.url }
  const said: string[] = []
  for (const args of [
    ['doctor', 'shop'],
    ['backup', 'shop'],
    ['show', 'shop@latest'],
    ['verify', 'shop@latest'],
    ['restore', 'shop@latest', '--dry-run'],
    ['restore', 'shop@latest', '--to', to.url],
    ['restore', 'shop@latest', '--only', 'indexed', '--yes'],
    ['config', 'show'],
  ]) {
    const { out, stderr } = await host.ok(args, { env })
    said.push(out, stderr)
  }
  assert.deepEqual(await contents(to), await contents(from))
  assert.match(said.join(''), /collections are not of one moment: the server is no replica set/)
  assert.ok(!said.join('').includes(from.password))
  const damaged = await host.run(['restore', 'shop@latest', '--only', 'no_such'], { env })
  assert.equal(damaged.code, 2)
  assert.match(damaged.stderr, /the backup has no such collection/)
})

test(
  'a restore that is killed while it loads leaves the target as it was, and can be run again',
  excuses,
  async () => {
    const host = machine()
    const [from, to] = [await freshMongo(), await freshMongo()]
    await fillHostile(from)
    await addLarge(from)
    await withClient(to, client => client.db(to.name).collection('types').insertOne({ mine: true }))
    const before = await contents(to)
    host.configure({
      stores: { disk: { type: 'local', path: host.path('disk') } },
      jobs: {
        shop: { source: { type: 'mongodb', uri: { env: 'SHOP_URI' }, accounts: false }, to: ['disk'] },
      },
    })
    const env = { SHOP_URI: from.url }
    await host.ok(['backup', 'shop'], { env })
    const restore = ['restore', 'shop@latest', '--to', to.url, '--yes']
    const running = host.start(restore, { env })
    const loaded = await untilLoading(to, running)
    running.child.kill('SIGKILL')
    await running.ended
    assert.ok(loaded.length > 0, 'it ended before it was seen to load')
    assert.deepEqual(await withoutLeftovers(to), before)

    await host.ok(restore, { env })
    assert.deepEqual(await withoutLeftovers(to), await contents(from))
    await host.ok(['backup', 'shop'], { env: { SHOP_URI: to.url } })
    assert.ok(
      !(await host.ok(['cat', `shop/${to.name}@latest`, `mongodb/${to.name}.archive`])).out.includes(
        'cairn_restore_',
      ),
    )
  },
)

function isLeftover(name: string): boolean {
  return name.startsWith('cairn_restore_')
}

async function withoutLeftovers(database: FreshMongo): Promise<Record<string, unknown>> {
  const all = Object.entries(await contents(database))
  return Object.fromEntries(all.filter(([name]) => !isLeftover(name)))
}

/** What a restore has begun to load; nothing if it ends before. */
async function untilLoading(to: FreshMongo, { ended }: Running): Promise<string[]> {
  let isOver = false
  void ended.finally(() => {
    isOver = true
  })
  return await withClient(to, async client => {
    while (!isOver) {
      const all = await client.db(to.name).listCollections({}, { nameOnly: true }).toArray()
      const found = all.map(({ name }) => name).filter(isLeftover)
      if (found.length > 0) return found
      await sleep(5)
    }
    return []
  })
}
