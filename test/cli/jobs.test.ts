import assert from 'node:assert/strict'
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
