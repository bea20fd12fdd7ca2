import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import { canBeNobody } from '../../../test/support/nobody.ts'
import { childEnv, connectionTo, placesOf } from './connection.ts'
import { passwordIn } from './password-file.ts'
import { parseUrl } from './url.ts'

const parsed = (url: string) => {
  const { password, ...rest } = parseUrl(url)
  return { ...rest, ...(password ? { password: password.reveal() } : {}) }
}

test('a URL is read as libpq reads it', () => {
  const cases: [string, object][] = [
    ['postgresql://', { params: {} }],
    ['postgres://h', { host: 'h', params: {} }],
    [
      'postgresql://u:p%40%2F@h:77/a%20b',
      { host: 'h', port: '77', user: 'u', password: 'p@/', database: 'a b', params: {} },
    ],
    ['postgresql://u@/db', { user: 'u', database: 'db', params: {} }],
    ['postgresql://u:a#b?c@h/d', { host: 'h', user: 'u', password: 'a#b?c', database: 'd', params: {} }],
    ['postgresql://[::1]:5433/x', { host: '::1', port: '5433', database: 'x', params: {} }],
    ['postgresql:///x?host=/run/pg&user=me', { host: '/run/pg', user: 'me', database: 'x', params: {} }],
    ['postgresql://%2Frun%2Fpg/x', { host: '/run/pg', database: 'x', params: {} }],
    [
      'postgresql://h/?sslmode=verify-full&application_name=x',
      { host: 'h', params: { sslmode: 'verify-full' } },
    ],
    ['postgresql://a:1,[::1]:2,c/d', { host: 'a,::1,c', port: '1,2,', database: 'd', params: {} }],
    [
      'postgresql://a,b/d?hostaddr=1.2.3.4,5.6.7.8&target_session_attrs=standby',
      {
        host: 'a,b',
        database: 'd',
        params: { hostaddr: '1.2.3.4,5.6.7.8', target_session_attrs: 'standby' },
      },
    ],
    [
      "host=h port = 7 user='a b' password='it\\'s \\\\' dbname=x=y sslmode=require",
      {
        host: 'h',
        port: '7',
        user: 'a b',
        password: "it's \\",
        database: 'x=y',
        params: { sslmode: 'require' },
      },
    ],
    ['postgresql://h/?ssl=true', { host: 'h', params: { sslmode: 'require' } }],
  ]
  for (const [url, expected] of cases) assert.deepEqual(parsed(url), expected, url)
})

test('a URL that cannot be read is refused without being quoted', () => {
  for (const url of [
    'mysql://u:geheim@h/d',
    'postgresql://u:geheim%zz@h/d',
    'postgresql://u:ge@heim@h/d',
    'postgresql://u:p@x/geheim@h/d',
    'postgresql://u:1/geheim@h/d',
    'postgresql://u:geheim@a:1,b:x/d',
    'postgresql://u:geheim@h:99999/d',
    'postgresql://u:geheim@h/d?unknown=geheim',
    'host=h password=geheim x',
  ]) {
    assert.throws(
      () => parseUrl(url),
      (error: Error & { exit?: number; remedy?: string }) =>
        error.exit === 2 && !/geheim/.test(error.message + error.remedy) && error.remedy !== '',
      url,
    )
  }
})

test("what is missing comes from libpq's variables, what is there wins", () => {
  const env = {
    PGHOST: 'e',
    PGPORT: '6',
    PGUSER: 'eu',
    PGPASSWORD: 'ep',
    PGDATABASE: 'ed',
    PGSSLMODE: 'require',
  }
  const filled = connectionTo(parseUrl('postgresql://'), env)
  assert.deepEqual(
    [
      filled.host,
      filled.port,
      filled.user,
      filled.password?.reveal(),
      filled.database,
      filled.params.sslmode,
    ],
    ['e', 6, 'eu', 'ep', 'ed', 'require'],
  )
  const said = connectionTo(parseUrl('postgresql://u:p@h:5/d?sslmode=disable'), env)
  assert.deepEqual(
    [said.host, said.port, said.user, said.password?.reveal(), said.database, said.params.sslmode],
    ['h', 5, 'u', 'p', 'd', 'disable'],
  )
  assert.equal(connectionTo({ params: {} }, {}).port, 5432)
})

