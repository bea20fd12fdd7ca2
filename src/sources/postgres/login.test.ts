// budget: 120 s
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  appendFileSync,
  chmodSync,
  chownSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer, connect as dial } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { freshDatabase, freshServer, orSkip, postgresClients } from '../../../test/services/index.ts'
import { freePorts } from '../../../test/services/process.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { eventually } from '../../../test/support/eventually.ts'
import { sql, type Target } from '../../../test/support/postgres/hostile.ts'
import { flow } from '../../platform/flow.ts'
import { connect } from './connect.ts'
import { loginOf, resolveConnection } from './connection.ts'
import { PostgresOptions, postgresSource } from './index.ts'

type Server = Target & { readonly socket: string; readonly data: string }

const place = mkdtempSync(join(tmpdir(), 'login-'))
process.on('exit', () => rmSync(place, { recursive: true, force: true }))
const file = (name: string): string => join(place, name)

let started: Promise<Server> | undefined
async function server(t: TestContext): Promise<Server | undefined> {
  started ??= prepared()
  return await orSkip(t, started)
}

/** A server with TLS, whose certificate is for localhost; `walker` must use TLS, `bearer` a certificate of his own. */
async function prepared(): Promise<Server> {
  const facts = { ...(await freshServer(17)), name: 'postgres' }
  certificates()
  const { uid, gid } = statSync(facts.data)
  for (const name of ['server.crt', 'server.key', 'ca.crt']) {
    writeFileSync(join(facts.data, name), readFileSync(file(name)), { mode: 0o600 })
    chownSync(join(facts.data, name), uid, gid)
  }
  const hba = join(facts.data, 'pg_hba.conf')
  const rules = 'hostssl all bearer all cert\nhost all bearer all reject\nhostnossl all walker all reject\n'
  writeFileSync(hba, rules + readFileSync(hba, 'utf8'))
  await sql(
    facts,
    `CREATE ROLE walker LOGIN SUPERUSER PASSWORD 'walks'`,
    'CREATE ROLE bearer LOGIN SUPERUSER',
    'CREATE TABLE here AS SELECT 1 AS n',
    'ALTER SYSTEM SET ssl = on',
    `ALTER SYSTEM SET ssl_ca_file = 'ca.crt'`,
    'SELECT pg_reload_conf()',
  )
  // A new connection has what the server has read by then.
  await eventually('TLS is on', async () => (await sql<{ ssl: string }>(facts, 'SHOW ssl'))[0]?.ssl === 'on')
  return facts
}

/** Two authorities; of the first a certificate for the server and one for bearer, whose key is there encrypted, too. */
function certificates(): void {
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: place, stdio: 'pipe' })
  }
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  for (const name of ['ca', 'other'])
    openssl(
      'req',
      '-x509',
      ...key,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.crt`,
      '-subj',
      `/CN=${name}`,
      '-days',
      '9',
    )
  for (const [name, cn] of [
    ['server', 'localhost'],
    ['bearer', 'bearer'],
  ] as const) {
    const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-days', '9', '-addext', `subjectAltName=DNS:${cn}`]
    openssl(
      'req',
      '-x509',
      ...key,
      ...signed,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.crt`,
      '-subj',
      `/CN=${cn}`,
    )
  }
  openssl('ec', '-in', 'bearer.key', '-aes256', '-passout', 'pass:opens it', '-out', 'locked.key')
  for (const name of ['bearer.key', 'locked.key']) chmodSync(file(name), 0o600)
  writeFileSync(file('index.txt'), '')
  writeFileSync(
    file('ca.conf'),
    '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=9\n',
  )
  const ca = ['ca', '-config', 'ca.conf', '-keyfile', 'ca.key', '-cert', 'ca.crt']
  openssl(...ca, '-gencrl', '-out', 'empty.crl')
  openssl(...ca, '-revoke', 'server.crt')
  openssl(...ca, '-gencrl', '-out', 'revoked.crl')
}

/** Sets variables of the environment; undefined removes one. */
function setEnv(t: TestContext, env: Readonly<Record<string, string | undefined>>): void {
  for (const [name, value] of Object.entries(env)) {
    const before = process.env[name]
    const set = (to: string | undefined): void => {
      if (to === undefined) delete process.env[name]
      else process.env[name] = to
    }
    set(value)
    t.after(() => set(before))
  }
}

