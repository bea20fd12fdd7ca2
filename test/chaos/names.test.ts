// budget: 150 s
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import { freshDatabase, orSkip } from '../services/index.ts'
import { allGone, filesIn, machine } from '../support/cli.ts'
import { sql } from '../support/postgres/hostile.ts'
import { randomFrom, rounds } from '../support/random.ts'

test('killed at any moment, a job under the old names shows no half object', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  await sql(
    database,
    'CREATE TABLE t AS SELECT n, md5(n::text) || md5((n * 7)::text) AS body FROM generate_series(1, 120000) n',
  )
  const random = randomFrom(41)
  for (const remote of ['moonflower', 'rclone'] as const) {
    const host = machine()
    const login = {
      host: database.host,
      port: database.port,
      user: database.user,
      password: database.password,
    }
    host.configure({
      stores: {
        there:
          remote === 'rclone'
            ? { type: 'rclone', remote: `:local:${host.path('there')}` }
            : { type: 'local', path: host.path('there') },
      },
      jobs: {
        shop: {
          source: { type: 'postgres', ...login, database: database.name, format: 'plain', globals: false },
          to: ['there'],
          key: { name: '${DB}_%Y-%m-%dT%H:%M:%S.%LZ.sql' },
          compression: { gzip: {} },
        },
      },
    })
    let usual = (await host.ok(['backup'])).seconds * 1000
    let killed = 0
    for (let round = 0; round < Math.ceil(rounds / 2); round++) {
      const running = host.start(['backup'])
      await Promise.race([running.ended, sleep(random.int(usual / 3, usual * 1.1))])
      running.child.kill('SIGKILL')
      const ran = await running.ended
      if (ran.signal === 'SIGKILL') killed++
      // The machine was busier when the usual time was taken.
      else usual = Math.min(usual, ran.seconds * 1000)
      await allGone(host)
      const names = filesIn(host.path('there')).filter(path => /^db_.*\.sql\.gz$/.test(path))
      const listed = (await host.ok(['list', '--json'])).json<object[]>()
      assert.equal(listed.length, names.length)
      for (const name of names)
        assert.match(
          gunzipSync(readFileSync(host.path('there', name)))
            .toString()
            .slice(-300),
          /dump complete/,
        )
    }
    assert.ok(killed > 0, 'no run was killed')
    await host.ok(['backup'])
    await host.ok(['verify'])
    const strays = filesIn(host.path('there')).filter(
      path => !path.startsWith('.cairn/') && !/^db_.*\.sql\.gz$/.test(path),
    )
    assert.deepEqual(strays, [])
  }
})
