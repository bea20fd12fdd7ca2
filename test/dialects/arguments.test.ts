import assert from 'node:assert/strict'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { freshDatabase, freshSqlDatabase, orSkip, postgresClients } from '../services/index.ts'
import { filesIn } from '../support/cli.ts'
import { sql } from '../support/postgres/hostile.ts'
import { fillShop, type OldHost, oldHost, sh, shopDigest } from './support.ts'

/** Arguments after the name of the rclone images, which their users had and have: each set dumps, and what it dumps comes back. */

function dumpIn(host: OldHost): Buffer {
  const [name = ''] = filesIn(host.path('up')).filter(path => !path.startsWith('.cairn/'))
  return readFileSync(host.path('up', name))
}

const psql = 'gunzip | "$BIN/psql" -q -X -v ON_ERROR_STOP=1 -d "$URL"'
const pgRestore = 'gunzip | "$BIN/pg_restore" -e --no-owner -d "$URL"'

/** The arguments, and how people bring the file back. */
const ofPgDump: readonly (readonly [args: readonly string[], back: string])[] = [
  [['--no-owner', '--no-privileges', '-Z0', '--column-inserts', '-v'], psql],
  [['-n', 'public', '--exclude-table=nothing*', '--clean', '--no-sync'], psql],
  [['-Fc'], pgRestore],
  [['--clean', '--if-exists', '--create', '-Z', '9'], psql],
]

test('rclone: arguments of pg_dump reach it, and each dump comes back by hand and by Cairn', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  await fillShop(database)
  await sql(database, 'DELETE FROM item WHERE id > 50')
  const before = await shopDigest(database)
  for (const [args, back] of ofPgDump) {
    const host = oldHost({
      ...{ CAIRN_ENGINE: 'postgres', BACKUP_DATABASES: database.name, PGPASSWORD: database.password },
      ...{ REMOTE_NAME: ':local', BACKUP_FILE_NAME: 'x' },
    })
    const up = { UPLOAD_PREFIX: host.path('up'), PGHOST: database.host }
    const connect = ['-U', database.user, `--port=${database.port}`]
    const ran = await host.cairn(['run', '--', ...connect, ...args], up)
    assert.equal(ran.code, 0, args.join(' ') + ran.stderr)
    const [byHand, byCairn] = [await freshDatabase(15), await freshDatabase(15)]
    const plain = sh('gunzip', dumpIn(host))
    const creates = args.includes('--create')
    // The script makes the database itself, under the name that it had.
    const given = creates ? plain.toString().replaceAll(database.name, byHand.name) : plain
    sh(back.replace('gunzip | ', ''), Buffer.from(given), {
      URL: creates ? byHand.url.replace(/\/[^/]*$/, '/postgres') : byHand.url,
      BIN: join(postgresClients, '15/bin'),
    })
    const restored = await host.cairn(['restore', 'latest', '--to', byCairn.url], up)
    assert.equal(restored.code, 0, args.join(' ') + restored.stderr)
    if (args.includes('-Fc')) await sameByConfiguration(host, [...connect, ...args], up)
    for (const target of [byHand, byCairn]) assert.equal(await shopDigest(target), before, args.join(' '))
  }
})

