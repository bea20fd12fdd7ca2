// budget: 300 s
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  type FreshBucket,
  type FreshDatabase,
  freshBucket,
  freshContainer,
  freshDatabase,
  freshFolder,
  freshSqlDatabase,
  orSkip,
  postgresClients,
} from './services/index.ts'
import { freePort } from './support/free-port.ts'
import { contents, freshMongo, withClient } from './support/mongodb/databases.ts'

/** Every shell command of the README and the how-to pages is run as it stands, in the order of its page. */
const root = resolve(import.meta.dirname, '..')
const node = dirname(process.execPath)

interface Setting {
  /** Where the commands run. */
  readonly folder: string
  readonly env: Record<string, string>
}

async function setting(config: string | null, env: Record<string, string> = {}): Promise<Setting> {
  const folder = await freshFolder()
  if (config !== null) writeFileSync(join(folder, 'cairn.yaml'), config.replaceAll('FOLDER', folder))
  const path = [join(root, 'bin'), node, process.env.PATH].join(':')
  return {
    folder,
    env: {
      PATH: path,
      HOME: folder,
      CAIRN_STATE: join(folder, 'state'),
      TMPDIR: process.env.TMPDIR ?? '/tmp',
      ...env,
    },
  }
}

/** The ```sh blocks of a page, without those that only show what is not run. */
function commandsOf(page: string, skip: RegExp = /^$/): string {
  const text = readFileSync(join(root, page), 'utf8')
  const blocks = [...text.matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(match => match[1] ?? '')
  assert.ok(blocks.length > 0, `${page} has no commands`)
  return blocks.filter(block => !skip.test(block)).join('\n')
}

function runAll(commands: string, { folder, env }: Setting): string {
  const ran = spawnSync('bash', ['-euxo', 'pipefail', '-c', commands], { cwd: folder, env, encoding: 'utf8' })
  assert.equal(ran.status, 0, `${ran.stdout}\n${ran.stderr}`)
  return ran.stdout
}

function someFiles(folder: string): void {
  mkdirSync(join(folder, 'uploads'))
  writeFileSync(join(folder, 'uploads', 'a file'), 'content')
}

const disk = 'stores: { disk: { type: local, path: FOLDER/store } }\n'
const uploads = 'jobs: { uploads: { source: { type: files, paths: [FOLDER/uploads] }, to: [STORE] } }\n'

test('README: the first backup and the first restore', async () => {
  const here = await setting(null)
  writeFileSync(join(here.folder, 'a file'), 'content')
  runAll(commandsOf('README.md', /npm ci|docker compose/), here)
  const restored = execFileSync('find', [join(here.folder, 'restored'), '-name', 'a file'], {
    encoding: 'utf8',
  })
  assert.match(restored, /a file/)
})

test('how to restore in a hurry, from the store and the key alone', async () => {
  const here = await setting(null)
  writeFileSync(join(here.folder, 'a file'), 'content')
  runAll('cairn init --defaults && cairn backup && rm cairn.yaml && rm -r state', here)
  const commands = commandsOf('docs/how-to/restore.md').replace(/^STORE=.*$/m, 'STORE=$PWD/backups')
  runAll(commands, here)
})

test('how to back up PostgreSQL', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  const { host, port, user, password, name } = database
  const env = { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password }
  const job = (more: string): string => `{ source: { type: postgres, ${more} }, to: [disk] }`
  const config = [
    `${disk}jobs:`,
    `  shop: ${job(`database: ${name}`)}`,
    `  shops: ${job(`databases: [${name}]`)}`,
    `  big: ${job(`database: ${name}, format: directory, jobs: 2`)}`,
    `  part: ${job(`database: ${name}, format: plain, args: ["--exclude-table-data=x"]`)}`,
  ].join('\n')
  const here = await setting(config, { ...env, CAIRN_POSTGRES_CLIENTS: postgresClients })
  const tools = {
    ...here,
    env: { ...here.env, PATH: `${join(postgresClients, '15', 'bin')}:${here.env.PATH}` },
  }
  runAll(`psql -qd ${name} -c 'create table customers as select generate_series(1, 1000) as id'`, tools)
  const restored = `${name}_restored`
  const commands = commandsOf('docs/how-to/postgres.md')
    .replaceAll('shop_restored', restored)
    .replaceAll('postgresql://postgres@', `postgresql://${user}@`)
    .replace(/postgres\/shop\.(dump|tar|sql)/g, `postgres/${name}.$1`)
  assert.match(runAll(commands, tools), /1000/)
  runAll(`dropdb --if-exists ${restored}`, tools)
})

