// budget: 420 s
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, chownSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { parse } from 'yaml'
import { commandLine } from '../src/cli/index.ts'
import { freshFolder, orSkip, service } from './services/index.ts'
import { run } from './services/process.ts'
import { filesIn } from './support/cli.ts'
import { type Engine, engineOf } from './support/containers.ts'
import { eventually } from './support/eventually.ts'

/** The image as users run it, built on base images of this machine with Debian's own programs. The build takes a minute where nothing is cached. */
const root = resolve(import.meta.dirname, '..')
const image = 'cairn:test'
const server = 'cairn-test-server'
let engine: Engine | undefined

async function built(t: TestContext): Promise<Engine | undefined> {
  const facts = await orSkip(t, service('docker'))
  if (!facts || engine) return engine
  const own = engineOf(facts)
  const args = ['PG_MAJORS=debian', 'RCLONE=debian'].flatMap(arg => ['--build-arg', arg])
  await own.docker('build', '-q', '-f', join(root, 'images/Dockerfile'), ...args, '-t', image, root)
  const lines = [
    `FROM ${facts.debian}`,
    'RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-15 sqlite3',
    'USER postgres',
    'ENV PATH=/usr/lib/postgresql/15/bin:$PATH',
    "RUN initdb -A trust -D /var/lib/postgresql/data >/dev/null && echo 'host all all all trust' >> /var/lib/postgresql/data/pg_hba.conf",
    'HEALTHCHECK --interval=300ms --retries=100 CMD pg_isready -q',
    `CMD ["postgres", "-D", "/var/lib/postgresql/data", "-c", "listen_addresses=*"]`,
  ]
  const folder = await freshFolder()
  writeFileSync(join(folder, 'Dockerfile'), `${lines.join('\n')}\n`)
  await own.docker('build', '-q', '-t', server, folder)
  engine = own
  return own
}

interface Baked {
  readonly target: Record<string, { tags: string[]; platforms?: string[]; args: Record<string, string> }>
}

interface Tried {
  readonly code: number
  readonly said: string
}

/** `docker run --rm` with these, to its end. */
async function tried(own: Engine, ...args: string[]): Promise<Tried> {
  const name = `run-${randomBytes(4).toString('hex')}`
  await own.docker('create', '--name', name, ...args)
  try {
    await own.docker('start', name)
    const code = Number(await own.docker('wait', name))
    return { code, said: logs(own, name) }
  } finally {
    await own.docker('rm', '-fv', name)
  }
}

/** Both streams, in one. */
function logs(own: Engine, name: string): string {
  const program = join(own.env.DOCKER_CONFIG ?? '', '../bin/docker')
  const { stdout, stderr } = spawnSync(program, ['logs', name], { env: own.env, encoding: 'utf8' })
  return stderr + stdout
}

/** A folder with a configuration that backs up what is in it, all of it for everybody to read. */
async function configured(): Promise<{ folder: string; mounts: string[] }> {
  const folder = await freshFolder()
  chmodSync(folder, 0o755)
  for (const name of ['data', 'backups', 'out']) mkdirSync(join(folder, name))
  for (const name of ['backups', 'out']) chownSync(join(folder, name), 1001, 1001)
  writeFileSync(join(folder, 'data/file'), 'content')
  const config = {
    stores: { disk: { type: 'local', path: '/backups' } },
    jobs: { data: { source: { type: 'files', paths: ['/data'] }, to: ['disk'] } },
  }
  writeFileSync(join(folder, 'cairn.yaml'), JSON.stringify(config))
  const mount = (name: string, at: string): string[] => ['-v', `${join(folder, name)}:${at}`]
  const mounts = [
    ...mount('cairn.yaml', '/etc/cairn/cairn.yaml:ro'),
    ...mount('data', '/data:ro'),
    ...mount('backups', '/backups'),
    ...mount('out', '/out'),
  ]
  return { folder, mounts }
}

