import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { freshDatabase, orSkip } from '../services/index.ts'
import { machine, randomFiles } from '../support/cli.ts'
import { sql } from '../support/postgres/hostile.ts'

test('doctor says of PostgreSQL what a backup would fail of: privileges, a missing database, client programs', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  const role = `${database.name}_reader`
  await sql(database, 'CREATE TABLE hidden (n int)', `CREATE ROLE ${role} LOGIN PASSWORD 'x12345'`)
  const { host: address, port, user, password, name } = database
  const server = { type: 'postgres', host: address, port, user, password }
  const weak = { ...server, user: role, password: 'x12345' }
  const host = machine()
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    defaults: { to: ['disk'] },
    jobs: {
      good: { source: { ...server, database: name } },
      weak: { source: { ...weak, database: name } },
      two: { source: { ...server, databases: [name, 'nope'] } },
      bare: { source: { ...server, database: name, clients: host.path('none') } },
      server: { source: { ...server, whole: true, clients: host.path('none') } },
    },
  })
  assert.match((await host.ok(['doctor', 'good'])).out, /ok {4}source of good: postgres 15/)
  const { code, out } = await host.run(['doctor'])
  assert.equal(code, 1)
  assert.match(out, /FAIL {2}source of weak: .* may not read public\.hidden\n {6}GRANT pg_read_all_data/)
  assert.match(out, /ok {4}source of two: postgres 15\S* .*: db_\w+, about/)
  assert.match(out, /FAIL {2}source of two: .* there is no database "nope"\n/)
  for (const job of ['bare', 'server'])
    assert.match(
      out,
      RegExp(`FAIL {2}source of ${job}: .* and there are none\n {6}install postgresql-client-15`),
    )
  await sql(database, `DROP ROLE ${role}`)
})

test('doctor says which part of an archive cannot be read, though the others can', async () => {
  const host = machine()
  const member = (name: string, path: string, more = {}) => ({
    ...{ name, source: { type: 'files', paths: [path] } },
    ...more,
  })
  const members = [
    member('data.tar', randomFiles(host.path('data'), 1000)),
    member('gone.tar', host.path('gone')),
    member('perhaps.tar', host.path('perhaps'), { optional: true }),
  ]
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: { all: { source: { type: 'archive', name: 'all', members }, to: ['disk'] } },
  })
  const { code, out } = await host.run(['doctor'])
  assert.equal(code, 1)
  assert.match(out, /FAIL {2}source of all: cannot back up \S*\/gone: it does not exist/)
  assert.doesNotMatch(out, /perhaps/)
  randomFiles(host.path('gone'), 10)
  await host.ok(['doctor'])
})

test('doctor does not say of a host without keys that it cannot restore what is not encrypted', async () => {
  const host = machine()
  writeFileSync(host.path('page'), 'text')
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: { page: { source: { type: 'files', paths: [host.path('page')] }, to: ['disk'] } },
  })
  const { out } = await host.ok(['doctor'])
  assert.match(out, /reading keys: no key file on this host: it can restore only what is not encrypted/)
})
