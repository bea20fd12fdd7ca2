// budget: 150 s
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { freshDatabase, freshServer, freshSqlDatabase, freshSqlServer, orSkip } from '../services/index.ts'
import { runSql } from '../services/mariadb.ts'
import { filesIn } from '../support/cli.ts'
import { accountsOf, fillAccounts, mayProxy } from '../support/mariadb/accounts.ts'
import { sql } from '../support/postgres/hostile.ts'
import { fillShop, oldHost, sh, shopDigest } from './support.ts'

const time = '\\d{4}-\\d\\d-\\d\\dT\\d\\d-\\d\\d-\\d\\dZ'

/** The files of a folder that the old tool would have made. */
function dumpsIn(folder: string): string[] {
  return filesIn(folder).filter(path => !path.startsWith('.cairn/'))
}

test('rclone: each database is gzipped SQL of its own in the remote, and comes back with psql and with Cairn', async t => {
  const database = await orSkip(t, freshDatabase(15))
  const second = await orSkip(t, freshDatabase(15))
  if (!database || !second) return
  await fillShop(database)
  const host = oldHost({})
  const env = {
    BACKUP_DATABASES: `${database.name}, ${second.name}`,
    ...{ PGHOST: database.host, PGPORT: String(database.port), PGUSER: database.user },
    ...{
      PGPASSWORD_FILE: host.path('pw'),
      RCLONE_CONFIG_STORE_TYPE: 'local',
      UPLOAD_PREFIX: host.path('up/'),
    },
  }
  writeFileSync(host.path('pw'), `${database.password}\n`)
  const ran = await host.cairn(['backup'], env)
  assert.equal(ran.code, 0, ran.stderr)
  const dumps = dumpsIn(host.path('up'))
  assert.equal(dumps.length, 2, dumps.join())
  const own = dumps.find(name => new RegExp(`^${database.name}-${time}\\.sql\\.gz$`).test(name)) ?? ''
  const target = await freshDatabase(15)
  sh('gunzip | psql -q -X -v ON_ERROR_STOP=1 -d "$URL"', readFileSync(host.path('up', own)), {
    URL: target.url,
  })
  assert.equal(await shopDigest(target), await shopDigest(database))
  const other = await freshDatabase(15)
  const restored = await host.cairn(['restore', own, '--to', other.url], env)
  assert.equal(restored.code, 0, restored.stderr)
  assert.equal(await shopDigest(other), await shopDigest(database))
})

test('rclone: encrypted for an SSH key it is read with age, and a name with folders is made plain', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  await fillShop(database)
  const host = oldHost({})
  sh('ssh-keygen -q -t ed25519 -N "" -C "who@where x" -f "$KEY"', undefined, { KEY: host.path('id') })
  const publicKey = readFileSync(host.path('id.pub'), 'utf8')
  const env = {
    CAIRN_ENGINE: 'postgres',
    BACKUP_DATABASES: database.name,
    BACKUP_FILE_NAME: '%Y/a b_$DB--%Y%m%d-%H%M%S.sql',
    ...{
      PGHOST: database.host,
      PGPORT: String(database.port),
      PGUSER: database.user,
      PGPASSWORD: database.password,
    },
    ...{
      REMOTE_NAME: ':local:',
      UPLOAD_PREFIX: host.path('up'),
      ENCRYPT_RECIPIENTS_FILE: host.path('id.pub'),
    },
  }
  writeFileSync(host.path('id.pub'), `# mine\necdsa-sha2-nistp256 AAAA x\n${publicKey}`)
  const ran = await host.cairn(['backup'], env)
  assert.equal(ran.code, 0, ran.stderr)
  const [dump = ''] = dumpsIn(host.path('up'))
  assert.match(dump, new RegExp(`^\\d{4}/a-b_${database.name}-\\d{8}-\\d{6}\\.sql\\.gz\\.age$`))
  const plain = sh('age -d -i "$KEY" | gunzip', readFileSync(host.path('up', dump)), { KEY: host.path('id') })
  assert.match(plain.toString(), /PostgreSQL database dump complete/)
  const inline = {
    ...env,
    ENCRYPT_RECIPIENTS_FILE: '',
    ENCRYPT_RECIPIENTS: `${publicKey.trim()} age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p`,
  }
  const shown = await host.cairn(['config', 'from-env'], inline)
  assert.equal(shown.code, 0, shown.stderr)
  assert.equal(shown.out.match(/ - (ssh-ed25519|age1)/g)?.length, 2)
  const target = await freshDatabase(15)
  const restored = await host.cairn(
    ['restore', 'latest', '--to', target.url, '--identity', host.path('id')],
    env,
  )
  assert.equal(restored.code, 0, restored.stderr)
  assert.equal(await shopDigest(target), await shopDigest(database))
})