/** The configuration that the environment and the arguments mean makes a dump of the same format. */
async function sameByConfiguration(
  host: OldHost,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<void> {
  const yaml = await host.cairn(['config', 'from-env', '--', ...args], env)
  assert.equal(yaml.code, 0, yaml.stderr)
  const before = sh('gunzip', dumpIn(host)).subarray(0, 11)
  rmSync(env.UPLOAD_PREFIX ?? '', { recursive: true })
  writeFileSync(host.config, yaml.out)
  const ran = await host.cairn(['--config', host.config, 'backup'], { ...env, BACKUP_DATABASES: '' })
  assert.equal(ran.code, 0, ran.stderr)
  assert.deepEqual(sh('gunzip', dumpIn(host)).subarray(0, 11), before)
}

test('rclone: arguments of mariadb-dump reach it, and each dump comes back by hand and by Cairn', async t => {
  const database = await orSkip(t, freshSqlDatabase('10.11'))
  if (!database) return
  const { host: at, port, user, password, name, bin } = database
  const host = oldHost({})
  const options = host.path('my.cnf')
  const login = `[client]\nuser=${user}\npassword="${password}"\nhost=${at}\nport=${port}\n`
  writeFileSync(options, login, { mode: 0o600 })
  const mariadb = (text: string | Buffer): string =>
    sh('"$BIN/mariadb" --defaults-extra-file="$CNF" -N', Buffer.from(text), {
      ...{ CNF: options, BIN: bin },
    }).toString()
  const make = `DROP DATABASE IF EXISTS \`${name}\`; CREATE DATABASE \`${name}\`; USE \`${name}\`;`
  const fill =
    "CREATE TABLE t (id INT PRIMARY KEY, b BLOB); INSERT INTO t VALUES (1, X'00FF0A27'), (2, 'q''u\"o'); CREATE TABLE s (x INT); CREATE PROCEDURE p() SELECT 1;"
  const rows = (): string => mariadb(`USE \`${name}\`; SELECT id, HEX(b) FROM t; SHOW TABLES`)
  const secret = host.path('secret.cnf')
  writeFileSync(secret, `[client]\npassword="${password}"\n`, { mode: 0o600 })
  const short = [`-u${user}`, '-h', at, '-P', String(port), `-p${password}`]
  const long = ['--user', user, '--host', at, `--port=${port}`, `--password=${password}`]
  const place = { MYSQL_HOST: at, MYSQL_TCP_PORT: String(port) }
  const variables = { ...place, MYSQL_PWD_FILE: host.path('pw') }
  writeFileSync(host.path('pw'), `${password}\n`)
  const sets = [
    [`--user=${user}`, '--ignore-table', `${name}.s`],
    [`--defaults-extra-file=${secret}`, `--user=${user}`, `--ignore-table=${name}.s`],
    [`--defaults-extra-file=${options}`, '--skip-lock-tables', `--ignore-table=${name}.s`, '-vR'],
    [...short, '--no-create-db', '--skip-comments', '--ignore-table', `${name}.s`, '--protocol=tcp'],
    [...long, '--compact', '-c', '--skip-extended-insert', '--lock-tables', `--ignore-table=${name}.s`],
  ]
  for (const [index, args] of sets.entries()) {
    const env = {
      ...{ CAIRN_ENGINE: 'mariadb', BACKUP_DATABASES: name, BACKUP_FILE_NAME: 'x' },
      ...{ REMOTE_NAME: ':local', UPLOAD_PREFIX: host.path(`up/${index}`) },
      ...(index === 0 ? variables : index === 1 ? place : {}),
    }
    mariadb(make + fill)
    const ran = await host.cairn(['run', '--', ...args], env)
    const said = args.join(' ').replace(password, '') + ran.stderr
    assert.equal(ran.code, 0, said)
    assert.ok(!ran.stderr.includes(password), said)
    const plain = sh('gunzip', readFileSync(host.path(`up/${index}`, 'x.sql.gz')))
    const expected = '1\t00FF0A27\n2\t712775226F\nt\n'
    mariadb(make)
    mariadb(plain)
    assert.equal(rows(), expected, said)
    mariadb(make)
    const restored = await host.cairn(['restore', 'latest', '--to', database.url, '--yes'], env)
    assert.equal(restored.code, 0, said + restored.stderr)
    assert.equal(rows(), expected, said)
    assert.equal(mariadb(`USE \`${name}\`; CALL p()`), '1\n')
  }
})

test('rclone: arguments that would make the dump worthless are refused by name before anything is dumped', async () => {
  const host = oldHost({ BACKUP_DATABASES: 'a', PGPASSWORD: 'geheim', REMOTE_NAME: ':local' })
  const refused: [engine: string, args: string[], message: RegExp][] = [
    ['postgres', ['-f', '/tmp/x'], /-f cannot be used here: the output goes to the stores/],
    ['postgres', ['-Fd'], /-F cannot be used here/],
    ['mariadb', ['--result-file', '/x'], /--result-file cannot be given: the dump goes where the stores are/],
    ['mariadb', ['-f', '--password=geheim'], /--force cannot be given: the dump could not be restored/],
    ['mariadb', ['--tab=/x'], /--tab cannot be given/],
  ]
  for (const [engine, args, message] of refused) {
    const { code, stderr } = await host.cairn(['config', 'from-env', '--', ...args], { CAIRN_ENGINE: engine })
    assert.match(stderr, message)
    assert.equal(code, 2, args.join(' '))
    assert.ok(!stderr.includes('geheim'), stderr)
  }
})
