// budget: 200 s

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type FreshDatabase, freshBucket, freshDatabase, goPrograms, orSkip } from '../services/index.ts'
import { filesIn, sqliteFile, tree } from '../support/cli.ts'
import { contents, excuses, fillHostile, freshMongo, withClient } from '../support/mongodb/databases.ts'
import { mounted } from '../support/places.ts'
import { sql } from '../support/postgres/hostile.ts'
import { rawClient } from '../support/s3-bucket.ts'
import { webhookServer } from '../support/webhook-server.ts'
import { fillShop, type OldHost, oldHost, sh, shopDigest } from './support.ts'

const passphrase = 'a "strong" passphrase'

interface App {
  readonly host: OldHost
  readonly database: FreshDatabase
  readonly env: Readonly<Record<string, string>>
  /** A database of SQLite's, in use. */
  readonly live: DatabaseSync
}

/** An application with a database, a folder, a file and a SQLite database that is being written. */
async function app(t: TestContext): Promise<App | null> {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return null
  await fillShop(database)
  const host = oldHost({})
  const data = host.path('data')
  mkdirSync(join(data, 'up loads/deep'), { recursive: true })
  writeFileSync(join(data, 'up loads/deep/a\nb'), Buffer.from([0, 255, 10]))
  writeFileSync(join(data, 'config.json'), '{"a":1}', { mode: 0o640 })
  sqliteFile(join(data, 'app.db'), 50)
  const live = new DatabaseSync(join(data, 'app.db'))
  live.exec("PRAGMA journal_mode = WAL; INSERT INTO item VALUES (1000, x'00ff')")
  t.after(() => live.close())
  const env = {
    BACKUP_NAME: 'my-app',
    BACKUP_LOCAL_PATH: host.path('backups'),
    BACKUP_ENCRYPTION_KEY: passphrase,
    BACKUP_POSTGRES: `# the shop\n${database.url}`,
    BACKUP_DIRS: `${join(data, 'up loads')}:uploads`,
    BACKUP_FILES: `${join(data, 'app.db')}:database, ${join(data, 'config.json')}`,
    TZ: 'America/New_York',
  }
  return { host, database, env, live }
}

function archivesIn(host: OldHost): string[] {
  return filesIn(host.path('backups/my-app')).filter(path => !path.startsWith('.cairn/'))
}

