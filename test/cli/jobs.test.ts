import assert from 'node:assert/strict'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { listed, machine, randomFiles, sqliteFile, tree } from '../support/cli.ts'

test('several sources of a job are a backup each, and each comes back', async () => {
  const host = machine()
  const files = randomFiles(host.path('wiki'), 50_000)
  const database = sqliteFile(host.path('shop.db'))
  const sources = [
    { type: 'files', paths: [files] },
    { type: 'sqlite', path: database },
  ]
  const configure = (list: object[]): void =>
    host.configure({
      stores: { disk: { type: 'local', path: host.path('disk') } },
      jobs: { app: { sources: list, to: ['disk'] } },
    })
  configure(sources)
  await host.ok(['backup'])
  const backups = await listed(host)
  assert.deepEqual(backups.map(({ source }) => source).sort(), ['files', 'sqlite'])
  const ambiguous = await host.run(['show', 'app@latest'])
  assert.equal(ambiguous.code, 2)
  assert.match(ambiguous.stderr, /app\/files@latest/)
  assert.match((await host.ok(['show', 'app/shop.db@latest'])).out, /sqlite/)
  assert.equal((await host.run(['show', 'app/nothing@latest'])).code, 10)
  for (const { id, source } of backups) await host.ok(['restore', id, '--to', host.path(`out-${source}`)])
  assert.deepEqual(tree(host.path('out-files', 'wiki')), tree(files))
  await host.ok(['doctor'])

  configure([{ type: 'sqlite', path: host.path('nowhere.db') }, ...sources])
  const ran = await host.run(['backup'])
  assert.equal(ran.code, 3, ran.stderr)
  assert.match(ran.stderr, /cannot read .*nowhere.db/)
  assert.equal((await listed(host)).length, 4)
})

test('a job says source or sources, and a former name belongs to one job', async () => {
  const host = machine()
  const stores = { disk: { type: 'local', path: host.path('disk') } }
  const source = { type: 'files', paths: [host.path('wiki')] }
  const errorOf = async (jobs: object): Promise<string> => {
    host.configure({ stores, defaults: { to: ['disk'] }, jobs })
    const { code, stderr } = await host.run(['config', 'show'])
    assert.equal(code, 2)
    return stderr
  }
  assert.match(await errorOf({ wiki: {} }), /job "wiki" says no source/)
  assert.match(await errorOf({ wiki: { source, sources: [source] } }), /says both "source" and "sources"/)
  assert.match(await errorOf({ wiki: { source, formerly: ['wiki'] } }), /that is its name/)
  const two = { wiki: { source, formerly: ['docs'] }, docs: { source } }
  assert.match(await errorOf(two), /another job is, or was/)
})

test('a job that got another name keeps its backups: listed, found, restored and pruned as its own', async () => {
  const host = machine()
  const files = randomFiles(host.path('wiki'), 20_000)
  const configure = (name: string, more: object): void =>
    host.configure({
      stores: { disk: { type: 'local', path: host.path('disk') } },
      jobs: {
        [name]: {
          source: { type: 'files', paths: [files] },
          to: ['disk'],
          keep: { last: 2 },
          undelete: '0 s',
          ...more,
        },
      },
    })
  configure('docs', {})
  for (let n = 0; n < 3; n++) await host.ok(['backup'])
  const before = await listed(host)
  configure('wiki', {})
  assert.deepEqual((await host.ok(['list', 'wiki', '--json'])).json(), [])
  configure('wiki', { formerly: ['docs'] })
  assert.equal((await host.ok(['list', 'wiki', '--json'])).json<object[]>().length, 3)
  await host.ok(['restore', 'wiki@latest', '--to', host.path('out')])
  await host.ok(['restore', 'docs@latest', '--to', host.path('files', 'again')])
  await host.ok(['backup'])
  const [newest] = await listed(host)
  await host.ok(['prune'])
  await host.ok(['prune'])
  const after = await listed(host)
  assert.deepEqual(
    after.map(({ id }) => id),
    [newest?.id, before[0]?.id],
  )
  assert.deepEqual(
    after.map(({ job }) => job),
    ['wiki', 'docs'],
  )
})

test('prune tells what it would free and why; with a manifest it cannot read it deletes nothing, and fails', async () => {
  const host = machine()
  const files = randomFiles(host.path('wiki'), 20_000)
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: {
      wiki: {
        source: { type: 'files', paths: [files] },
        to: ['disk'],
        timezone: 'Europe/Berlin',
        // Of this year, and so of the newest whenever this runs.
        keep: { last: 1, yearly: 1 },
      },
    },
  })
  for (let n = 0; n < 3; n++) await host.ok(['backup'])
  const plan = await host.ok(['prune', '--dry-run'])
  assert.match(plan.out, /3 copies: 1 stay \(.*B\), 2 deleted, and can be taken back \(.*B\)/)
  assert.match(plan.out, /last 1/)
  const manifests = host.path('disk', '.cairn/v1/manifests/wiki')
  const [oldest = ''] = readdirSync(manifests).sort()
  writeFileSync(join(manifests, oldest), '{"cairn": 2}')
  const refused = await host.run(['prune'])
  assert.notEqual(refused.code, 0)
  assert.match(refused.stderr, /nothing of wiki in disk is deleted: the manifest of .* cannot be read/)
  assert.equal((await listed(host)).length, 3)
})
