// budget: 300 s
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { generateIdentity } from '../../src/stages/index.ts'
import {
  allGone,
  filesIn,
  type Machine,
  machine,
  ProcessWatch,
  privateFiles,
  randomFiles,
  tree,
} from '../support/cli.ts'

/** A way to encrypt: what the configuration says, and the file that opens it without the configuration. */
interface Way {
  readonly encryption: object
  readonly key: string
  /** A key of the same kind that does not fit. */
  readonly wrong: string
  readonly suffix: string
  /** Texts that must be seen nowhere. */
  readonly secrets: readonly string[]
}

const word = (): string => randomBytes(24).toString('base64url')

function put(host: Machine, name: string, text: string): string {
  writeFileSync(host.path(name), text, { mode: 0o600 })
  return host.path(name)
}

function passphrases(host: Machine) {
  const secret = word()
  const key = put(host, 'passphrase', `${secret}\n`)
  return { key, wrong: put(host, 'wrong', `${word()}\n`), secrets: [secret] }
}

/** A key pair of gpg's, armored; the secret one is protected by a passphrase if there is one. */
function gpgKey(host: Machine, name: string, passphrase = '') {
  const home = host.path(`gnupg-${name}`)
  mkdirSync(home, { mode: 0o700 })
  const run = (...args: string[]): string =>
    execFileSync(
      'gpg',
      [
        '--homedir',
        home,
        '--batch',
        '-q',
        '--pinentry-mode',
        'loopback',
        '--passphrase',
        passphrase,
        ...args,
      ],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
    )
  run('--quick-gen-key', name, 'default', 'default', 'never')
  const pair = { public: run('--armor', '--export'), secret: run('--armor', '--export-secret-keys') }
  execFileSync('gpgconf', ['--homedir', home, '--kill', 'all'])
  return pair
}

/** Lines that only the secret key has: it begins with the public one. */
function secretLines(pair: { readonly public: string; readonly secret: string }): string[] {
  const middle = pair.secret.split('\n').slice(12, 16)
  assert.ok(middle.every(line => line.length === 64 && !pair.public.includes(line)))
  return middle
}

const ways: Record<string, (host: Machine) => Way | Promise<Way>> = {
  'age, for a passphrase': host => {
    const { key, wrong, secrets } = passphrases(host)
    return { encryption: { age: { passphrase: { file: key } } }, key, wrong, suffix: '.zst.age', secrets }
  },
  'age, for an SSH key': host => {
    const [mine, other] = ['mine', 'other'].map(name => {
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'me', '-f', host.path(name)])
      return host.path(name)
    }) as [string, string]
    const recipients = [readFileSync(`${mine}.pub`, 'utf8').trim()]
    return { encryption: { age: { recipients } }, key: mine, wrong: other, suffix: '.zst.age', secrets: [] }
  },
  'gpg, for a passphrase': host => {
    const { key, wrong, secrets } = passphrases(host)
    return { encryption: { gpg: { passphrase: { file: key } } }, key, wrong, suffix: '.zst.gpg', secrets }
  },
  'gpg, for a public key': host => {
    const pair = gpgKey(host, 'mine')
    const key = put(host, 'mine.asc', pair.secret)
    const wrong = put(host, 'other.asc', gpgKey(host, 'other').secret)
    const secrets = secretLines(pair)
    return { encryption: { gpg: { recipients: [pair.public] } }, key, wrong, suffix: '.zst.gpg', secrets }
  },
  aespipe: host => {
    const lines = (): string => `${Array.from({ length: 65 }, word).join('\n')}\n`
    const text = lines()
    const key = put(host, 'encrypt.key', text)
    const encryption = { aespipe: { keyFile: key, unauthenticated: true } }
    return {
      encryption,
      key,
      wrong: put(host, 'other.key', lines()),
      suffix: '.gz.aes',
      secrets: text.split('\n').slice(0, 2),
    }
  },
}