test('the image builds from an empty cache within minutes', { timeout: 400_000 }, async t => {
  const own = await built(t)
  if (own) assert.match(await own.docker('image', 'ls', '-q', image), /^[0-9a-f]{12}\n$/)
})

test('started as root it runs as user 1001, lists and restores, and what it needs is in it', async t => {
  const own = await built(t)
  if (!own) return
  const { folder, mounts } = await configured()
  assert.deepEqual((await tried(own, ...mounts, image)).code, 0)
  assert.equal(statSync(join(folder, 'backups/.cairn')).uid, 1001)
  const listed = await tried(own, ...mounts, image, 'list')
  assert.match(listed.said, /data/)
  assert.equal((await tried(own, ...mounts, image, 'restore', 'latest', '--to', '/out/new')).code, 0)
  assert.equal(readFileSync(join(folder, 'out/new/data/file'), 'utf8'), 'content')
  const programs = 'pg_dump mariadb-dump rclone gpg age zstd igzip aespipe tini setpriv'
  const look = `id -un; for each in ${programs}; do command -v $each; done; TZ=Asia/Tokyo date +%z`
  const there = (await tried(own, image, 'sh', '-c', look)).said.trim().split('\n')
  assert.equal(there.length, programs.split(' ').length + 2, there.join(' '))
  assert.deepEqual([there[0], there.at(-1)], ['dbbackup', '+0900'])
})

test('started as 1001 or as a stranger, with a read-only root and nothing to write to but /tmp', async t => {
  const own = await built(t)
  if (!own) return
  for (const user of [1001, 4711]) {
    const { folder, mounts } = await configured()
    for (const name of ['backups', 'out']) chownSync(join(folder, name), user, user)
    const strict = ['--cap-drop', 'ALL', '--security-opt', 'no-new-privileges']
    const bare = ['--user', `${user}:${user}`, '--read-only', '--tmpfs', '/tmp', ...strict, ...mounts, image]
    const backup = await tried(own, ...bare)
    assert.equal(backup.code, 0, backup.said)
    const restore = await tried(own, ...bare, 'restore', 'latest', '--to', '/out/new')
    assert.equal(restore.code, 0, restore.said)
    assert.equal(readFileSync(join(folder, 'out/new/data/file'), 'utf8'), 'content')
  }
})

test('it stays root where the user cannot read what it is told to, where CAIRN_USER says so, and as sidecar', async t => {
  const own = await built(t)
  if (!own) return
  const { folder, mounts } = await configured()
  const id = ['sh', '-c', 'id -u']
  chmodSync(join(folder, 'cairn.yaml'), 0o600)
  const closed = await tried(own, ...mounts, image, ...id)
  assert.match(closed.said, /running as root, because user 1001 cannot read \/etc\/cairn\/cairn\.yaml\n0\n/)
  for (const env of ['CAIRN_USER=0', 'BACKUP_NAME=app', 'CAIRN_DIALECT=sidecar'])
    assert.equal((await tried(own, '-e', env, image, ...id)).said, '0\n', env)
  assert.equal((await tried(own, '-e', 'CAIRN_USER=4711', image, ...id)).said, '4711\n')
})

