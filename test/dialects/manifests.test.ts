// budget: 120 s
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, readdirSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { type FreshDatabase, freshFolder, freshServer, goPrograms, orSkip } from '../services/index.ts'
import { canRunPods, containerOf, runPod } from '../support/pod/index.ts'
import { currentRclone, placeFor } from '../support/pod/worlds.ts'
import { sql } from '../support/postgres/hostile.ts'
import { fillShop, sh, shopDigest } from './support.ts'

/** What users of the rclone images have: it runs as it stands, but for the image. */
const folders = [join(import.meta.dirname, '../fixtures/kubernetes'), process.env.CAIRN_MANIFESTS ?? '']
const files = folders
  .filter(Boolean)
  .flatMap(folder => readdirSync(folder).map(name => join(folder, name)))
  .filter(file => file.endsWith('.yaml'))

const password = 'lönely "pass\\word\' $HOME'

suite('manifests of users of the rclone images', () => {
  for (const file of files) {
    const name = file.split('/').slice(-2).join('/')

    test(`${name} is what the API of Kubernetes knows`, t => {
      const program = join(goPrograms, 'check-kubernetes')
      if (!existsSync(program)) return t.skip('there is no Go here to build the check with')
      const said = execFileSync(program, { input: readFileSync(file), encoding: 'utf8' })
      assert.match(said, /^CronJob /)
    })

    test(`${name} runs as it stands, and public tools restore what it leaves`, async t => {
      if (!canRunPods(t)) return
      const yaml = readFileSync(file, 'utf8')
      const { env } = containerOf(yaml, () => '')
      const rclone = currentRclone(env)
      if (rclone === null) return t.skip('no current rclone that knows such a store')
      const server = await orSkip(t, server15())
      const place = await orSkip(t, placeFor(t, env))
      if (!server || !place) return
      const database = await databaseOf(server, env)
      const keys = await sshKey()
      const secretOf = (secret: string, key: string): string =>
        key === 'password' ? password : key.endsWith('.pub') ? keys.public : (place.secret(secret, key) ?? '')
      const container = containerOf(yaml, secretOf)
      const mounted = ['key', 'known_hosts', 'id_ed25519.pub']
      const secrets = Object.fromEntries(
        Object.values(container.secretsAt).map(secret => [
          secret,
          Object.fromEntries(mounted.map(key => [key, secretOf(secret, key)])),
        ]),
      )
      const before = await place.files()
      const { code, output } = await runPod(container, {
        ...place.world,
        hosts: [...place.world.hosts, { name: env.PGHOST ?? '', port: 5432, to: { port: server.port } }],
        secrets,
        env: {
          ...{ CAIRN_DIALECT: 'rclone', CAIRN_ENGINE: 'postgres' },
          // What Kubernetes says of the services of a namespace.
          ...{ KUBERNETES_SERVICE_HOST: '10.0.0.1', BACKUP_PORT: 'tcp://10.0.0.7:80' },
          PATH: `${await folderOf(rclone)}:${process.env.PATH}`,
          ...place.world.env,
        },
      })
      assert.equal(code, 0, output)
      // Neither of the words by which who may only write is refused the rest.
      assert.doesNotMatch(output, /warning:/)
      assert.ok(!output.includes(password))
      const dumps = [...(await place.files())].filter(([key]) => isDump(key) && !before.has(key))
      const [[key, bytes] = ['', Buffer.alloc(0)], second] = dumps
      assert.equal(second, undefined, `more than one of ${key}`)
      assert.equal(key.endsWith('.age'), env.ENCRYPT_RECIPIENTS_FILE !== undefined, key)
      if (env.BACKUP_FILE_NAME?.startsWith('%Y/%m/')) assert.match(key, /(^|\/)\d{4}\/\d\d\/[^/]+$/)
      const target = await emptied(server, `${database.name}_back`)
      const unpacked = key.endsWith('.age') ? `age -d -i ${keys.private} | gunzip` : 'gunzip'
      sh(`${unpacked} | psql -XqAt -v ON_ERROR_STOP=1 -o /dev/null "$TO"`, bytes, { TO: target.url })
      assert.equal(await shopDigest(target), await shopDigest(database))
    })
  }
})

function isDump(key: string): boolean {
  return /\.sql\.gz(\.age)?$/.test(key)
}

/** For PATH. */
async function folderOf(rclone: string): Promise<string> {
  const folder = await freshFolder()
  chmodSync(folder, 0o755)
  symlinkSync(rclone, join(folder, 'rclone'))
  return folder
}

type Server = Awaited<ReturnType<typeof freshServer>>
let started: Promise<Server> | undefined

/** A server that no other test touches: the manifests say what its databases and users are called. */
function server15(): Promise<Server> {
  started ??= freshServer(15)
  return started
}

/** The database that a manifest names, owned by the user that it names. */
async function databaseOf(server: Server, env: Readonly<Record<string, string>>): Promise<FreshDatabase> {
  const [name = '', user = ''] = [env.BACKUP_DATABASES, env.PGUSER]
  const exists = await sql(admin(server), `SELECT FROM pg_roles WHERE rolname = '${user}'`)
  if (exists.length === 0)
    await sql(admin(server), `CREATE ROLE ${user} LOGIN PASSWORD '${password.replaceAll("'", "''")}'`)
  const database = await emptied(server, name)
  await fillShop(database)
  await sql(database, `GRANT pg_read_all_data TO ${user}`)
  return database
}

async function emptied(server: Server, name: string): Promise<FreshDatabase> {
  await sql(
    admin(server),
    `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`,
    `CREATE DATABASE ${name} TEMPLATE template0`,
  )
  return { ...admin(server), name, url: admin(server).url.replace(/postgres$/, name) }
}

function admin(server: Server): FreshDatabase {
  const { user, password: secret, host, port } = server
  const url = `postgresql://${user}:${secret}@${host}:${port}/postgres`
  return { ...server, name: 'postgres', url, drop: async () => {} }
}

async function sshKey(): Promise<{ private: string; public: string }> {
  const path = join(await freshFolder(), 'id_ed25519')
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'keeper of shops', '-f', path])
  return { private: path, public: readFileSync(`${path}.pub`, 'utf8') }
}
