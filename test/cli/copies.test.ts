import assert from 'node:assert/strict'
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { putMark } from '../../src/engine/marking.ts'
import { exitCode } from '../../src/model/failure.ts'
import type { MarkKind } from '../../src/model/mark.ts'
import { localStore } from '../../src/stores/local/index.ts'
import { filesIn, listed, type Machine, machine, randomFiles, tree } from '../support/cli.ts'
import { testContext } from '../support/context.ts'

/** A host with one backup, the same in two stores. */
async function twoCopies(bytes = 100_000): Promise<{ host: Machine; id: string; data: string }> {
  const host = machine()
  const data = randomFiles(host.path('data'), bytes)
  host.configure({
    stores: {
      disk: { type: 'local', path: host.path('disk') },
      other: { type: 'local', path: host.path('other') },
    },
    jobs: { data: { source: { type: 'files', paths: [data] }, to: ['disk', 'other'] } },
  })
  await host.ok(['backup'])
  const [{ id } = { id: '' }] = await listed(host)
  return { host, id, data }
}

/** The file of the archive in a store. */
function archive(host: Machine, store: string): string {
  return host.path(store, filesIn(host.path(store)).find(name => /0001-/.test(name)) ?? '')
}

/** As a prune does that is killed later. */
async function mark(host: Machine, store: string, id: string, ...kinds: MarkKind[]): Promise<void> {
  for (const kind of kinds)
    await putMark(localStore(store, { path: host.path(store) }), id, kind, {}, testContext())
}

test('cat takes the next store where one has lost or damaged its bytes, and show the store that keeps its copy', async () => {
  const { host, id } = await twoCopies()
  const cat = ['cat', id, 'files/data.tar']
  const plain = (await host.ok(cat)).stdout
  writeFileSync(archive(host, 'disk'), 'nonsense')
  const second = await host.ok(cat)
  assert.ok(second.stdout.equals(plain))
  assert.match(second.stderr, /warning: .*damaged in store disk.*\n {2}hint: trying the copy in other/)
  await mark(host, 'disk', id, 'delete')
  const live = await host.ok(cat)
  assert.ok(live.stdout.equals(plain))
  assert.equal(live.stderr, '')
  const { commands } = (await host.ok(['show', id, '--json'])).json<{ commands: Record<string, string> }>()
  assert.ok(Object.values(commands).every(line => line.includes(host.path('other'))))
  rmSync(archive(host, 'other'))
  rmSync(archive(host, 'disk'))
  const none = await host.run(cat)
  assert.deepEqual([none.code, none.out], [exitCode.damaged, ''])
})

test('cat that has begun to write does not begin again with another store', async () => {
  const { host, id } = await twoCopies(5e6)
  const cat = ['cat', id, 'files/data.tar']
  const plain = (await host.ok(cat)).stdout
  const stored = readFileSync(archive(host, 'disk'))
  writeFileSync(archive(host, 'disk'), stored.fill(0, stored.length - 1000))
  const { code, stdout } = await host.run(cat)
  assert.equal(code, exitCode.damaged)
  assert.ok(stdout.length > 0 && stdout.length < plain.length)
  assert.ok(plain.subarray(0, stdout.length).equals(stdout))
})

test('copy puts back what a store has lost, and says of wrong bytes that it does not replace them', async () => {
  const { host, id } = await twoCopies()
  const copy = ['copy', id, '--to', 'disk']
  const before = tree(host.path('disk'))
  assert.match((await host.ok(copy)).out, /disk has .* already/)
  rmSync(archive(host, 'disk'))
  assert.match((await host.ok(copy)).out, /put back in disk.*0001-/)
  assert.deepEqual(tree(host.path('disk')), before)
  const path = archive(host, 'disk')
  truncateSync(path, 1000)
  const { mended, copied } = (await host.ok([...copy, '--json'])).json<{
    mended: string[]
    copied: boolean
  }>()
  assert.deepEqual([mended.length, copied], [1, false])
  assert.deepEqual(tree(host.path('disk')), before)

  const bytes = readFileSync(path)
  bytes[500] = (bytes[500] ?? 0) ^ 1
  writeFileSync(path, bytes)
  const wrong = await host.run(copy)
  assert.equal(wrong.code, exitCode.damaged)
  assert.match(wrong.stderr, /0001-.*not those that were written\n {2}hint: .*cairn copy/)
  assert.ok(readFileSync(path).equals(bytes))
  rmSync(path)
  // Nothing is put back that is not what was written.
  writeFileSync(archive(host, 'other'), bytes)
  assert.equal((await host.run(copy)).code, exitCode.damaged)
  assert.equal(archive(host, 'disk'), host.path('disk'))
})

test('a copy whose deletion was begun is not damaged, is read last, and is not held', async () => {
  const { host, id, data } = await twoCopies()
  await mark(host, 'disk', id, 'delete', 'deleting')
  rmSync(archive(host, 'disk'))
  const { copies } = (await host.ok(['verify', '--json'])).json<{ copies: { store: string }[] }>()
  assert.deepEqual(
    copies.map(({ store }) => store),
    ['other'],
  )
  const restored = await host.ok(['restore', id, '--to', host.path('back'), '--quiet'])
  assert.equal(restored.stderr, '')
  assert.deepEqual(tree(host.path('back', 'data')), tree(data))
  const held = await host.run(['hold', id, '--json'])
  assert.equal(held.code, exitCode.partial)
  assert.deepEqual(held.json<{ stores: string[] }>().stores, ['other'])
  assert.match(held.stderr, /cannot hold .* in store disk: its data is being deleted there/)
  const alone = await host.run(['verify', id, '--store', 'disk'])
  assert.equal(alone.code, exitCode.noSuchBackup)
  assert.match(alone.stderr, /is being deleted from disk/)
})

test('show tells of each copy when it was verified in full', async () => {
  const { host, id } = await twoCopies()
  const show = async () =>
    (await host.ok(['show', id, '--json'])).json<{ copies: { store: string; verifiedAt: string | null }[] }>()
  assert.deepEqual(
    (await show()).copies.map(({ verifiedAt }) => verifiedAt),
    [null, null],
  )
  const before = Date.now()
  await host.ok(['verify', id, '--store', 'disk'])
  const [disk, other] = (await show()).copies
  assert.ok(Math.abs(new Date(disk?.verifiedAt ?? 0).getTime() - before) < 600_000)
  assert.equal(other?.verifiedAt, null)
  assert.match((await host.ok(['show', id])).out, /copies +disk \(verified in full [\d-]+ [\d:]+\); other\n/)
})