/** A job of some files, encrypted in that way. */
async function host(way: (host: Machine) => Way | Promise<Way>): Promise<{ at: Machine; way: Way }> {
  const at = machine()
  const made = await way(at)
  randomFiles(at.path('data'), 400_000)
  writeFileSync(at.path('data', "it's odd\n"), 'a\0b')
  at.configure({
    stores: { disk: { type: 'local', path: at.path('disk') } },
    encryption: made.encryption,
    jobs: { files: { source: { type: 'files', paths: [at.path('data')] }, to: ['disk'] } },
  })
  return { at, way: made }
}

interface Shown {
  readonly encrypted: boolean
  readonly warnings: { what: string }[]
  readonly artifacts: { name: string; stages: { name: string }[]; objects: { key: string }[] }[]
  readonly commands: Record<string, string>
}

for (const [title, make] of Object.entries(ways)) {
  test(`${title}: a backup restores with the key file alone, and by the line that show prints`, async t => {
    const { at, way } = await host(make)
    const watch = new ProcessWatch(way.secrets, at.state)
    t.after(() => watch.stop())
    const said = (await at.ok(['backup'])).stderr
    assert.equal(said.includes('without authenticating'), title === 'aespipe', said)
    await at.ok(['verify'])
    const data = filesIn(at.path('disk', 'files'))
    assert.ok(data.length > 0 && data.every(name => name.endsWith(way.suffix)), `${data}`)
    const alone = ['--store', at.path('disk'), '--identity']
    const none = { env: { CAIRN_CONFIG: put(at, 'none.yaml', '') } }
    await at.ok(['restore', 'latest', '--to', at.path('back'), ...alone, way.key], none)
    assert.deepEqual(tree(at.path('back', 'data')), tree(at.path('data')))
    const wrong = await at.run(['restore', 'latest', '--to', at.path('no'), ...alone, way.wrong], none)
    assert.equal(wrong.code, 12, wrong.stderr)
    assert.deepEqual(filesIn(at.path('no')), [])
    const shown = (await at.ok(['show', 'latest', '--json', ...alone, way.key], none)).json<Shown>()
    assert.equal(shown.encrypted, true)
    assert.equal(
      shown.warnings.some(({ what }) => what.includes('without authenticating')),
      title === 'aespipe',
    )
    const [artifact] = shown.artifacts
    const command = shown.commands[artifact?.name ?? ''] ?? ''
    if (title !== 'age, for a passphrase') assert.ok(undone(at, command, artifact?.name).length > 400_000)
    const { leaks } = await watch.stop()
    assert.deepEqual(leaks, [])
    const clear = [
      ...filesIn(at.path('disk')).map(name => at.path('disk', name)),
      ...filesIn(at.state).map(name => at.path('state', name)),
    ]
    for (const path of clear)
      for (const secret of way.secrets) assert.equal(readFileSync(path).includes(secret), false, path)
    assert.deepEqual(privateFiles(at), [])
    await allGone(at)
  })
}

/** What a line of `show` makes, pasted into a shell: the archive's list. */
function undone(at: Machine, command: string, name = ''): Buffer {
  const folder = at.path('by-hand')
  mkdirSync(folder)
  const env = { PATH: process.env.PATH, HOME: at.path('home'), TMPDIR: process.env.TMPDIR }
  execFileSync('sh', ['-c', command], { cwd: folder, env, stdio: 'pipe' })
  const archive = at.path('by-hand', name.split('/').at(-1) ?? '')
  execFileSync('tar', ['-tf', archive])
  return readFileSync(archive)
}

test('without any key an encrypted backup is verified as far as its stored bytes go, and cat is exit 12', async () => {
  for (const title of ['gpg, for a passphrase', 'aespipe', 'age, for a passphrase']) {
    const { at } = await host(ways[title] as (host: Machine) => Way)
    await at.ok(['backup'])
    const none = { env: { CAIRN_CONFIG: put(at, 'none.yaml', '') } }
    const store = ['--store', at.path('disk')]
    await at.ok(['verify', ...store], none)
    const ran = await at.run(['cat', 'latest', 'census.json', ...store], none)
    assert.equal(ran.code, 12, `${title}: ${ran.stderr}`)
    assert.equal(ran.out, '')
  }
})