test('what follows the name of the image: a command, options for the dump program, a program, or words that mean nothing', async t => {
  const own = await built(t)
  if (!own) return
  const script = readFileSync(join(root, 'images/scripts/entrypoint'), 'utf8').replaceAll(/\\\n\s*/g, '')
  const words = /^ {4}(init \|.*)\) set/m.exec(script)?.[1]?.split(' | ') ?? []
  const commands = commandLine(() => {}).commands.map(command => command.name())
  assert.deepEqual(
    commands.filter(name => !words.includes(name)),
    [],
    'commands that the entry point does not know',
  )
  const rclone = ['-e', 'CAIRN_DIALECT=rclone']
  const dumped = await tried(own, ...rclone, '-e', 'BACKUP_DATABASES=a', image, '--host=nowhere')
  assert.equal(dumped.code, 2)
  assert.match(dumped.said, /dialect rclone|environment/)
  const ignored = await tried(own, image, 'start', 'it')
  assert.match(ignored.said, /warning: ignored: start it\n/)
  const typed =
    'crontab -l; aws s3 ls s3://x; docker ps; echo test | gpg --symmetric --batch --passphrase x | wc -c'
  const instead = await tried(own, '-e', 'BACKUP_SCHEDULE=0 2 * * *', image, 'sh', '-c', typed)
  assert.match(instead.said, /"cairn status"[\s\S]*"cairn list"[\s\S]*"cairn doctor" tries the socket/)
  assert.match(instead.said, /0 2 \* \* \* cairn backup\n\d\d+\n$/)
  for (const path of ['/backup.sh', '/entrypoint']) {
    const ran = await tried(own, '--entrypoint', path, image)
    assert.equal(ran.code, 2)
    assert.match(ran.said, /there is no configuration/)
  }
})

test('half a configuration of the sidecar waits, and a mounted scratch folder is where it puts its copies', async t => {
  const own = await built(t)
  if (!own) return
  const name = `half-${randomBytes(4).toString('hex')}`
  await own.docker('run', '-d', '--name', name, '-e', 'BACKUP_NAME=app', image)
  t.after(() => own.docker('rm', '-fv', name))
  await eventually('it says what is missing', () =>
    /BACKUP_LOCAL_PATH: expected[\s\S]*waiting to be stopped/.test(logs(own, name)),
  )
  await own.docker('stop', '-t', '60', name)
  assert.equal(await own.docker('inspect', '-f', '{{.State.ExitCode}}', name), '143\n')
  const env = ['BACKUP_NAME=app', 'BACKUP_LOCAL_PATH=/tmp/b', 'BACKUP_FILES=/opt/cairn/package-lock.json']
  const small = ['--tmpfs', '/scratch:size=64k', ...env.flatMap(each => ['-e', each]), image, 'backup']
  const full = await tried(own, ...small)
  assert.equal(full.code, 1, full.said)
  assert.match(full.said, /\/scratch\/|No space left/)
  assert.equal((await tried(own, '-e', 'CAIRN_SPOOL=/tmp', ...small)).code, 0)
})

test('the images of the rclone dialect are known by it', async t => {
  const own = await built(t)
  if (!own) return
  const bake = async (env: Record<string, string>, ...targets: string[]) => {
    const program = join(own.env.DOCKER_CONFIG ?? '', '../bin/docker')
    const args = ['buildx', 'bake', '--print', ...targets]
    return (JSON.parse(await run(program, args, { env: { ...own.env, ...env }, cwd: root })) as Baked).target
  }
  const target = await bake({})
  assert.deepEqual(Object.keys(await bake({ PROD: 'false' }, 'mariadb')), ['mariadb'])
  assert.equal((await bake({ PROD: 'false' }, 'mariadb')).mariadb?.platforms, undefined)
  const published = await bake({ PROD: 'true', DBBR_REGISTRY: 'ghcr.io/gatenlp/' })
  assert.deepEqual(published.postgresql?.platforms, ['linux/amd64', 'linux/arm64'])
  assert.ok(published.postgresql?.tags.includes('ghcr.io/gatenlp/postgresql-backup-rclone:latest'))
  assert.deepEqual(Object.keys(target).sort(), ['cairn', 'mariadb', 'postgresql'])
  assert.deepEqual(target.cairn?.tags, ['cairn:latest'])
  assert.ok(target.mariadb?.tags.includes(`mariadb-backup-rclone:rclone-v${target.mariadb.args.RCLONE}`))
  assert.equal(target.cairn?.platforms, undefined)
})