test('how to back up MariaDB and MySQL', async t => {
  const database = await orSkip(t, freshSqlDatabase('10.11'))
  if (!database) return
  const { host, port, user, password, name, bin } = database
  const source = { type: 'mariadb', host, port, user, password: { env: 'DBPASSWORD' }, database: name }
  const here = await setting(`${disk}jobs: { shop: { source: ${JSON.stringify(source)}, to: [disk] } }\n`)
  writeFileSync(
    join(here.folder, '.my.cnf'),
    `[client]\nhost=${host}\nport=${port}\nuser=${user}\npassword=${password}\n`,
    { mode: 0o600 },
  )
  const env = { DBHOST: host, DBPORT: String(port), DBUSER: user, DBPASSWORD: password }
  const tools = { ...here, env: { ...here.env, ...env, PATH: `${bin}:${here.env.PATH}` } }
  runAll(`mariadb -e 'create table customers as select 1000 as id' ${name}`, tools)
  const commands = commandsOf('docs/how-to/mariadb.md')
    .replaceAll(/shop_(restored|side|by_hand)/g, `${name}_$1`)
    .replaceAll('mariadb/shop.sql', `mariadb/${name}.sql`)
  assert.match(runAll(commands, tools), /^1$/m)
})

test('how to back up MongoDB', async t => {
  const database = await orSkip(t, freshMongo())
  if (!database) return
  const { host, port, user, password, name, uri, url, mongorestore } = database
  await withClient(database, client => client.db(name).collection('customers').insertOne({ id: 1000 }))
  const here = await setting(
    `${disk}jobs: { shop: { source: { type: mongodb, uri: { env: SHOP_URI } }, to: [disk] } }\n`,
  )
  const env = { DBHOST: host, DBPORT: String(port), DBUSER: user, DBPASSWORD: password, DBAUTH: 'test' }
  const path = `${dirname(mongorestore)}:${here.env.PATH}`
  const tools = { ...here, env: { ...here.env, ...env, SHOP_URI: url, DBURI: uri, PATH: path } }
  const commands = commandsOf('docs/how-to/mongodb.md')
    .replaceAll(/shop_(restored|side|by_hand)/g, `${name}_$1`)
    .replaceAll('mongodb/shop.archive', `mongodb/${name}.archive`)
    .replaceAll("'shop.*'", `'${name}.*'`)
  runAll(commands, tools)
  const before = await contents(database)
  for (const part of ['restored', 'side', 'by_hand'])
    assert.deepEqual(await contents({ ...database, name: `${name}_${part}` }), before)
})

test('how to back up SQLite', async () => {
  const here = await setting(
    `${disk}jobs: { wiki: { source: { type: sqlite, path: FOLDER/wiki.db }, to: [disk] } }\n`,
  )
  runAll("sqlite3 wiki.db 'create table pages as select 1'", here)
  assert.match(runAll(commandsOf('docs/how-to/sqlite.md'), here), /^1$/m)
})

test('how to back up files', async () => {
  const here = await setting(disk + uploads.replace('STORE', 'disk'))
  someFiles(here.folder)
  assert.match(runAll(commandsOf('docs/how-to/files.md'), here), /a file/)
})

test('how to write jobs: several sources, hooks, another name', async () => {
  const here = await setting(null)
  const page = readFileSync(join(root, 'docs/how-to/jobs.md'), 'utf8')
  const config = /```yaml\n([\s\S]*?)```/.exec(page)?.[1] ?? ''
  const files = ['maintenance-on', 'maintenance-off', 'call-for-help']
  mkdirSync(join(here.folder, 'bin'))
  for (const name of files) {
    const path = join(here.folder, 'bin', name)
    writeFileSync(path, `#!/bin/sh\necho "${name} $CAIRN_JOB" >> ${here.folder}/said\n`, { mode: 0o755 })
  }
  someFiles(here.folder)
  runAll("sqlite3 shop.db 'create table orders as select 1'", here)
  writeFileSync(
    join(here.folder, 'cairn.yaml'),
    config
      .replaceAll('/usr/local/bin', join(here.folder, 'bin'))
      .replaceAll('/srv/shop', here.folder)
      .replaceAll('/var/backups/cairn', join(here.folder, 'store')),
  )
  runAll(commandsOf('docs/how-to/jobs.md'), here)
  assert.equal(readFileSync(join(here.folder, 'said'), 'utf8'), 'maintenance-on shop\nmaintenance-off shop\n')
})