test('doctor encrypts a sample and reads it back, whatever opens it', async () => {
  for (const title of ['gpg, for a passphrase', 'aespipe', 'age, for a passphrase']) {
    const { at } = await host(ways[title] as (host: Machine) => Way)
    assert.match((await at.ok(['doctor'])).out, /ok {4}keys for files: /, title)
  }
})

test('damage wins over the key: a changed object is exit 20, however it is encrypted', async () => {
  for (const title of ['gpg, for a passphrase', 'gpg, for a public key', 'aespipe']) {
    const { at, way } = await host(ways[title] as (host: Machine) => Way)
    await at.ok(['backup'])
    const name = filesIn(at.path('disk', 'files')).find(file => file.includes('/0001-'))
    assert.ok(name)
    const path = at.path('disk', 'files', name)
    const bytes = readFileSync(path)
    assert.ok(bytes.byteLength > 200_000)
    bytes[100_000] = (bytes[100_000] ?? 0) ^ 1
    writeFileSync(path, bytes)
    const ran = await at.run(['restore', 'latest', '--to', at.path('back'), '--identity', way.key])
    assert.equal(ran.code, 20, `${title}: ${ran.stderr}`)
    assert.deepEqual(filesIn(at.path('back')), [])
  }
})

test('stages that do not go together, and keys that cannot be used, are exit 2 before anything is read', async () => {
  const at = machine()
  const key = put(at, 'key', `${word()}${word()}\n`)
  const aespipe = { keyFile: key, unauthenticated: true }
  const { recipient } = await generateIdentity()
  const expired = gpgKey(at, 'mine').secret
  const table: [object, RegExp][] = [
    [{ compression: { zstd: {} }, encryption: { aespipe } }, /only gzip reads past/],
    [{ compression: 'none', encryption: { aespipe } }, /only gzip reads past/],
    [{ encryption: { aespipe: { keyFile: key } } }, /unauthenticated|aespipe/],
    [{ encryption: { gpg: {} } }, /no key is configured/],
    [{ encryption: { gpg: { recipients: [expired] } } }, /secret key/],
    [{ encryption: { gpg: { passphrase: 'a' }, age: { recipients: [recipient] } } }, /say one of/],
    [{ encryption: { age: { recipients: [recipient], passphrase: 'a' } } }, /not both/],
    [{ compression: { gzip: { level: 10 } } }, /10|<=9/],
  ]
  for (const [options, said] of table) {
    at.configure({
      stores: { disk: { type: 'local', path: at.path('disk') } },
      jobs: { files: { source: { type: 'files', paths: ['/nowhere'] }, to: ['disk'], ...options } },
    })
    const ran = await at.run(['backup'])
    assert.equal(ran.code, 2, ran.stderr)
    assert.match(ran.stderr, said)
  }
  assert.deepEqual(filesIn(at.path('disk')), [])
})

test('killed while gpg decrypts with a secret key, nothing stays: no gpg, no agent, no key', async () => {
  const { at, way } = await host(ways['gpg, for a public key'] as (host: Machine) => Way)
  randomFiles(at.path('data'), 40_000_000, 1)
  await at.ok(['backup'])
  const name = (await at.ok(['show', 'latest', '--json'])).json<Shown>().artifacts[0]?.name ?? ''
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const running = at.start(['cat', 'latest', name, '--identity', way.key])
    // Nobody reads what it writes, so it cannot end before it is killed.
    running.child.stdout?.pause()
    const agent = (): boolean => {
      const [run = ''] = privateFiles(at)
      return filesIn(at.path('state', run)).some(path => path.includes('S.gpg-agent'))
    }
    while (!agent()) await sleep(20)
    await sleep(500)
    assert.ok(agent())
    process.kill(running.pid, signal)
    running.child.stdout?.resume()
    await running.ended
    await allGone(at)
  }
  await at.ok(['list'])
  assert.deepEqual(privateFiles(at), [])
})