test('rclone: all databases of PostgreSQL are one file', async t => {
  // One of its own: what others drop while it is dumped fails the whole.
  const server = await orSkip(t, freshServer(15))
  if (!server) return
  const host = oldHost({})
  const ran = await host.cairn(['backup'], {
    BACKUP_ALL: 'true',
    ...{ PGHOST: server.host, PGPORT: String(server.port), PGUSER: server.user, PGPASSWORD: server.password },
    ...{ REMOTE_NAME: ':local', UPLOAD_PREFIX: host.path('up') },
  })
  assert.equal(ran.code, 0, ran.stderr)
  const [dump = ''] = dumpsIn(host.path('up'))
  assert.match(dump, new RegExp(`^all_${time}\\.sql\\.gz$`))
  assert.match(
    sh('gunzip | tail -c 200', readFileSync(host.path('up', dump))).toString(),
    /PostgreSQL database cluster dump complete/,
  )
})

test('rclone: MariaDB with its arguments and option files, read with the client and restored by Cairn', async t => {
  const database = await orSkip(t, freshSqlDatabase('10.11'))
  const target = await orSkip(t, freshSqlDatabase('10.11'))
  if (!database || !target) return
  const host = oldHost({})
  const options = host.path('my.cnf')
  writeFileSync(
    options,
    `[client]\nuser=${database.user}\npassword="${database.password}"\nhost=${database.host}\nport=${database.port}\n`,
    { mode: 0o600 },
  )
  const mariadb = (name: string, sql: string): string =>
    sh('"$CLIENT" --defaults-extra-file="$CNF" -N "$NAME"', Buffer.from(sql), {
      ...{
        CNF: options,
        NAME: name,
        CLIENT: join(process.env.CAIRN_MARIADB_CLIENTS ?? '', '10.11/bin/mariadb'),
      },
    }).toString()
  mariadb(
    database.name,
    "CREATE TABLE t (id INT PRIMARY KEY, b BLOB); INSERT INTO t VALUES (1, X'00FF0A27'), (2, 'q''u\"o')",
  )
  const env = {
    CAIRN_ENGINE: 'mariadb',
    BACKUP_DATABASES: database.name,
    REMOTE_NAME: 'store',
    RCLONE_CONFIG_STORE_TYPE: 'local',
    UPLOAD_PREFIX: host.path('up'),
    MYSQL_HOST: 'nowhere.invalid',
  }
  const ran = await host.cairn(
    ['run', '--', `--defaults-extra-file=${options}`, '--skip-extended-insert'],
    env,
  )
  assert.equal(ran.code, 0, ran.stderr)
  const [dump = ''] = dumpsIn(host.path('up'))
  const plain = sh('gunzip', readFileSync(host.path('up', dump))).toString()
  assert.match(plain, new RegExp(`CREATE DATABASE .*\`${database.name}\``))
  assert.equal(plain.match(/INSERT INTO `t`/g)?.length, 2)
  mariadb(database.name, 'DROP TABLE t')
  sh('"$CLIENT" --defaults-extra-file="$CNF"', Buffer.from(plain), {
    ...{ CNF: options, CLIENT: join(process.env.CAIRN_MARIADB_CLIENTS ?? '', '10.11/bin/mariadb') },
  })
  const rows = '1\t00FF0A27\n2\t712775226F\n'
  assert.equal(mariadb(database.name, 'SELECT id, HEX(b) FROM t ORDER BY id'), rows)
  mariadb(database.name, 'DROP TABLE t')
  const restored = await host.cairn(['restore', 'latest', '--to', database.url, '--yes'], env)
  assert.equal(restored.code, 0, restored.stderr)
  assert.equal(mariadb(database.name, 'SELECT id, HEX(b) FROM t ORDER BY id'), rows)
})