test('how to run by schedule, and be told when nothing comes', async () => {
  const here = await setting(null)
  const page = readFileSync(join(root, 'docs/how-to/schedule.md'), 'utf8')
  const config = /```yaml\n([\s\S]*?)```/.exec(page)?.[1] ?? ''
  runAll("sqlite3 shop.db 'create table orders as select 1'", here)
  writeFileSync(
    join(here.folder, 'cairn.yaml'),
    config.replaceAll('/srv/shop', here.folder).replaceAll('/var/backups/cairn', join(here.folder, 'store')),
  )
  const port = await freePort()
  const said = runAll(commandsOf('docs/how-to/schedule.md').replaceAll('8080', String(port)), here)
  assert.match(said, /"ok": true/)
  assert.match(said, /shop, command, ok\n.*inspect/)
})

test('how to keep what, and for how long', async () => {
  const page = readFileSync(join(root, 'docs/how-to/retention.md'), 'utf8')
  const here = await setting(null)
  runAll("sqlite3 shop.db 'create table orders as select 1'", here)
  const stores = ['disk', 'offsite'].map(name => `${name}: { type: local, path: ${here.folder}/${name} }`)
  const config = (/```yaml\n([\s\S]*?)```/.exec(page)?.[1] ?? '').replaceAll('/srv', here.folder)
  writeFileSync(join(here.folder, 'cairn.yaml'), `stores: { ${stores.join(', ')} }\n${config}`)
  runAll('cairn backup && cairn backup && cairn backup && cairn backup', here)
  assert.match(runAll(commandsOf('docs/how-to/retention.md'), here), /daily 7: the newest of|last 3/)
})

test('how to store in folders', async () => {
  const page = readFileSync(join(root, 'docs/how-to/local.md'), 'utf8')
  const here = await setting(null)
  const inHere = (text: string): string =>
    text
      .replaceAll('/var/backups/cairn', join(here.folder, 'disk'))
      .replaceAll('/mnt/nas', join(here.folder, 'nas'))
      .replaceAll('/srv', here.folder)
  someFiles(here.folder)
  writeFileSync(join(here.folder, 'cairn.yaml'), inHere(/```yaml\n([\s\S]*?)```/.exec(page)?.[1] ?? ''))
  assert.match(runAll(inHere(commandsOf('docs/how-to/local.md')), here), /uploads/)
})

test('how to store in S3', async (t: TestContext) => {
  const bucket = await orSkip(t, freshBucket({ lock: true }))
  if (!bucket) return
  const store = `{ type: s3, bucket: ${bucket.bucket}, prefix: cairn, endpoint: "${bucket.endpoint}", region: ${bucket.region}, lock: { mode: governance, for: 1 days } }`
  const config = `stores: { offsite: ${store} }\n${uploads.replace('STORE', 'offsite')}`
  const keys = {
    AWS_ACCESS_KEY_ID: bucket.accessKey,
    AWS_SECRET_ACCESS_KEY: bucket.secretKey,
    AWS_REGION: bucket.region,
  }
  const here = await setting(config, { ...keys, BUCKET: bucket.bucket, ENDPOINT: bucket.endpoint })
  someFiles(here.folder)
  assert.match(runAll(commandsOf('docs/how-to/s3.md'), here), /uploads/)
})

test('how to store with rclone', async () => {
  const config = `stores: { drive: { type: rclone, remote: "here:FOLDER/remote" } }\n${uploads.replace('STORE', 'drive')}`
  const here = await setting(config, { RCLONE_CONFIG_HERE_TYPE: 'alias', RCLONE_CONFIG_HERE_REMOTE: '/' })
  someFiles(here.folder)
  runAll(commandsOf('docs/how-to/rclone.md'), here)
})

test('how to store in Azure with rclone', async t => {
  const place = await orSkip(t, freshContainer())
  if (!place) return
  const page = readFileSync(join(root, 'docs/how-to/rclone.md'), 'utf8')
  const stores = /^```yaml\n(stores:\n {2}azure:[\s\S]*?)^```/m.exec(page)?.[1] ?? assert.fail('no store')
  const config = stores
    .replace('azure:backups', `azure:${place.container}`)
    .replace('myaccount', place.account)
    .replace('/run/secrets/azure-key', 'FOLDER/key')
  const env = { https_proxy: place.proxy, RCLONE_CA_CERT: place.caFile }
  const here = await setting(`${config}${uploads.replace('STORE', 'azure')}`, env)
  writeFileSync(join(here.folder, 'key'), place.key, { mode: 0o600 })
  someFiles(here.folder)
  runAll(commandsOf('docs/how-to/rclone.md').replaceAll('drive', 'azure'), here)
  assert.equal(readFileSync(join(here.folder, 'restored/uploads/a file'), 'utf8'), 'content')
})