/** Unpacks an archive as its README says; returns the folder. */
function unpacked(t: TestContext, archive: Buffer): string {
  const dir = mkdtempSync(join(tmpdir(), 'sidecar-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  writeFileSync(join(dir, 'pass'), passphrase)
  sh(
    'mkdir "$DIR/x"; gpg -q -d --batch --pinentry-mode loopback --passphrase-file "$DIR/pass" | tar -xz -C "$DIR/x"',
    archive,
    {
      DIR: dir,
      GNUPGHOME: dir,
    },
  )
  sh('gpgconf --kill all', undefined, { GNUPGHOME: dir })
  return join(dir, 'x')
}

test('sidecar: one encrypted archive in each store holds what the old one held', async t => {
  const here = await app(t)
  const bucket = await orSkip(t, freshBucket())
  if (!here || !bucket) return
  const { host, database, env } = here
  const both = {
    ...env,
    ...{
      BACKUP_S3_BUCKET: bucket.bucket,
      BACKUP_S3_ENDPOINT: bucket.endpoint,
      BACKUP_S3_REGION: bucket.region,
    },
    ...{ BACKUP_S3_ACCESS_KEY: bucket.accessKey, BACKUP_S3_SECRET_KEY: bucket.secretKey },
  }
  const newYork = (): string => sh('TZ=America/New_York date +%Y-%m-%d-%H').toString().trim()
  const before = newYork()
  const ran = await host.cairn(['backup'], both)
  assert.equal(ran.code, 0, ran.stderr)
  const [name = '', second] = archivesIn(host)
  assert.match(name, /^my-app-\d{4}-\d\d-\d\d-\d{6}\.tar\.gz\.gpg$/)
  assert.equal(second, undefined)
  // The hour may have changed meanwhile.
  assert.ok([before, newYork()].includes(name.slice('my-app-'.length, 'my-app-2026-11-21-02'.length)), name)
  const { Body } = await rawClient(t, bucket).getObject({ Bucket: bucket.bucket, Key: `my-app/${name}` })
  const archive = readFileSync(host.path('backups/my-app', name))
  assert.ok(Buffer.from((await Body?.transformToByteArray()) ?? []).equals(archive))

  const dir = unpacked(t, archive)
  assert.deepEqual(readdirSync(dir).sort(), [
    'config.json',
    'database',
    `postgres-${database.name}.dump`,
    'uploads.tar.gz',
  ])
  const target = await freshDatabase(15)
  sh('pg_restore --no-owner -d "$URL" "$DUMP"', undefined, {
    URL: target.url,
    DUMP: join(dir, `postgres-${database.name}.dump`),
  })
  assert.equal(await shopDigest(target), await shopDigest(database))
  sh('mkdir "$DIR/up"; tar -xzf "$DIR/uploads.tar.gz" -C "$DIR/up"', undefined, { DIR: dir })
  assert.deepEqual(tree(join(dir, 'up', 'up loads')), tree(host.path('data/up loads')))
  assert.equal(readFileSync(join(dir, 'config.json'), 'utf8'), '{"a":1}')
  using copy = new DatabaseSync(join(dir, 'database'))
  assert.deepEqual({ ...copy.prepare('SELECT count(*) AS n FROM item').get() }, { n: 51 })
  assert.equal((await host.cairn(['verify'], both)).code, 0)
})

test('sidecar: everything comes back in place by the time in the name', async t => {
  const here = await app(t)
  if (!here) return
  const { host, database, env, live } = here
  assert.equal((await host.cairn(['backup'], env)).code, 0)
  const [time = ''] = /\d{4}-\d\d-\d\d-\d{6}/.exec(archivesIn(host)[0] ?? '') ?? []
  const before = { files: tree(host.path('data/up loads')), shop: await shopDigest(database) }
  await sql(database, 'DELETE FROM item WHERE id > 7')
  live.exec('DELETE FROM item')
  writeFileSync(host.path('data/config.json'), 'broken')
  rmSync(host.path('data/up loads'), { recursive: true })
  const plan = await host.cairn(['restore', time, '--dry-run'], env)
  assert.equal(plan.code, 0, plan.stderr)
  assert.match(plan.out, /config\.json/)
  assert.equal((await host.cairn(['restore', time], env)).code, 2)
  const restored = await host.cairn(['restore', time, '--yes'], env)
  assert.equal(restored.code, 0, restored.stderr)
  assert.deepEqual(tree(host.path('data/up loads')), before.files)
  assert.equal(await shopDigest(database), before.shop)
  assert.equal(readFileSync(host.path('data/config.json'), 'utf8'), '{"a":1}')
  // Who has the database open sees the old content again.
  assert.deepEqual({ ...live.prepare('SELECT count(*) AS n FROM item').get() }, { n: 51 })
  writeFileSync(host.path('data/config.json'), 'broken')
  assert.equal((await host.cairn(['restore', 'latest', '--only', 'config.json', '--yes'], env)).code, 0)
  assert.equal(readFileSync(host.path('data/config.json'), 'utf8'), '{"a":1}')
  const out = await host.cairn(['restore', 'latest', '--to', host.path('out')], env)
  assert.equal(out.code, 0, out.stderr)
  assert.equal(readdirSync(host.path('out/my-app')).length, 4)
})

test('sidecar: a restore touches nothing when one of its targets is mounted read-only, and names all that are', async t => {
  const host = oldHost({})
  for (const dir of ['ok', 'data/folder']) mkdirSync(host.path(dir), { recursive: true })
  writeFileSync(host.path('ok/a'), 'saved')
  writeFileSync(host.path('data/folder/b'), 'saved')
  writeFileSync(host.path('data/c.json'), 'saved')
  sqliteFile(host.path('data/app.db'), 5)
  const data = mounted(t, '--bind', '-o', 'ro', host.path('data'))
  if (data === null) return
  const env = {
    ...{ BACKUP_NAME: 'my-app', BACKUP_LOCAL_PATH: host.path('backups') },
    BACKUP_DIRS: `${host.path('ok')},${join(data, 'folder')}`,
    BACKUP_FILES: `${join(data, 'c.json')},${join(data, 'app.db')}`,
  }
  const ran = await host.cairn(['backup'], env)
  assert.equal(ran.code, 0, ran.stderr)
  writeFileSync(host.path('ok/a'), 'newer')
  for (const how of ['--yes', '--dry-run']) {
    const refused = await host.cairn(['restore', 'latest', how], env)
    assert.equal(refused.code, 2, refused.stderr)
    for (const name of ['folder', 'c.json', 'app.db'])
      assert.ok(refused.stderr.includes(`cannot restore to ${join(data, name)}`), refused.stderr)
    assert.match(refused.stderr, /mounted read-only[\s\S]*hint: mount the folder without :ro/)
    assert.equal(readFileSync(host.path('ok/a'), 'utf8'), 'newer')
  }
  const part = await host.cairn(['restore', 'latest', '--only', 'ok.tar.gz', '--yes'], env)
  assert.equal(part.code, 0, part.stderr)
  assert.equal(readFileSync(host.path('ok/a'), 'utf8'), 'saved')
  sh('mount -o remount,bind,rw "$DIR"', undefined, { DIR: data })
  writeFileSync(host.path('data/c.json'), 'newer')
  const whole = await host.cairn(['restore', 'latest', '--yes'], env)
  assert.equal(whole.code, 0, whole.stderr)
  assert.equal(readFileSync(host.path('data/c.json'), 'utf8'), 'saved')
})

test('sidecar: of files that are mounted by themselves a database is written into; another one is refused before it', async t => {
  const host = oldHost({})
  mkdirSync(host.path('from'))
  const dir = mounted(t, '-t', 'tmpfs', 'tmpfs')
  if (dir === null) return
  sqliteFile(host.path('from/app.db'), 5)
  writeFileSync(host.path('from/c.json'), 'saved')
  const names = ['app.db', 'c.json']
  const files = names.map(name => join(dir, name))
  for (const [index, file] of files.entries()) {
    writeFileSync(file, '')
    sh('mount --bind "$FROM" "$TO"', undefined, { FROM: host.path('from', names[index] ?? ''), TO: file })
  }
  try {
    const env = {
      ...{ BACKUP_NAME: 'my-app', BACKUP_LOCAL_PATH: host.path('backups') },
      BACKUP_FILES: files.join(','),
    }
    assert.equal((await host.cairn(['backup'], env)).code, 0)
    using database = new DatabaseSync(host.path('from/app.db'))
    database.exec('DELETE FROM item')
    const count = () => ({ ...database.prepare('SELECT count(*) AS n FROM item').get() })
    const refused = await host.cairn(['restore', 'latest', '--yes'], env)
    assert.equal(refused.code, 2, refused.stderr)
    assert.match(refused.stderr, /c\.json is mounted by itself.*: its folder must be mounted/)
    assert.deepEqual(count(), { n: 0 })
    const part = await host.cairn(['restore', 'latest', '--only', 'app.db', '--yes'], env)
    assert.equal(part.code, 0, part.stderr)
    assert.deepEqual(count(), { n: 5 })
  } finally {
    for (const file of files) sh('umount "$DIR"', undefined, { DIR: file })
  }
})

test('sidecar: the time to cancel comes when the archive is read and decrypted; cancelled, nothing was touched', async () => {
  const host = oldHost({})
  mkdirSync(host.path('data'))
  writeFileSync(host.path('data/a'), 'saved')
  const env = {
    ...{ BACKUP_NAME: 'my-app', BACKUP_LOCAL_PATH: host.path('backups'), BACKUP_DIRS: host.path('data') },
    ...{ BACKUP_ENCRYPTION_KEY: passphrase, CAIRN_SPOOL: host.path('spool') },
  }
  mkdirSync(host.path('spool'))
  const ran = await host.cairn(['backup'], env)
  assert.equal(ran.code, 0, ran.stderr)
  writeFileSync(host.path('data/a'), 'newer')
  const args = ['restore', 'latest', '--yes', '--delay', '10min']
  const wrong = await host.cairn(args, { ...env, BACKUP_ENCRYPTION_KEY: 'another' })
  assert.equal(wrong.code, 12, wrong.stderr)
  assert.doesNotMatch(wrong.stderr, /Ctrl-C/)
  const waiting = host.start(args, { env })
  await waiting.said(/nothing was touched yet: Ctrl-C within 10 min cancels/)
  assert.ok(filesIn(host.path('spool')).some(path => path.endsWith('/data.tar.gz')))
  waiting.child.kill('SIGINT')
  assert.equal((await waiting.ended).code, 130)
  assert.equal(readFileSync(host.path('data/a'), 'utf8'), 'newer')
  assert.deepEqual(filesIn(host.path('spool')), [])
  const restored = await host.cairn([...args.slice(0, -1), '1s'], env)
  assert.equal(restored.code, 0, restored.stderr)
  assert.ok(restored.seconds >= 1)
  assert.equal(readFileSync(host.path('data/a'), 'utf8'), 'saved')
  assert.equal((await host.cairn([...args.slice(0, -1), 'soon'], env)).code, 2)
})

test('sidecar: archives of the old tool are listed, restored and pruned, with and without encryption', async t => {
  const here = await app(t)
  if (!here) return
  const { host, database, env } = here
  const made = host.path('made')
  mkdirSync(made)
  sh(
    'pg_dump -Fc -d "$URL" -f "$MADE/postgres-$NAME.dump"; tar -czf "$MADE/uploads.tar.gz" -C "$DATA" "up loads"; cp "$DATA/config.json" "$MADE/"',
    undefined,
    {
      ...{ URL: database.url, MADE: made, NAME: database.name, DATA: host.path('data') },
    },
  )
  const to = host.path('backups/my-app')
  mkdirSync(to, { recursive: true })
  writeFileSync(host.path('pass'), passphrase)
  const gpg =
    'gpg -q --batch --symmetric --cipher-algo AES256 --pinentry-mode loopback --passphrase-file "$PASS"'
  const say = { MADE: made, TO: to, PASS: host.path('pass'), GNUPGHOME: made }
  for (const day of ['01', '02', '03'])
    sh(
      `tar -cz --exclude='*.gpg' --exclude='*.d' -C "$MADE" config.json uploads.tar.gz postgres-${database.name}.dump | ${gpg} > "$TO/my-app-2025-01-${day}-020000.tar.gz.gpg"`,
      undefined,
      say,
    )
  sh('gpgconf --kill all', undefined, say)
  sh(`tar -cz -C "$MADE" config.json > "$TO/my-app-2025-01-04-020000.tar.gz"`, undefined, say)
  writeFileSync(join(to, 'other-2025-01-04-020000.tar.gz'), 'mine')
  const listed = (await host.cairn(['list', '--json'], env)).json<
    { id: string; kind: string; encrypted: boolean }[]
  >()
  assert.deepEqual(
    listed.map(({ kind, encrypted }) => [kind, encrypted]),
    [['foreign', false], ...Array(3).fill(['foreign', true])],
  )
  rmSync(host.path('data/up loads'), { recursive: true })
  await sql(database, 'DROP TABLE item')
  const target = await host.cairn(['restore', '2025-01-03-020000', '--yes'], env)
  assert.equal(target.code, 0, target.stderr)
  assert.match(target.stderr, /database is not in the archive/)
  assert.ok(filesIn(host.path('data/up loads')).length > 0)
  await shopDigest(database)
  const wrong = await host.cairn(['restore', '2025-01-03-020000', '--yes'], {
    ...env,
    BACKUP_ENCRYPTION_KEY: 'other',
  })
  assert.equal(wrong.code, 12, wrong.stderr)
  // Those of the old tool and our own count together.
  assert.equal((await host.cairn(['backup'], env)).code, 0)
  const pruned = await host.cairn(['prune'], { ...env, BACKUP_RETENTION_RECENT: '2' })
  assert.equal(pruned.code, 0, pruned.stderr)
  const [old, own = '', others, ...more] = archivesIn(host)
  assert.equal(old, 'my-app-2025-01-04-020000.tar.gz')
  assert.match(own, /^my-app-20(?!25-01)/)
  assert.deepEqual([others, more], ['other-2025-01-04-020000.tar.gz', []])
})

test('sidecar: what is missing is left out and told with exit 3, what is optional with a warning', async t => {
  const here = await app(t)
  if (!here) return
  const { host, env } = here
  const missing = { ...env, BACKUP_DIRS: `${env.BACKUP_DIRS},${host.path('data/nowhere')}` }
  const partly = await host.cairn(['backup'], missing)
  assert.equal(partly.code, 3, partly.stderr)
  assert.match(partly.stderr, /nowhere.*does not exist/)
  const dir = unpacked(t, readFileSync(host.path('backups/my-app', archivesIn(host)[0] ?? '')))
  assert.equal(readdirSync(dir).length, 4)
  // The names tell seconds.
  await sleep(1_100)
  const optional = await host.cairn(['backup'], { ...missing, BACKUP_OPTIONAL: 'nowhere' })
  assert.equal(optional.code, 0, optional.stderr)
  await sleep(1_100)
  const down = await host.cairn(['backup'], { ...env, BACKUP_POSTGRES: 'postgresql://u:p@127.0.0.1:1/x' })
  assert.equal(down.code, 3, down.stderr)
  const alone = {
    BACKUP_NAME: 'my-app',
    BACKUP_LOCAL_PATH: env.BACKUP_LOCAL_PATH ?? '',
    BACKUP_POSTGRES: 'postgresql://u:p@127.0.0.1:1/x',
  }
  const before = archivesIn(host).length
  assert.equal((await oldHost(alone).cairn(['backup'])).code, 1)
  assert.equal(archivesIn(host).length, before)
})

test('sidecar: what is wrong is named before anything is read; what is right makes an equal configuration', async () => {
  const host = oldHost({ BACKUP_NAME: 'x', BACKUP_LOCAL_PATH: '/b', BACKUP_DIRS: '/data' })
  const wrong: [Record<string, string>, RegExp][] = [
    [{ BACKUP_NAME: 'a/b' }, /BACKUP_NAME: expected a name without/],
    [{ BACKUP_NAME: '' }, /BACKUP_NAME: expected a name for/],
    [{ BACKUP_LOCAL_PATH: '' }, /BACKUP_LOCAL_PATH: expected/],
    [{ BACKUP_DIRS: '' }, /BACKUP_POSTGRES: expected something/],
    [{ BACKUP_DIRS: 'data:x' }, /BACKUP_DIRS: expected/],
    [{ BACKUP_FILES: '/a/x,/b/x' }, /BACKUP_FILES: expected a name of its own/],
    [{ BACKUP_POSTGRES: 'mysql://u:geheim@h/d' }, /BACKUP_POSTGRES: expected postgresql/],
    [{ BACKUP_RETENTION_DAYS: 'many' }, /BACKUP_RETENTION_DAYS: expected a whole number/],
    [{ BACKUP_RETENTION_DAILY: '-1' }, /BACKUP_RETENTION_DAILY: expected/],
    [{ BACKUP_S3_BUCKET: 'b', BACKUP_S3_ACCESS_KEY: 'k' }, /BACKUP_S3_SECRET_KEY: expected/],
    [{ BACKUP_SUCCESS_WEBHOOK: 'hc' }, /BACKUP_SUCCESS_WEBHOOK: expected/],
    [{ TZ: 'Mars/Olympus' }, /TZ: expected a time zone/],
    [{ BACKUP_STOP_WAIT: 'long' }, /BACKUP_STOP_WAIT: expected/],
  ]
  for (const [changes, message] of wrong) {
    const { code, stderr } = await host.cairn(['backup'], changes)
    assert.equal(code, 2, JSON.stringify(changes) + stderr)
    assert.match(stderr, message)
    assert.doesNotMatch(stderr, /geheim/)
  }
  for (const [uri, database] of [
    ['postgresql://u:p@h?sslrootcert=/ca/root', 'postgres'],
    ['postgresql://u:p@h/one?dbname=two', 'two'],
    ['postgresql:///three?host=/run/x', 'three'],
    ['postgresql://h/a%2Fb', 'a/b'],
  ]) {
    const shown = await host.cairn(['config', 'from-env', '--json'], { BACKUP_POSTGRES: uri })
    assert.equal(JSON.parse(shown.out).jobs.sidecar.source.members[0].source.database, database, uri)
  }
  const keep = async (changes: Record<string, string>) =>
    JSON.parse((await host.cairn(['config', 'from-env', '--json'], changes)).out).jobs.sidecar.keep
  assert.deepEqual(await keep({}), { last: 14, daily: 7, weekly: 4, within: '30 days' })
  assert.deepEqual(await keep({ BACKUP_RETENTION_DAYS: '90' }), { within: '90 days' })
  assert.deepEqual(await keep({ BACKUP_RETENTION_WEEKLY: '2', BACKUP_RETENTION_YEARLY: '1' }), {
    weekly: 2,
    yearly: 1,
  })
})

test('sidecar: a name is taken as it stands, databases come from a file, and BACKUP_DEBUG tells more but no secret', async t => {
  const here = await app(t)
  if (!here) return
  const { host, database, env } = here
  const name = 'a ${DB} 50%Y $DB%%'
  writeFileSync(host.path('uris'), `${database.url}\n# and once more\n${database.url}\n`)
  const said = {
    ...{ ...env, BACKUP_NAME: name, BACKUP_POSTGRES: '', BACKUP_POSTGRES_FILE: host.path('uris') },
    ...{ BACKUP_DEBUG: 'true', BACKUP_FILES: '' },
  }
  const ran = await host.cairn(['backup'], said)
  assert.equal(ran.code, 0, ran.stderr)
  assert.match(ran.stderr, /sidecar \(.*\): reading\n/)
  const archives = filesIn(host.path('backups', name)).filter(path => !path.startsWith('.cairn/'))
  assert.equal(archives.length, 1)
  assert.ok(archives[0]?.startsWith(`${name}-20`), archives[0])
  const dir = unpacked(t, readFileSync(host.path('backups', name, archives[0] ?? '')))
  const dump = `postgres-${database.name}`
  assert.deepEqual(readdirSync(dir).sort(), [`${dump}-2.dump`, `${dump}.dump`, 'uploads.tar.gz'])
  writeFileSync(host.path('uris'), `postgresql://u:geheim@127.0.0.1:1/${database.name}\n`)
  const down = await host.cairn(['restore', 'latest', '--yes'], said)
  assert.notEqual(down.code, 0)
  assert.match(down.stderr, /error: .*\n[\s\S]* at /)
  for (const secret of [database.password, 'geheim', passphrase])
    assert.ok(![ran, down].some(each => (each.stderr + each.out).includes(secret)))
})

test('sidecar: without a schedule it stays up and waits; with one it runs, and its webhooks are called as a form', async t => {
  const here = await app(t)
  if (!here) return
  const { host, env } = here
  const idle = host.start(['run'], { env })
  await idle.said(/no job has a schedule: waiting/)
  assert.equal(archivesIn(host).length, 0)
  await sleep(500)
  assert.equal(idle.child.exitCode, null)
  idle.child.kill('SIGTERM')
  assert.equal((await idle.ended).code, 143)

  await using server = await webhookServer()
  const hooks = {
    BACKUP_SUCCESS_WEBHOOK: `${server.origin}/success`,
    BACKUP_FAILURE_WEBHOOK: `${server.origin}/failure`,
  }
  const scheduled = { ...env, ...hooks, BACKUP_SCHEDULE: '* * * * * *' }
  const running = host.start(['run'], { env: scheduled })
  const success = await server.called('success')
  running.child.kill('SIGTERM')
  assert.equal((await running.ended).code, 143)
  assert.equal(success.method, 'POST')
  assert.match(success.type ?? '', /form-urlencoded/)
  assert.ok(archivesIn(host).length > 0)
  // The names tell seconds.
  await sleep(1_100)
  const failing = await host.cairn(['backup'], { ...env, ...hooks, BACKUP_DIRS: '/nowhere-at-all' })
  assert.equal(failing.code, 3)
  assert.equal(server.words().at(-1), 'failure')
})

test(
  'sidecar: MongoDB is the folder that mongodump writes, for mongorestore and for Cairn; and so is that of the old tool',
  excuses,
  async () => {
    const database = await freshMongo()
    await fillHostile(database)
    const before = await contents(database)
    const host = oldHost({})
    const env = {
      BACKUP_NAME: 'my-app',
      BACKUP_LOCAL_PATH: host.path('backups'),
      BACKUP_MONGODB: database.url,
    }
    const ran = await host.cairn(['backup'], env)
    assert.equal(ran.code, 0, ran.stderr)
    const dir = host.path('x')
    mkdirSync(dir)
    const [name = ''] = archivesIn(host)
    assert.match(name, /\.tar\.gz$/)
    sh('tar -xzf "$A" -C "$DIR"', undefined, { A: host.path('backups/my-app', name), DIR: dir })
    assert.ok(readdirSync(join(dir, 'mongodb-dump', database.name)).some(file => file.endsWith('.bson')))
    await withClient(database, client => client.db(database.name).dropDatabase())
    const restored = await host.cairn(['restore', 'latest', '--yes'], env)
    assert.equal(restored.code, 0, restored.stderr)
    assert.deepEqual(await contents(database), before)

    const old = host.path('old')
    mkdirSync(old)
    sh(
      '"$TOOL" --quiet --uri "$URI" --out "$OLD/mongodb-dump"; tar -czf "$TO/my-app-2025-01-01-020000.tar.gz" -C "$OLD" mongodb-dump',
      undefined,
      {
        ...{
          TOOL: join(goPrograms, 'mongodump'),
          URI: database.url,
          OLD: old,
          TO: host.path('backups/my-app'),
        },
      },
    )
    await withClient(database, client => client.db(database.name).dropDatabase())
    const foreign = await host.cairn(['restore', '2025-01-01-020000', '--yes'], env)
    assert.equal(foreign.code, 0, foreign.stderr)
    assert.deepEqual(await contents(database), before)
    const wrong = await host.cairn(['backup'], { ...env, BACKUP_MONGODB: 'postgresql://x:geheim@y' })
    assert.equal(wrong.code, 2)
    assert.match(wrong.stderr, /BACKUP_MONGODB: expected mongodb/)
    assert.doesNotMatch(wrong.stderr, /geheim/)
  },
)