test("rclone: the whole MariaDB server that the old tool has left comes back with its accounts, but for what else is the server's own", async t => {
  const from = await orSkip(t, freshSqlServer('10.11'))
  const to = from && (await orSkip(t, freshSqlServer('10.11')))
  if (!from || !to) return
  const host = oldHost({})
  const old = join(process.env.CAIRN_MARIADB_CLIENTS ?? '', '10.11/bin')
  const at = (server: typeof from, command: string, stdin = ''): Buffer => {
    const { host: address, port, user, password } = server
    const [program, ...args] = command.split(' ')
    return sh(`"$BIN/${program}" -h ${address} -P ${port} -u ${user} ${args.join(' ')}`, Buffer.from(stdin), {
      ...{ BIN: old, MYSQL_PWD: password },
    })
  }
  await fillAccounts(from)
  await mayProxy(to)
  const some = "CREATE TABLE shop.u (b BLOB); INSERT INTO shop.u VALUES (X'00FF27')"
  at(from, 'mariadb', `CREATE DATABASE \`a b\`; CREATE ROLE given WITH ADMIN root@localhost; ${some}`)
  const dump = at(from, 'mariadb-dump --all-databases --single-transaction')
  sh('mkdir "$UP"; gzip > "$UP/all_2025-01-01T00-00-00Z.sql.gz"', dump, { UP: host.path('up') })
  const env = {
    ...{ CAIRN_ENGINE: 'mariadb', BACKUP_ALL: 'true', REMOTE_NAME: ':local', UPLOAD_PREFIX: host.path('up') },
  }
  const target = `mariadb://${to.user}:${to.password}@${to.host}:${to.port}`
  const restored = await host.cairn(['restore', 'latest', '--to', target], env)
  assert.equal(restored.code, 0, restored.stderr)
  assert.match(
    restored.stderr,
    /the server's own databases in the dump, but for users, privileges and routines, are not restored/,
  )
  assert.deepEqual(await accountsOf(to), await accountsOf(from))
  assert.match(await runSql(to, 'SHOW GRANTS FOR root@localhost'), /GRANT `given` TO .* WITH ADMIN OPTION/)
  assert.equal((await runSql(to, 'SELECT n FROM shop.c3')).trim(), '2\n2')
  const definitions = 'SHOW CREATE FUNCTION shop.g; SHOW CREATE PROCEDURE shop.`Pro c`'
  assert.equal(await runSql(to, definitions), await runSql(from, definitions))
  assert.doesNotMatch(await runSql(to, 'SHOW DATABASES'), /cairn/)
  assert.equal(
    String(at(to, 'mariadb -N', 'SELECT HEX(b) FROM shop.u; SHOW DATABASES LIKE "a b"')),
    '00FF27\na b\n',
  )
})

test('rclone: what the old tool has left is listed and restored, in all its names', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  await fillShop(database)
  const host = oldHost({})
  const env = {
    CAIRN_ENGINE: 'postgres',
    ...{ BACKUP_DATABASES: database.name, BACKUP_FILE_NAME: '${DB}_%Y-%m-%d-%H%M%S.sql.gz' },
    ...{ REMOTE_NAME: ':local', UPLOAD_PREFIX: host.path('up') },
  }
  sh('ssh-keygen -q -t ed25519 -N "" -f "$KEY"', undefined, { KEY: host.path('id') })
  const dump = sh('pg_dump --clean -d "$URL"', undefined, { URL: database.url })
  const at = (day: string): string => `${database.name}_2025-01-${day}-020000`
  sh('mkdir -p "$UP"; gzip > "$UP/$A"', dump, { UP: host.path('up'), A: `${at('01')}.sql.gz` })
  sh('gzip > "$UP/$A"', dump, { UP: host.path('up'), A: `${at('02')}.sql.gz.sql.gz` })
  sh('pg_dump -Fc -d "$URL" | gzip > "$UP/$A"', undefined, {
    ...{ UP: host.path('up'), A: `${at('04')}.sql.gz`, URL: database.url },
  })
  sh('gzip | age -R "$KEY.pub" > "$UP/$A"', dump, {
    UP: host.path('up'),
    A: `${at('03')}.sql.gz.age`,
    KEY: host.path('id'),
  })
  writeFileSync(host.path('up', 'notes.txt'), 'mine')
  const listed = (await host.cairn(['list', '--json'], env)).json<
    { id: string; kind: string; encrypted: boolean }[]
  >()
  assert.deepEqual(
    listed.map(({ kind, encrypted }) => [kind, encrypted]),
    [
      ['foreign', false],
      ['foreign', true],
      ['foreign', false],
      ['foreign', false],
    ],
  )
  for (const { id } of listed) {
    const target = await freshDatabase(15)
    const restored = await host.cairn(['restore', id, '--to', target.url, '--identity', host.path('id')], env)
    assert.equal(restored.code, 0, restored.stderr)
    assert.equal(await shopDigest(target), await shopDigest(database))
  }
})

