import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connectionTo } from './connection.ts'
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
    ['postgresql://h/?ssl=true', { host: 'h', params: { sslmode: 'require' } }],
  ]
  for (const [url, expected] of cases) assert.deepEqual(parsed(url), expected, url)
})

test('a URL that cannot be read is refused without being quoted', () => {
  for (const url of [
    'mysql://u:geheim@h/d',
    'postgresql://u:geheim%zz@h/d',
    'postgresql://u:ge@heim@h/d',
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
