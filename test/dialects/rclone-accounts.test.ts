// budget: 120 s
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import type { MariadbFacts } from '../services/facts.ts'
import { freshSqlServer, orSkip } from '../services/index.ts'
import { runSql } from '../services/mariadb.ts'
import { filesIn } from '../support/cli.ts'
import { accountsOf, fillAccounts, mayProxy } from '../support/mariadb/accounts.ts'
import { oldHost, sh } from './support.ts'

const urlOf = ({ host, port, user, password }: MariadbFacts): string =>
  `mariadb://${user}:${password}@${host}:${port}`

test('rclone: the file of a whole MariaDB server holds its accounts: loaded by hand, by Cairn, and without its manifest', async t => {
  const from = await orSkip(t, freshSqlServer('10.11'))
  const byHand = from && (await orSkip(t, freshSqlServer('10.11')))
  const to = from && (await orSkip(t, freshSqlServer('10.11')))
  if (!from || !byHand || !to) return
  await fillAccounts(from)
  const host = oldHost({})
  const env = {
    ...{ CAIRN_ENGINE: 'mariadb', BACKUP_ALL: 'true', REMOTE_NAME: ':local', UPLOAD_PREFIX: host.path('up') },
    ...{ MYSQL_HOST: from.host, MYSQL_TCP_PORT: String(from.port), MYSQL_PWD: from.password },
  }
  const ran = await host.cairn(['run', '--', '--user=admin'], env)
  assert.equal(ran.code, 0, ran.stderr)
  const shown = (await host.cairn(['show', 'latest'], env)).out
  assert.match(shown, /privileges on what is not in the dump are not saved: shop\.gone/)
  assert.doesNotMatch(`${ran.stderr}${shown}`, /\*[0-9A-F]{40}/)
  const [name = ''] = filesIn(host.path('up')).filter(path => !path.startsWith('.cairn/'))
  assert.equal((await host.cairn(['verify', 'latest'], env)).code, 0)

  // Each server has this, and the root that comes by TCP may not give it.
  const script = gunzipSync(readFileSync(host.path('up', name))).toString()
  assert.match(await runSql(from, 'SHOW GRANTS FOR root@localhost'), /GRANT PROXY/)
  assert.doesNotMatch(script, /GRANT PROXY ON .* TO .root./)

  // The administrators there log in by the passwords that they had.
  await mayProxy(byHand)
  const admin = await runSql(byHand, 'SHOW CREATE USER admin; SHOW CREATE USER root@localhost')
  const { host: address, port, user, password } = byHand
  const load = () =>
    sh(`gunzip | "$BIN/mariadb" -h ${address} -P ${port} -u ${user}`, readFileSync(host.path('up', name)), {
      ...{ BIN: join(process.env.CAIRN_MARIADB_CLIENTS ?? '', '10.11/bin'), MYSQL_PWD: password },
    })
  load()
  const expected = (await accountsOf(from)).filter(line => !line.includes('`gone`'))
  assert.deepEqual(await accountsOf(byHand), expected)
  // Again, over itself.
  load()
  assert.deepEqual(await accountsOf(byHand), expected)
  assert.equal(await runSql(byHand, 'SHOW CREATE USER admin; SHOW CREATE USER root@localhost'), admin)
  assert.equal((await runSql(byHand, 'SELECT n FROM shop.c3')).trim(), '2\n2')

  await mayProxy(to)
  sh('rm -r "$UP/.cairn"', undefined, { UP: host.path('up') })
  const plan = await host.cairn(['restore', 'latest', '--to', urlOf(to), '--dry-run'], env)
  assert.match(plan.out, /creates the accounts that are missing/)
  const restored = await host.cairn(['restore', 'latest', '--to', urlOf(to)], env)
  assert.equal(restored.code, 0, restored.stderr)
  assert.deepEqual(await accountsOf(to), expected)
  assert.equal((await runSql(to, 'SELECT n FROM shop.c3')).trim(), '2\n2')

  // The accounts were tables of a database that is left out here.
  const less = await host.cairn(
    ['run', '--', '--user=admin', '--ignore-database=aside', '--ignore-database=mysql'],
    {
      ...env,
      UPLOAD_PREFIX: host.path('less'),
    },
  )
  assert.equal(less.code, 0, less.stderr)
  const [file = ''] = filesIn(host.path('less')).filter(path => !path.startsWith('.cairn/'))
  const text = gunzipSync(readFileSync(host.path('less', file))).toString()
  assert.match(text, /CREATE DATABASE .*`shop`/)
  assert.doesNotMatch(text, /CREATE DATABASE .*`aside`|CREATE USER/)

  // A privilege on a table that is left out would end what loads the file.
  const fewer = await host.cairn(['run', '--', '--user=admin', '--ignore-table=aside.t'], {
    ...env,
    UPLOAD_PREFIX: host.path('fewer'),
  })
  assert.equal(fewer.code, 0, fewer.stderr)
  const [other = ''] = filesIn(host.path('fewer')).filter(path => !path.startsWith('.cairn/'))
  const accounts = gunzipSync(readFileSync(host.path('fewer', other))).toString()
  assert.match(accounts, /GRANT SELECT ON `shop`/)
  assert.doesNotMatch(accounts, /ON `aside`\.`t`/)
})