test('rclone: a name without a date is overwritten, when the new one is whole', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  await fillShop(database)
  const host = oldHost({})
  const env = {
    ...{ BACKUP_DATABASES: database.name, BACKUP_FILE_NAME: 'latest-$DB' },
    ...{
      PGHOST: database.host,
      PGPORT: String(database.port),
      PGUSER: database.user,
      PGPASSWORD: database.password,
    },
    ...{ REMOTE_NAME: ':local', UPLOAD_PREFIX: host.path('up') },
  }
  for (let n = 0; n < 2; n++) assert.equal((await host.cairn(['backup'], env)).code, 0)
  assert.deepEqual(readdirSync(host.path('up')).sort(), ['.cairn', `latest-${database.name}.sql.gz`])
  const listed = (await host.cairn(['list', '--json'], env)).json<{ kind: string }[]>()
  assert.deepEqual(
    listed.map(({ kind }) => kind),
    ['logical'],
  )
  assert.equal((await host.cairn(['verify'], env)).code, 0)
  const before = readFileSync(host.path('up', `latest-${database.name}.sql.gz`))
  const failed = await host.cairn(['backup'], { ...env, PGPASSWORD: 'wrong' })
  assert.notEqual(failed.code, 0)
  assert.deepEqual(readFileSync(host.path('up', `latest-${database.name}.sql.gz`)), before)
})

test('rclone: what is wrong is named before anything is dumped', async () => {
  const host = oldHost({ CAIRN_ENGINE: 'postgres', BACKUP_DATABASES: 'a,b' })
  const wrong: [Record<string, string>, RegExp][] = [
    [{ BACKUP_DATABASES: '', UPLOAD_PREFIX: 'x' }, /BACKUP_DATABASES: expected/],
    [{ BACKUP_FILE_NAME: 'one' }, /BACKUP_FILE_NAME: expected \$DB in it/],
    [{ BACKUP_FILE_NAME: '/$DB' }, /BACKUP_FILE_NAME: expected a path within/],
    [{ BACKUP_FILE_NAME: '../$DB' }, /BACKUP_FILE_NAME: expected a path within/],
    [{ BACKUP_FILE_NAME: '$DB', BACKUP_ALL: 'true' }, /no \$DB, because BACKUP_ALL/],
    [{ BACKUP_ALL: 'perhaps' }, /BACKUP_ALL: expected "true" or "false"/],
    [{ CAIRN_ENGINE: 'oracle' }, /CAIRN_ENGINE: expected/],
    [{ CAIRN_ENGINE: '' }, /CAIRN_ENGINE: expected/],
    [{ ENCRYPT_RECIPIENTS: 'nobody' }, /ENCRYPT_RECIPIENTS: expected/],
    [{ BACKUP_FILE_NAME: '$DB-%Q' }, /%Q is none of/],
  ]
  for (const [changes, message] of wrong) {
    const { code, stderr } = await host.cairn(['backup'], changes)
    assert.equal(code, 2, JSON.stringify(changes) + stderr)
    assert.match(stderr, message)
  }
  const two = await host.cairn(['list'], { PG_DATABASES: 'x' })
  assert.equal(two.code, 2)
  assert.match(two.stderr, /rclone by BACKUP_DATABASES, moonflower by PG_DATABASES/)
  const none = await host.cairn(['run'], { BACKUP_DATABASES: '', CAIRN_ENGINE: '' })
  assert.equal(none.code, 2)
  assert.match(none.stderr, /moonflower +PG_DATABASES/)
})

test('rclone: what the old tool wrote under a fixed name comes back into its own database', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  await fillShop(database)
  const host = oldHost({})
  const env = {
    ...{ BACKUP_DATABASES: database.name, BACKUP_FILE_NAME: 'fixed' },
    ...{ PGHOST: database.host, PGPORT: String(database.port) },
    ...{ PGUSER: database.user, PGPASSWORD: database.password },
    ...{ RCLONE_CONFIG_STORE_TYPE: 'local', UPLOAD_PREFIX: host.path('up') },
  }
  sh('mkdir "$UP"; pg_dump -d "$URL" | gzip > "$UP/fixed.sql.gz"', undefined, {
    UP: host.path('up'),
    URL: database.url,
  })
  const before = await shopDigest(database)
  await sql(database, 'DROP TABLE item', 'DROP TABLE "em pty"')
  const restored = await host.cairn(['restore', 'latest', '--yes'], env)
  assert.equal(restored.code, 0, restored.stderr)
  assert.equal(await shopDigest(database), before)
})
