// budget: 300 s
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { generateIdentity } from '../../src/stages/index.ts'
import {
  type FreshBucket,
  type FreshDatabase,
  freshBucket,
  freshDatabase,
  orSkip,
  service,
} from '../services/index.ts'
import {
  filesIn,
  type Machine,
  machine,
  ProcessWatch,
  type Ran,
  randomFiles,
  sqliteFile,
} from '../support/cli.ts'
import { rawClient } from '../support/s3-bucket.ts'

type Way = 'value' | 'plain' | 'env' | 'file' | 'command'

/** The places a host's secrets are taken from, and the secrets. */
class Vault {
  readonly secrets: string[] = []
  readonly env: Record<string, string> = {}
  readonly #host: Machine
  readonly #way: Way

  constructor(host: Machine, way: Way) {
    this.#host = host
    this.#way = way
  }

  /** How the configuration says the secret. */
  say(name: string, secret: string): unknown {
    this.secrets.push(secret)
    const path = this.#host.path(`${name}.secret`)
    if (this.#way === 'plain') return secret
    if (this.#way === 'value') return { value: secret }
    if (this.#way === 'env') {
      this.env[name] = secret
      return { env: name }
    }
    writeFileSync(path, `${secret}\n`, { mode: 0o600 })
    return this.#way === 'file' ? { file: path } : { command: ['cat', path] }
  }
}

interface Services {
  readonly database: FreshDatabase
  readonly bucket: FreshBucket
  readonly webdav: Awaited<ReturnType<typeof service<'webdav'>>>
}

async function allServices(t: TestContext): Promise<Services | undefined> {
  const database = await orSkip(t, freshDatabase(15))
  const bucket = database && (await orSkip(t, freshBucket()))
  const webdav = bucket && (await orSkip(t, service('webdav')))
  return database && bucket && webdav && { database, bucket, webdav }
}

/** Every kind of source and store that takes a secret, in one configuration. */
async function furnished(
  way: Way,
  { database, bucket, webdav }: Services,
): Promise<{ host: Machine; vault: Vault }> {
  const host = machine()
  const vault = new Vault(host, way)
  const { recipient, identity } = await generateIdentity()
  const obscured = execFileSync('rclone', ['obscure', '-'], { input: webdav.password }).toString().trim()
  vault.secrets.push(webdav.password)
  const { host: address, port, user, name, password } = database
  host.configure({
    stores: {
      disk: { type: 'local', path: host.path('disk') },
      far: {
        type: 's3',
        bucket: bucket.bucket,
        prefix: way,
        endpoint: bucket.endpoint,
        region: bucket.region,
        accessKeyId: bucket.accessKey,
        secretAccessKey: vault.say('S3_SECRET', bucket.secretKey),
      },
      drive: {
        type: 'rclone',
        remote: `dav:${way}`,
        options: {
          type: 'webdav',
          url: webdav.url,
          vendor: 'other',
          user: webdav.user,
          pass: vault.say('DAV_PASS', obscured),
        },
      },
    },
    encryption: { age: { recipients: [recipient], identity: vault.say('AGE_KEY', identity.reveal()) } },
    defaults: { to: ['disk', 'far', 'drive'] },
    jobs: {
      shop: {
        source: {
          type: 'postgres',
          host: address,
          port,
          user,
          database: name,
          password: vault.say('PG_PASS', password),
        },
      },
      wiki: { source: { type: 'files', paths: [randomFiles(host.path('wiki'), 500_000)] } },
      app: { source: { type: 'sqlite', path: sqliteFile(host.path('app.db')) } },
    },
  })
  return { host, vault }
}

function assertSilent(ran: Ran, secrets: readonly string[], label: string): void {
  for (const secret of secrets) {
    for (const form of [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64')])
      assert.ok(
        !ran.out.includes(form) && !ran.stderr.includes(form),
        `${label} shows a secret: ${ran.stderr}${ran.out}`,
      )
  }
}

const ways: readonly Way[] = ['plain', 'value', 'env', 'file', 'command']

for (const way of ways) {
  test(`secrets given by ${way} stand in no arguments, no output, no record and no file of ours`, async t => {
    const services = await allServices(t)
    if (!services) return
    await fill(services.database.url)
    const { host, vault } = await furnished(way, services)
    const watch = new ProcessWatch(vault.secrets, host.state)
    t.after(() => watch.stop())
    const options = { env: vault.env }
    const commands = [
      ['backup', '--json', '--verbose'],
      ['verify', '--verbose', 'shop@latest'],
      ['restore', 'shop@latest', '--yes', '--verbose'],
      ...(way === 'plain' ? others(host) : []),
    ]
    for (const command of commands) {
      const ran = await host.run(command, options)
      assert.equal(ran.code, 0, `${command.join(' ')}: ${ran.stderr}`)
      assertSilent(ran, vault.secrets, command.join(' '))
    }
    const seen = ['age', 'zstd', 'pg_dump', 'rclone']
    // A busy machine may keep us from looking while a program ran; not every time.
    for (let round = 0; round < 10 && !watch.hasSeen(seen); round++) await host.ok(['backup'], options)
    const { leaks, programs, holders } = await watch.stop()
    assert.deepEqual(leaks, [])
    for (const program of seen) assert.ok(programs.includes(program), `${programs}`)
    // A program bears its starter's name, or none, until it has begun.
    const beginning = ['node', 'setpriv', 'stdbuf', '']
    const needy = [...beginning, 'cat', 'rclone', 'pg_dump', 'pg_restore', 'psql', 'pg_dumpall']
    assert.deepEqual(
      holders.filter(program => !needy.includes(program)),
      [],
    )
    assertClean(
      filesIn(host.state).map(path => readFileSync(host.path('state', path))),
      vault.secrets,
    )
    assertClean(
      filesIn(host.path('disk')).map(path => readFileSync(host.path('disk', path))),
      vault.secrets,
    )
    assertClean(await objectsOf(t, services.bucket, `${way}/`), vault.secrets)
  })
}

function others(host: Machine): string[][] {
  return [
    ['doctor', '--json'],
    ['list', '--verbose'],
    ['show', 'shop@latest', '--json'],
    ['restore', 'wiki@latest', '--to', host.path('back'), '--store', 'drive'],
    ['config', 'show'],
    ['prune', '--json'],
  ]
}

async function fill(url: string): Promise<void> {
  const { default: pg } = await import('pg')
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query('CREATE TABLE item AS SELECT i, md5(i::text) AS body FROM generate_series(1, 20000) i')
  await client.end()
}

function assertClean(files: readonly Buffer[], secrets: readonly string[]): void {
  assert.ok(files.length > 0)
  for (const file of files) for (const secret of secrets) assert.ok(!file.includes(secret))
}

async function objectsOf(t: TestContext, bucket: FreshBucket, prefix: string): Promise<Buffer[]> {
  const raw = rawClient(t, bucket)
  const { Contents = [] } = await raw.listObjectsV2({ Bucket: bucket.bucket, Prefix: prefix })
  return Promise.all(
    Contents.map(async ({ Key }) => {
      const { Body } = await raw.getObject({ Bucket: bucket.bucket, Key: Key ?? '' })
      return Buffer.from((await Body?.transformToByteArray()) ?? [])
    }),
  )
}

test('secrets do not show when what they open refuses them, with --verbose either', async t => {
  const services = await allServices(t)
  if (!services) return
  const host = machine()
  const { database, bucket, webdav } = services
  const wrong = 'S3cretThatIsWrong+/%40x'
  const jobs = {
    wiki: { source: { type: 'files', paths: [randomFiles(host.path('wiki'), 10_000)] }, to: ['far'] },
    other: { source: { type: 'files', paths: [host.path('wiki')] }, to: ['drive'] },
    shop: {
      source: { type: 'postgres', url: database.url.replace(database.password, encodeURIComponent(wrong)) },
      to: ['disk'],
    },
    host: {
      source: {
        type: 'postgres',
        host: database.host,
        port: database.port,
        database: 'none',
        user: 'me',
        password: wrong,
      },
      to: ['disk'],
    },
  }
  host.configure({
    stores: {
      disk: { type: 'local', path: host.path('disk') },
      far: {
        type: 's3',
        bucket: bucket.bucket,
        endpoint: bucket.endpoint,
        region: 'x',
        accessKeyId: bucket.accessKey,
        secretAccessKey: wrong,
      },
      drive: {
        type: 'rclone',
        remote: 'dav:',
        options: { type: 'webdav', url: webdav.url, vendor: 'other', user: 'me', pass: wrong },
      },
    },
    encryption: { age: { recipients: [(await generateIdentity()).recipient], identity: wrong } },
    jobs,
  })
  const watch = new ProcessWatch([wrong], host.state)
  t.after(() => watch.stop())
  for (const command of [
    ['backup', 'wiki', '--verbose'],
    ['backup', 'shop', '--verbose', '--json'],
    ['backup', 'host', '--verbose'],
    ['backup', 'other', '--verbose'],
    ['list', '--store', 'far', '--verbose'],
    ['verify', '--store', 'disk', '--verbose'],
  ]) {
    const ran = await host.run(command)
    assert.notEqual(ran.code, 0, command.join(' '))
    assertSilent(ran, [wrong], command.join(' '))
  }
  assert.deepEqual((await watch.stop()).leaks, [])
})