test('how to run it in a compose project: PostgreSQL, an app that writes SQLite, and Cairn', async t => {
  const own = await built(t)
  if (!own) return
  const folder = await freshFolder()
  chmodSync(folder, 0o755)
  const page = readFileSync(join(root, 'docs/how-to/containers.md'), 'utf8')
  const [compose = '', config = ''] = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(
    match => match[1] ?? '',
  )
  writeFileSync(join(folder, 'cairn.yaml'), config)
  writeFileSync(join(folder, 'db.password'), 'secret')
  const socket = own.env.DOCKER_HOST?.slice('unix://'.length)
  const { services, ...more } = parse(compose.replace(/\/var\/run\/docker\.sock(?=:)/, String(socket)))
  const ready = { interval: '300ms', retries: 100 }
  Object.assign(services.db, { image: server, environment: {} })
  Object.assign(services.app, { image: server, user: '0', command: ['sh', '-c', writing] })
  Object.assign(services.app, { healthcheck: { test: 'test -e /data/state', ...ready } })
  Object.assign(services.backup, { image, healthcheck: { interval: '500ms' } })
  const project = await own.compose(folder, services, more)
  t.after(() => project.do('down', '-v', '-t', '0'))
  await project.do('up', '-d', '--wait', 'db', 'app')
  const sql = (database: string, text: string): Promise<string> =>
    project.do('exec', '-T', 'db', 'psql', '-At', database, '-c', text)
  await sql('postgres', 'create database shop')
  await sql('shop', 'create table customers as select generate_series(1, 1000) as id')
  const filters = ['event=die', 'event=start', `container=${project.container('app')}`]
  using events = own.events(...filters.flatMap(filter => ['-f', filter]), '--format', '{{.Action}}')
  const commands = /```sh\n([\s\S]*?)```/.exec(page)?.[1] ?? ''
  const env = { ...own.env, PATH: `${join(own.env.DOCKER_CONFIG ?? '', '../bin')}:${process.env.PATH}` }
  const ran = spawnSync('bash', ['-euxc', commands], { cwd: folder, env, encoding: 'utf8' })
  assert.equal(ran.status, 0, ran.stdout + ran.stderr)
  assert.match(ran.stdout, / wiki /)
  await eventually('its start is told', () => events.lines().includes('start'))
  assert.deepEqual(events.lines(), ['die', 'start'])
  assert.equal(await sql('shop_restored', 'select count(*) from customers'), '1000\n')
  // The app had ended, and with it what SQLite keeps beside its database.
  assert.deepEqual(filesIn(join(folder, 'restored')), ['data/state', 'data/wiki.db'])
  using wiki = new DatabaseSync(join(folder, 'restored/data/wiki.db'))
  assert.deepEqual({ ...wiki.prepare('pragma integrity_check').get() }, { integrity_check: 'ok' })
  assert.ok(Number(wiki.prepare('select count(*) as pages from page').get()?.pages) > 0)
})

const writing = [
  'q() { sqlite3 /data/wiki.db "pragma busy_timeout=30000; $$1" >/dev/null; }',
  'q "pragma journal_mode=wal; create table if not exists page (n)"',
  'trap "exit 0" TERM',
  'while :; do q "insert into page values (1)"; echo running > /data/state; sleep 0.05; done',
].join('\n')

