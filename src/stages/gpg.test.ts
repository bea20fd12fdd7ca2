// budget: 180 s
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createDecipheriv, createHash } from 'node:crypto'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { collect, inChunks, sampleBytes, seeded } from '../../test/support/samples.ts'
import { stageContract } from '../../test/support/stage-contract.ts'
import { exitCode, Failure } from '../model/failure.ts'
import { Secret } from '../model/secret.ts'
import { isProgram, type Stage } from '../model/step.ts'
import { flow } from '../platform/flow.ts'
import { secretSource } from '../platform/secret-source.ts'
import { GpgOptions, gpgReader, gpgWriter } from './gpg.ts'

const ctx = testContext()
const dir = mkdtempSync(join(tmpdir(), 'cairn-gpg-'))
chmodSync(dir, 0o700)
const env = { PATH: process.env.PATH, GNUPGHOME: dir, LC_ALL: 'C.UTF-8' }
after(() => {
  execFileSync('gpgconf', ['--kill', 'all'], { env })
  rmSync(dir, { recursive: true, maxRetries: 3 })
})

const plain = sampleBytes(seeded(41), 300_000)
const word = 'correct horse – ünï battery staple'
const passphraseFile = file('passphrase', `${word}\n`)

const alice = key('alice')
const bob = key('bob', { passphrase: "bob's secret" })
const carol = key('carol')

function file(name: string, text: string): string {
  const path = join(dir, name)
  writeFileSync(path, text, { mode: 0o600 })
  return path
}