test('how to encrypt', async () => {
  const here = await setting(null)
  someFiles(here.folder)
  assert.match(runAll(commandsOf('docs/how-to/encryption.md'), here), /a file/)
  for (const way of ['age', 'ssh', 'gpg', 'gpg-key', 'aespipe'])
    assert.equal(readFileSync(join(here.folder, `from-${way}`, 'uploads', 'a file'), 'utf8'), 'content')
})

test('from Moonflower to Cairn', async t => {
  const bucket = await orSkip(t, freshBucket())
  const database = await orSkip(t, freshDatabase(15))
  if (!bucket || !database) return
  const here = await setting(null, { CAIRN_POSTGRES_CLIENTS: postgresClients })
  await filled(database, here)
  const commands = commandsOf('docs/how-to/from-moonflower.md')
  const restored = runAll(overwritten(commands, database, bucket), here)
  assert.match(restored, /restored/)
})

test('from postgresql-backup-rclone to Cairn', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  const here = await setting(null, { CAIRN_POSTGRES_CLIENTS: postgresClients })
  await filled(database, here)
  const commands = commandsOf('docs/how-to/from-db-backup-rclone.md').replaceAll('/mnt', here.folder)
  assert.match(runAll(overwritten(commands, database), here), /restored/)
})

test('from the pg_dump container with aespipe to Cairn', async t => {
  const bucket = await orSkip(t, freshBucket({ lock: true }))
  const database = await orSkip(t, freshDatabase(15))
  if (!bucket || !database) return
  const keys = { AWS_ACCESS_KEY_ID: bucket.accessKey, AWS_SECRET_ACCESS_KEY: bucket.secretKey }
  const files = { AWS_ENDPOINT_URL: bucket.endpoint, CAIRN_POSTGRES_CLIENTS: postgresClients }
  const here = await setting(null, { ...keys, ...files })
  const { host, port, user, password } = database
  writeFileSync(join(here.folder, '.pgpass'), `${host}:${port}:*:${user}:${password}\n`, { mode: 0o600 })
  writeFileSync(join(here.folder, 'encrypt.key'), 'k'.repeat(40), { mode: 0o600 })
  await filled(database, here)
  const mounted = {
    PGPASSFILE: join(here.folder, '.pgpass'),
    ENCRYPT_KEY_FILE: join(here.folder, 'encrypt.key'),
  }
  const commands = overwritten(commandsOf('docs/how-to/from-pgdump-s3.md'), database, bucket)
  assert.match(runAll(commands, { ...here, env: { ...here.env, ...mounted } }), /restored/)
})

test('from the backup sidecar to Cairn', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  const here = await setting(null, { CAIRN_POSTGRES_CLIENTS: postgresClients })
  await filled(database, here)
  mkdirSync(join(here.folder, 'data/uploads'), { recursive: true })
  writeFileSync(join(here.folder, 'data/uploads/a file'), 'content')
  runAll("sqlite3 data/app.db 'create table pages as select 1'", here)
  const page = commandsOf('docs/how-to/from-backup-sidecar.md')
  const commands = page
    .replaceAll('/backups-local', join(here.folder, 'backups'))
    .replaceAll('=/data', `=${here.folder}/data`)
  assert.match(runAll(overwritten(commands, database), here), /restored/)
})

/** What stands in the pages, with a server and a bucket that are there. */
function overwritten(commands: string, database: FreshDatabase, bucket?: FreshBucket): string {
  const { host, port, user, password, name } = database
  const there = commands
    .replaceAll(
      'postgresql://postgres:toor@db.example:5432/shop',
      `postgresql://${user}:${password}@${host}:${port}/${name}`,
    )
    .replaceAll('db.example', host)
    .replaceAll('PORT=5432', `PORT=${port}`)
    .replaceAll('USER=postgres', `USER=${user}`)
    .replaceAll('=toor', `=${password}`)
    .replaceAll(/(PG_DATABASES="|BACKUP_DATABASES=|PG_DB=)shop/g, `$1${name}`)
  if (!bucket) return there
  return there
    .replaceAll('https://s3.example', bucket.endpoint)
    .replaceAll('eu-central-1', bucket.region)
    .replaceAll('BUCKET=backups', `BUCKET=${bucket.bucket}`)
    .replaceAll('ACCESS_KEY=key', `ACCESS_KEY=${bucket.accessKey}`)
    .replaceAll('SECRET_KEY=secret', `SECRET_KEY=${bucket.secretKey}`)
}

async function filled(database: FreshDatabase, here: Setting): Promise<void> {
  const psql = join(postgresClients, '15', 'bin', 'psql')
  runAll(
    `${psql} -q -d '${database.url}' -c 'create table customers as select generate_series(1, 1000) as id'`,
    here,
  )
}