const ok = 'ok'
const words = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** How our own connection fares, and how pg_dump does with the same options: they must agree. */
async function bothWays(options: object): Promise<[string, string]> {
  const ctx = testContext()
  const connection = await resolveConnection(PostgresOptions.parse(options))
  const own = async (): Promise<string> => {
    await using db = await connect(connection, 'cairn', ctx)
    await db.rows('SELECT 1')
    return ok
  }
  const child = async (): Promise<string> => {
    const program = join(postgresClients, '17/bin/pg_dump')
    const dump = { program, args: ['--schema-only', '--no-password'], ...loginOf(connection, 'test') }
    for await (const _ of flow(dump, [], ctx));
    return ok
  }
  return [await own().catch(words), await child().catch(words)]
}

async function agree(options: object, expected: RegExp | typeof ok): Promise<void> {
  const [own, child] = await bothWays(options)
  const what = JSON.stringify(options)
  if (expected === ok) return assert.deepEqual([own, child], [ok, ok], what)
  assert.match(own, expected, what)
  assert.notEqual(child, ok, what)
}

test('TLS is as strict as the sslmode says, for our own connection and for the programs', async t => {
  const on = await server(t)
  if (!on) return
  setEnv(t, { HOME: place, PGSSLMODE: undefined })
  const url = (params: string, host = 'localhost', user = 'walker:walks'): object => ({
    url: `postgresql://${user}@${host}:${on.port}/postgres?${params}`,
  })
  const right = `sslrootcert=${file('ca.crt')}`
  const wrong = `sslrootcert=${file('other.crt')}`
  await agree(url(''), ok)
  await agree(url('sslmode=disable'), /pg_hba\.conf/)
  await agree(url('sslmode=require'), ok)
  await agree(url(`sslmode=verify-full&${right}`), ok)
  await agree(url(`sslmode=verify-full&${right}`, '127.0.0.1'), /IP: 127\.0\.0\.1 is not|altnames/)
  await agree(url(`sslmode=verify-ca&${right}`, '127.0.0.1'), ok)
  await agree(url(`sslmode=verify-full&${right}&hostaddr=127.0.0.1`, 'wrong.example'), /altnames/)
  await agree(url(`sslmode=verify-full&${right}&hostaddr=127.0.0.1`), ok)
  for (const mode of ['verify-full', 'verify-ca', 'require'])
    await agree(url(`sslmode=${mode}&${wrong}`), /verify|signed|issuer/)
  // Without TLS, which the others may fall back to.
  const admin = `${on.user}:${on.password}`
  await agree(url(`sslmode=prefer&${wrong}`, 'localhost', admin), ok)
  await agree(url(`sslmode=prefer&${wrong}`), /verify|signed|issuer/)
  await agree(url('sslmode=verify-full'), /there is no root certificate/)
  await agree(url(`sslmode=verify-ca&${right}&sslcrl=${file('empty.crl')}`), ok)
  await agree(url(`sslmode=verify-ca&${right}&sslcrl=${file('revoked.crl')}`), /revoked/)
  await agree(url(`sslmode=require&sslnegotiation=direct`), ok)
  await agree(url(`sslmode=require&ssl_min_protocol_version=TLSv1.3`), ok)
  await agree(url('sslrootcert=system'), /verify|signed|issuer/)
  const options = {
    host: 'localhost',
    port: on.port,
    user: 'walker',
    password: 'walks',
    database: 'postgres',
  }
  await agree({ ...options, sslmode: 'verify-full', sslrootcert: file('ca.crt') }, ok)
  await agree({ ...options, sslmode: 'verify-full', sslrootcert: file('other.crt') }, /verify|signed|issuer/)
})

test('a certificate of our own logs in, its key encrypted or not, and its password reaches no argument', async t => {
  const on = await server(t)
  if (!on) return
  setEnv(t, { HOME: place })
  const url = (key: string, more = ''): string =>
    `postgresql://bearer@localhost:${on.port}/postgres?sslmode=verify-full&sslrootcert=${file('ca.crt')}&sslcert=${file('bearer.crt')}&sslkey=${file(key)}${more}`
  await agree({ url: url('bearer.key') }, ok)
  await agree({ url: url('locked.key', '&sslpassword=opens%20it') }, ok)
  await agree({ url: url('locked.key', '&sslpassword=wrong') }, /decrypt|bad/i)
  await agree({ url: `postgresql://bearer@localhost:${on.port}/postgres` }, /certificate/)
  const ctx = testContext()
  const source = postgresSource(PostgresOptions.parse({ url: url('locked.key', '&sslpassword=opens%20it') }))
  const { manifest } = await capture(source, ctx)
  assert.ok(manifest.artifacts.length >= 2 && !JSON.stringify(manifest).includes('opens it'))
  const connection = await resolveConnection(
    PostgresOptions.parse({ url: url('locked.key', '&sslpassword=opens%20it') }),
  )
  assert.ok(!JSON.stringify(loginOf(connection, 'x')).includes('opens it'))
})

