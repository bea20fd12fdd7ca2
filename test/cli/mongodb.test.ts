import assert from 'node:assert/strict'
import { test } from 'node:test'
import { machine } from '../support/cli.ts'
import { contents, excuses, fillHostile, freshMongo, withClient } from '../support/mongodb/databases.ts'

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