test('lists of hosts, addresses and ports are of one length, or one port is for all', () => {
  const of = (url: string) =>
    placesOf(connectionTo(parseUrl(url), {})).map(each => [each.host, each.port, each.address])
  assert.deepEqual(of('postgresql://a:1,b:2/d'), [
    ['a', 1, undefined],
    ['b', 2, undefined],
  ])
  assert.deepEqual(of('host=a,b port=7'), [
    ['a', 7, undefined],
    ['b', 7, undefined],
  ])
  assert.deepEqual(of('host=a,b hostaddr=1.1.1.1,'), [
    ['a', 5432, '1.1.1.1'],
    ['b', 5432, undefined],
  ])
  assert.deepEqual(of('hostaddr=1.1.1.1'), [['1.1.1.1', 5432, '1.1.1.1']])
  for (const bad of ['host=a,b port=1,2,3', 'host=a hostaddr=1.1.1.1,2.2.2.2'])
    assert.throws(() => of(bad), { exit: 2, message: /not of one length/ })
  const env = childEnv(
    connectionTo(parseUrl('host=a,b port=1,2 hostaddr=,1.1.1.1 sslrootcert=ca.crt'), {}),
    'x',
  )
  assert.deepEqual([env.PGHOST, env.PGPORT, env.PGHOSTADDR], ['a,b', '1,2', ',1.1.1.1'])
  // Children run in another folder.
  assert.equal(env.PGSSLROOTCERT, resolve('ca.crt'))
})

test('a password file: colons and backslashes are escaped, stars fit anything, the default socket is localhost', t => {
  const folder = mkdtempSync(join(tmpdir(), 'passwords-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'pgpass')
  const lines = [
    '# *:*:*:*:comment',
    '',
    'too:few:fields',
    'a\\:b:1:d\\\\b:*:colon:and\\\\slash\r',
    'localhost:*:*:*:local',
  ]
  writeFileSync(path, lines.join('\n'), { mode: 0o600 })
  const found = (host: string, database: string, port = 1) =>
    passwordIn(path, { host, port, database, user: 'u' }).password?.reveal()
  assert.equal(found('a:b', 'd\\b'), 'colon:and\\slash')
  assert.equal(found('a:b', 'd'), undefined)
  assert.equal(found('a:b', 'd\\b', 2), undefined)
  assert.equal(found('/var/run/postgresql', 'x'), 'local')
  assert.equal(found('/elsewhere', 'x'), undefined)
  chmodSync(path, 0o604)
  assert.deepEqual(passwordIn(path, { host: 'localhost', port: 1, database: 'x', user: 'u' }), {
    ignored: `${path} is not used, because its group or others may read or write it`,
  })
  assert.deepEqual(passwordIn(join(folder, 'none'), { host: 'h', port: 1, database: 'x', user: 'u' }), {})
})

test('a user of the system that has no name, as in many containers, is asked to say one', t => {
  if (!canBeNobody(t)) return
  const module = JSON.stringify(import.meta.resolve('./connection.ts'))
  const script = `import { connectionTo } from ${module}
    try { connectionTo({ params: {} }, {}) } catch (error) { console.log(error.message, error.remedy) }
    console.log(connectionTo({ user: 'backup', params: {} }, {}).user)`
  const args = ['--reuid', '54321', '--clear-groups', process.execPath, '--input-type=module', '-e', script]
  const said = execFileSync('setpriv', args, { encoding: 'utf8', cwd: '/' })
  assert.match(said, /the user 54321 .* has no name say user, or set PGUSER\nbackup\n/)
})