test('a password file is read as libpq reads it', async t => {
  const on = await server(t)
  if (!on) return
  const name = `a:b\\c ${randomBytes(3).toString('hex')}`
  const role = `r:${randomBytes(3).toString('hex')}`
  await sql(on, `CREATE ROLE "${role}" LOGIN SUPERUSER PASSWORD 'pass:w\\ord'`, `CREATE DATABASE "${name}"`)
  t.after(() => sql(on, `DROP DATABASE "${name}"`, `DROP ROLE "${role}"`))
  setEnv(t, { HOME: place, PGPASSWORD: undefined, PGPASSFILE: undefined })
  const escaped = (text: string): string => text.replace(/[:\\]/g, '\\$&')
  const write = (lines: string[], mode = 0o600, path = '.pgpass'): void => {
    writeFileSync(file(path), lines.join('\n'))
    chmodSync(file(path), mode)
    t.after(() => rmSync(file(path), { force: true }))
  }
  const options = { host: on.host, port: on.port, user: role, database: name }
  const right = `${on.host}:${on.port}:${escaped(name)}:${escaped(role)}:${escaped('pass:w\\ord')}`
  await agree(options, /wants a password/)
  write(['# a comment', `${on.host}:1:*:*:no`, right, '*:*:*:*:later'])
  await agree(options, ok)
  write(['*:*:*:*:pass:w\\\\ord'])
  await agree(options, ok)
  write(['*:*:*:*:first', right])
  await agree(options, /password for user .* is wrong/)
  write([right], 0o640)
  await agree(options, /wants a password .*\.pgpass is not used, because its group or others may read/)
  rmSync(file('.pgpass'))
  write([right], 0o600, 'elsewhere')
  setEnv(t, { PGPASSFILE: file('elsewhere') })
  await agree(options, ok)
  await agree({ ...options, password: 'other' }, /is wrong/)
})

test('a service file is read as libpq reads it: the URL wins over it, it wins over the environment', async t => {
  const on = await server(t)
  if (!on) return
  const section = `[shop]\n# where it is\nhost=${on.host}\nport=${on.port}\nuser=walker\npassword=walks\nsslmode=require\n`
  appendFileSync(
    file('.pg_service.conf'),
    `[first]\nhost=nowhere.invalid\n\n${section}dbname=postgres\n[last]\nport=1\n`,
  )
  t.after(() => rmSync(file('.pg_service.conf')))
  setEnv(t, {
    HOME: place,
    PGSERVICE: undefined,
    PGSERVICEFILE: undefined,
    PGPORT: '1',
    PGHOST: 'nowhere.invalid',
  })
  await agree({ service: 'shop' }, ok)
  await agree({ url: 'postgresql:///?service=shop' }, ok)
  await agree({ url: `service=shop user='${on.user}' password=${on.password}` }, ok)
  await agree({ service: 'shop', database: 'nowhere' }, /there is no database "nowhere"/)
  setEnv(t, { PGSERVICE: 'shop' })
  await agree({}, ok)
  writeFileSync(file('services'), section.replace('walks', 'wrong'))
  setEnv(t, { PGSERVICEFILE: file('services') })
  await agree({}, /password for user walker is wrong/)
  await assert.rejects(bothWays({ service: 'none' }), {
    exit: 2,
    message: /service none: no service file defines it/,
  })
})

test('a Unix socket is found in any folder, and without a file', async t => {
  const on = await server(t)
  if (!on) return
  const login = { user: on.user, password: on.password, port: on.port, database: 'postgres' }
  await agree({ ...login, socket: on.socket }, ok)
  await agree(
    { url: `postgresql://${on.user}:${on.password}@${encodeURIComponent(on.socket)}:${on.port}/postgres` },
    ok,
  )
  await agree({ ...login, socket: place }, /there is no socket/)
  const abstract = `@cairn-${randomBytes(4).toString('hex')}`
  const bridge = createServer(client => {
    const other = dial(on.port, on.host)
    for (const each of [client, other]) each.on('error', () => {})
    client.pipe(other).pipe(client)
  })
  await new Promise<void>(resolve => bridge.listen(`\0${abstract.slice(1)}/.s.PGSQL.${on.port}`, resolve))
  t.after(() => bridge.close())
  await agree({ ...login, socket: abstract }, ok)
  await agree({ ...login, socket: `${abstract}x` }, /nothing listens/)
})