function gpg(args: readonly string[], input: string | Buffer = '', passphrase = ''): Buffer {
  const loopback = ['--batch', '--pinentry-mode', 'loopback', '--passphrase', passphrase]
  return execFileSync('gpg', [...loopback, ...args], {
    env,
    input,
    maxBuffer: 1e8,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
}

/** A new key pair; `sub: null` makes one that can only sign. */
function key(name: string, o: { passphrase?: string; expires?: string; subs?: readonly string[] } = {}) {
  const { passphrase = '', expires = 'never', subs = ['cv25519'] } = o
  gpg(['--quick-gen-key', name, 'ed25519', 'sign', 'never'], '', passphrase)
  const listed = gpg(['--with-colons', '--list-keys', name]).toString()
  const fingerprint = /^fpr:+([0-9A-F]+):/m.exec(listed)?.[1] ?? ''
  for (const sub of subs) gpg(['--quick-add-key', fingerprint, sub, 'encr', expires], '', passphrase)
  const armored = (what: string): string => gpg(['--armor', what, fingerprint], '', passphrase).toString()
  return { fingerprint, public: armored('--export'), secret: armored('--export-secret-keys'), passphrase }
}

function writer(options: object): Promise<Stage> {
  return gpgWriter(GpgOptions.parse(options), ctx)
}

function reader(o: {
  passphrases?: readonly string[]
  keys?: readonly { secret: string; passphrase: string }[]
}): Stage {
  return gpgReader({
    passphrases: (o.passphrases ?? []).map(each => new Secret(each)),
    identities: (o.keys ?? []).map(each => ({
      key: new Secret(each.secret),
      passphrase: each.passphrase === '' ? null : new Secret(each.passphrase),
    })),
  })
}

function encrypted(by: Stage, bytes = plain): Promise<Buffer> {
  return collect(flow(inChunks(bytes, seeded(1)), [by.encode()], ctx))
}

function decrypted(by: Stage, bytes: Uint8Array): Promise<Buffer> {
  return collect(flow(inChunks(bytes, seeded(2)), [by.decode()], ctx))
}

stageContract(
  'gpg with a passphrase',
  async () => ({
    writing: [await writer({ passphrase: { file: passphraseFile } })],
    reading: [reader({ passphrases: [word] })],
    wrongKey: [reader({ passphrases: ['something else'] })],
    key: passphraseFile,
  }),
  { encrypts: true, lean: true },
)

stageContract(
  'gpg with a public key',
  async () => ({
    writing: [await writer({ recipients: [alice.public] })],
    reading: [reader({ keys: [alice] })],
    wrongKey: [reader({ keys: [carol] })],
    key: file('alice.asc', alice.secret),
  }),
  { encrypts: true, lean: true },
)

suite('gpg itself', () => {
  test('reads what we write for a passphrase, and writes what we read: binary, armored and compressed', async () => {
    const bytes = await encrypted(await writer({ passphrase: word }))
    assert.ok(gpg(['-d'], bytes, word).equals(plain))
    const packets = gpg(['--list-packets'], bytes, word).toString()
    assert.match(packets, /:symkey enc packet: version 4, cipher 9,.*s2k 3, hash 10/)
    assert.match(packets, /mdc_method: 2/)
    assert.doesNotMatch(packets, /compressed packet/)
    for (const how of [
      ['--cipher-algo', 'AES256'],
      ['--armor'],
      ['-z', '6'],
      ['--cipher-algo', 'CAMELLIA128'],
    ]) {
      const theirs = gpg(['--s2k-count', '65536', ...how, '-c'], plain, word)
      assert.ok((await decrypted(reader({ passphrases: [word] }), theirs)).equals(plain), how.join(' '))
      const many = reader({ passphrases: ['wrong', word], keys: [alice] })
      assert.ok((await decrypted(many, theirs)).equals(plain), `${how.join(' ')}, among other keys`)
    }
  })

  test('reads what we write for public keys, and writes what we read, also with a secret key that has a passphrase', async () => {
    const both = await writer({ recipients: [alice.public, { file: file('bob.pub', bob.public) }] })
    assert.deepEqual(both.facts.recipients, [alice.fingerprint, bob.fingerprint])
    const bytes = await encrypted(both)
    assert.ok(gpg(['-d'], bytes).equals(plain))
    for (const keys of [[alice], [bob], [carol, bob]])
      assert.ok((await decrypted(reader({ keys, passphrases: ['another'] }), bytes)).equals(plain))
    for (const how of [[], ['--armor']]) {
      const theirs = gpg(['--trust-model', 'always', ...how, '-r', 'bob', '-e'], plain)
      assert.ok((await decrypted(reader({ keys: [bob] }), theirs)).equals(plain))
    }
  })
})

test('a passphrase alone is a program at both ends, so that no byte passes through us', async () => {
  assert.ok(isProgram((await writer({ passphrase: word })).encode()))
  assert.ok(isProgram(reader({ passphrases: [word] }).decode()))
})

test('a key, or what it has to encrypt for, that expires within 60 days is a warning; a later one is none', async () => {
  const [soon, later] = [key('soon', { expires: '59d' }), key('later', { expires: '61d' })]
  assert.equal((await writer({ recipients: [alice.public, later.public] })).warning, undefined)
  const { warning } = await writer({ recipients: [alice.public, soon.public, later.public] })
  assert.equal(warning?.what, 'a key of the gpg stage expires soon')
  assert.match(warning.why, new RegExp(`^${soon.fingerprint} on \\d{4}-\\d\\d-\\d\\d$`))
  gpg(['--quick-set-expire', later.fingerprint, '30d'])
  const whole = gpg(['--armor', '--export', later.fingerprint]).toString()
  assert.match((await writer({ recipients: [whole] })).warning?.why ?? '', new RegExp(later.fingerprint))
})

suite('keys that must not be encrypted for are refused before anything is dumped', () => {
  const expired = key('expired', { expires: 'seconds=1' })
  const table: [title: string, recipient: () => string, why: RegExp][] = [
    ['one that can only sign', () => key('signer', { subs: [] }).public, /only sign/],
    ['one that has expired', () => expired.public, /expired/],
    ['one that was revoked', () => revoked(), /revoked/],
    [
      'one with several keys to encrypt for',
      () => key('two', { subs: ['cv25519', 'rsa2048'] }).public,
      /2 keys/,
    ],
    ['several keys in one', () => `${alice.public}${bob.public}`, /2 keys/],
    ['a secret key', () => alice.secret, /secret key/],
    ['text', () => 'hunter2', /no valid OpenPGP data|not a public key/],
  ]
  for (const [title, recipient, why] of table) {
    test(title, async () => {
      if (title.endsWith('expired')) await new Promise(resolve => setTimeout(resolve, 1_500))
      const failure = await writer({ recipients: [alice.public, recipient()] }).catch(
        (error: unknown) => error,
      )
      assert.ok(failure instanceof Failure)
      assert.equal(failure.exit, exitCode.usage)
      assert.match(failure.why, why)
      assert.notEqual(failure.remedy, '')
      assert.doesNotMatch(failure.message, /hunter2/)
    })
  }

  function revoked(): string {
    const { fingerprint } = key('revoked')
    const certificate = readFileSync(join(dir, 'openpgp-revocs.d', `${fingerprint}.rev`), 'utf8')
    gpg(['--import'], certificate.replace(':-----BEGIN', '-----BEGIN'))
    return gpg(['--armor', '--export', fingerprint]).toString()
  }

  test('a passphrase of two lines, of which gpg would read the first only, or none at all', async () => {
    for (const options of [{ passphrase: 'one\ntwo' }, { passphrase: '' }, {}])
      await assert.rejects(writer(options), { exit: exitCode.usage })
    assert.equal(GpgOptions.safeParse({ passphrase: 'a', recipients: [alice.public] }).success, false)
  })
})

suite('what is not opened', () => {
  const bytes = gpg(['--s2k-count', '65536', '--cipher-algo', 'AES256', '-z', '0', '-c'], plain, word)
  const changed = (at: number) => bytes.map((byte, n) => (n === at ? byte ^ 1 : byte))
  const table: [title: string, bytes: Uint8Array][] = [
    ['a changed byte', changed(150_000)],
    ['a changed modification detection code', changed(bytes.length - 3)],
    ['a message cut inside its header, for which gpg exits with 0', bytes.subarray(0, 10)],
    ['a message that is not encrypted, for which gpg exits with 0', gpg(['--store'], plain)],
    ['a message without its last byte', bytes.subarray(0, -1)],
    ['one message after another', Buffer.concat([bytes, bytes])],
    ['nothing', Buffer.alloc(0)],
    ['text', Buffer.from('SELECT 1;\n')],
  ]
  for (const [title, damaged] of table) {
    test(`${title} is damage, not a matter of the key`, async () => {
      const failure = await decrypted(reader({ passphrases: [word] }), damaged).catch(
        (error: unknown) => error,
      )
      assert.ok(failure instanceof Failure)
      assert.deepEqual([failure.what, failure.exit], ['gpg failed', exitCode.failed], failure.message)
    })
  }

  test('a wrong passphrase that seems to fit hides no right one', async () => {
    const weak = [
      '--s2k-mode',
      '0',
      '--s2k-digest-algo',
      'SHA256',
      '--cipher-algo',
      'AES256',
      '-z',
      '0',
      '-c',
    ]
    const message = gpg(weak, 'short', word)
    const wrong = seemingFor(message)
    assert.equal((await decrypted(reader({ passphrases: [wrong, word] }), message)).toString(), 'short')
    await assert.rejects(decrypted(reader({ passphrases: [wrong] }), message), { what: 'gpg failed' })
  })

  test('a wrong, missing or locked key is exit 12', async () => {
    const forBob = await encrypted(await writer({ recipients: [bob.public] }))
    const lockedBob = { ...bob, passphrase: '' }
    const wrong: [Stage, Buffer][] = [
      [reader({ passphrases: ['wrong'] }), bytes],
      [reader({ passphrases: ['wrong', 'wrong too'] }), bytes],
      [reader({ keys: [alice] }), bytes],
      [reader({ keys: [alice] }), forBob],
      [reader({ keys: [lockedBob] }), forBob],
      [reader({ keys: [{ ...bob, passphrase: 'wrong' }] }), forBob],
      [reader({ passphrases: [word, 'other'] }), forBob],
      [reader({ keys: [{ secret: 'no key', passphrase: '' }] }), forBob],
    ]
    for (const [index, [stage, message]] of wrong.entries()) {
      const failure = await decrypted(stage, message).catch((error: unknown) => error)
      assert.ok(failure instanceof Failure, `case ${index}`)
      assert.equal(failure.exit, exitCode.wrongKey, `case ${index}: ${failure.message}`)
      assert.notEqual(failure.remedy, '')
    }
    assert.throws(() => reader({}).decode(), { exit: exitCode.wrongKey })
    assert.throws(() => gpgReader({ passphrases: [], identities: [] }).encode(), { exit: exitCode.usage })
  })

  test('a passphrase that is not there is a mistake of the configuration that names the place', async () => {
    const source = secretSource({ file: '/nowhere/passphrase' })
    await assert.rejects(source.read(), { exit: exitCode.usage, message: /nowhere/ })
    await assert.rejects(writer({ passphrase: { file: '/nowhere/passphrase' } }), { message: /nowhere/ })
  })
})

test('nothing of gpg stays: no agent, no key ring, no file', async () => {
  const here = mkdtempSync(join(tmpdir(), 'cairn-gpg-'))
  const own = testContext({ dir: here })
  const both = await gpgWriter(GpgOptions.parse({ recipients: [bob.public] }), own)
  const bytes = await collect(flow(inChunks(plain, seeded(1)), [both.encode()], own))
  await collect(flow(inChunks(bytes, seeded(1)), [reader({ keys: [bob] }).decode()], own))
  assert.deepEqual(readdirSync(here), [])
  rmSync(here, { recursive: true })
})

/**
 * A passphrase with which the two bytes that tell a wrong one are as they should be (RFC 4880, 5.13): of a message of less than
 * 192 bytes whose key is the digest of its passphrase. What comes after them is no packet.
 */
function seemingFor(message: Buffer): string {
  const head = message.subarray(9, 28)
  for (let n = 0; ; n++) {
    const key = createHash('sha256').update(`wrong ${n}`).digest()
    const start = createDecipheriv('aes-256-cfb', key, Buffer.alloc(16)).update(head)
    if (start.readUInt16BE(14) === start.readUInt16BE(16) && start.readUInt8(18) < 0x80) return `wrong ${n}`
  }
}