test('README: Cairn in a compose project, and what users of the sidecar do there: by hand and by schedule, with the app stopped', async t => {
  const own = await built(t)
  if (!own) return
  const folder = await freshFolder()
  mkdirSync(join(folder, 'backups'))
  const socket = own.env.DOCKER_HOST?.slice('unix://'.length)
  const ready = { interval: '300ms', retries: 100 }
  const page = readFileSync(join(root, 'README.md'), 'utf8')
  const [, compose = '', commands = ''] =
    /```yaml\n(services:[\s\S]*?)```\n\n```sh\n([\s\S]*?)```/.exec(page) ?? []
  const { services, volumes } = parse(compose.replace(/\/var\/run\/docker\.sock(?=:)/, String(socket)))
  const waits = { BACKUP_STOP_WAIT: '0', BACKUP_START_WAIT: '0', TZ: 'America/New_York' }
  Object.assign(services.db, { image: server, healthcheck: ready })
  Object.assign(services.app, { image: server, user: '0', command: ['sh', '-c', writing] })
  Object.assign(services.app, { healthcheck: { test: 'test -e /data/state', ...ready } })
  Object.assign(services.backup, { image, healthcheck: { interval: '500ms' } })
  const environment = Object.assign(services.backup.environment, waits)
  const project = await own.compose(folder, services, { volumes })
  t.after(() => project.do('down', '-v', '-t', '0'))
  await project.do('up', '-d', '--wait')
  const sql = (text: string): Promise<string> => project.do('exec', '-T', 'db', 'psql', '-Atc', text)
  const inBackup = (...args: string[]): Promise<string> => project.do('exec', '-T', 'backup', ...args)
  const archives = (): string[] => filesIn(join(folder, 'backups/shop')).filter(each => /^shop-/.test(each))
  const started = (): Promise<string> =>
    own.docker('inspect', '-f', '{{.State.StartedAt}}', project.container('app'))
  await sql('create table customers as select generate_series(1, 1000) as id')
  const env = { ...own.env, PATH: `${join(own.env.DOCKER_CONFIG ?? '', '../bin')}:${process.env.PATH}` }
  const ran = spawnSync('bash', ['-euxc', commands], { cwd: folder, env, encoding: 'utf8' })
  assert.equal(ran.status, 0, ran.stdout + ran.stderr)
  assert.equal(await sql('select count(*) from customers'), '1000\n')
  let before = await started()
  // The server of the database that is read, or restored into, goes on.
  const both = ['exec', '-T', '-e', 'BACKUP_STOP_SERVICES=app, db', 'backup']
  const dbStarted = (): Promise<string> =>
    own.docker('inspect', '-f', '{{.State.StartedAt}}', project.container('db'))
  const dbBefore = await dbStarted()
  await project.do(...both, '/backup-scripts/backup-now.sh')
  assert.notEqual(await started(), before)
  const archive = archives().at(-1) ?? ''
  const [, time = ''] = /^shop-(\d{4}-\d\d-\d\d-\d{6})\.tar\.gz\.gpg$/.exec(archive) ?? []
  assert.match(await inBackup('/backup-scripts/list-backups.sh'), /shop/)
  await assert.rejects(inBackup('/backup-scripts/restore.sh'), /usage: .*restore\.sh YYYY-MM-DD-HHMMSS/)

  await sql('drop table customers')
  await inBackup('sh', '-c', 'rm /data/wiki.db; echo lost > /data/state')
  before = await started()
  const asked = performance.now()
  await project.do(...both, '/backup-scripts/restore.sh', time)
  assert.ok(performance.now() - asked >= 10_000, 'there are ten seconds to cancel')
  assert.equal(await sql('select count(*) from customers'), '1000\n')
  assert.notEqual(await started(), before)
  const pages =
    'sqlite3 -cmd ".timeout 30000" /data/wiki.db "pragma integrity_check; select count(*) > 0 from page"'
  assert.equal(await project.do('exec', '-T', 'app', 'sh', '-c', pages), 'ok\n1\n')
  const log = await inBackup('cat', '/var/log/backup.log')
  assert.match(log, /Z backed up sidecar.*: /)
  assert.match(log, /-db-1 is not stopped: the database at \S+:5432 runs in it, and is read/)
  assert.match(log, /-db-1 is not stopped: the database at \S+:5432 runs in it, and is restored into/)
  assert.equal(await dbStarted(), dbBefore)
  assert.match(logs(own, project.container('backup')), /Z backed up sidecar.*: /)

  Object.assign(environment, { BACKUP_SCHEDULE: '*/5 * * * * *' })
  const file = { name: project.name, services, volumes }
  writeFileSync(join(folder, 'compose.yaml'), JSON.stringify(file))
  await project.do('up', '-d', '--wait', 'backup')
  await eventually('a scheduled archive', () => archives().length > 2)
})