test('of several hosts the first that fits is taken, and the whole backup is of that one', async t => {
  const on = await server(t)
  if (!on) return
  const dead = await freePorts()
  const login = `${on.user}:${on.password}`
  const hosts = `127.0.0.1:${dead},127.0.0.1:${on.port}`
  const url = (attrs = '', places = hosts): object => ({
    url: `postgresql://${login}@${places}/postgres${attrs}`,
  })
  await agree(url(), ok)
  await agree(url('?target_session_attrs=read-write'), ok)
  await agree(url('?target_session_attrs=primary'), ok)
  await agree(url('?target_session_attrs=prefer-standby'), ok)
  await agree(
    url('?target_session_attrs=standby', `127.0.0.1:${on.port}`),
    /not what target_session_attrs=standby asks for/,
  )
  await agree(
    { host: 'localhost,127.0.0.1', port: dead, user: on.user, password: on.password, database: 'postgres' },
    /nothing listens/,
  )
  await sql(on, 'ALTER DATABASE postgres SET default_transaction_read_only = on')
  t.after(() =>
    sql(
      on,
      'SET default_transaction_read_only = off',
      'ALTER DATABASE postgres RESET default_transaction_read_only',
    ),
  )
  await agree(url('?target_session_attrs=read-write', `127.0.0.1:${on.port}`), /not what/)
  await agree(url('?target_session_attrs=read-only'), ok)
  // A server that is there and says no is the answer.
  await agree(
    { url: `postgresql://${on.user}:wrong@127.0.0.1:${on.port},127.0.0.1:${dead}/postgres` },
    /password .* is wrong/,
  )
  setEnv(t, {
    PGHOST: '127.0.0.1,127.0.0.1',
    PGPORT: `${dead},${on.port}`,
    PGUSER: on.user,
    PGPASSWORD: on.password,
    PGDATABASE: 'postgres',
  })
  await agree({}, ok)
  const { manifest, census } = await capture(postgresSource(PostgresOptions.parse({})), testContext())
  assert.deepEqual(census.objects, [{ name: 'public.here', rows: 1 }])
  assert.match(manifest.source.identity, /^pg:\d{10,}\/postgres$/)
})

test('the programs go to the host that our own connection chose, with the password for that host', async t => {
  const on = await server(t)
  const other = await orSkip(t, freshDatabase(17))
  if (!on || !other) return
  await sql(other, 'CREATE TABLE there AS SELECT generate_series(1, 3) AS n')
  await sql(on, `CREATE DATABASE ${other.name}`)
  await sql({ ...on, name: other.name }, 'CREATE TABLE wrong_one AS SELECT 1 AS n')
  await sql(on, `ALTER DATABASE ${other.name} SET default_transaction_read_only = on`)
  t.after(() => sql(on, `DROP DATABASE ${other.name}`))
  const passwords = [on, other].map(each => `${each.host}:${each.port}:*:${each.user}:${each.password}\n`)
  writeFileSync(file('both'), passwords.join(''), { mode: 0o600 })
  setEnv(t, { PGPASSFILE: file('both'), PGPASSWORD: undefined })
  const hosts = [on, other].map(each => `${each.host}:${each.port}`).join(',')
  const url = `postgresql://${on.user}@${hosts}/${other.name}?target_session_attrs=read-write`
  const { census, bytes } = await capture(postgresSource(PostgresOptions.parse({ url })), testContext())
  assert.deepEqual(census.objects, [{ name: 'public.there', rows: 3 }])
  const dump = Buffer.from(bytes.get(`postgres/${other.name}.dump`) ?? [])
  assert.ok(dump.includes('there') && !dump.includes('wrong_one'))
})

test('PGOPTIONS reach the server, and what we cannot follow is refused', async t => {
  const on = await server(t)
  if (!on) return
  setEnv(t, { PGOPTIONS: '-c app.of=ours' })
  const options = { host: on.host, port: on.port, user: on.user, password: on.password, database: 'postgres' }
  const connection = await resolveConnection(PostgresOptions.parse(options))
  await using db = await connect(connection, 'cairn', testContext())
  assert.deepEqual(await db.rows(`SELECT current_setting('app.of') AS of`), [{ of: 'ours' }])
  setEnv(t, { PGREQUIREAUTH: 'scram-sha-256' })
  await assert.rejects(bothWays(options), { exit: 2, message: /PGREQUIREAUTH is set, and is not supported/ })
})
