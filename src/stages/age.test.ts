// budget: 360 s
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import { inspect } from 'node:util'
import { testContext } from '../../test/support/context.ts'
import { collect, inChunks, sampleBytes, seeded } from '../../test/support/samples.ts'
import { stageContract } from '../../test/support/stage-contract.ts'
import { type ExitCode, exitCode, Failure } from '../model/failure.ts'
import { Secret } from '../model/secret.ts'
import { isProgram, type Stage } from '../model/step.ts'
import { flow } from '../platform/flow.ts'
import { AgeOptions, agePassphraseStage, ageStage, generateIdentity } from './age.ts'
import { zstdStage } from './zstd.ts'

const ctx = testContext()

type Implementation = 'program' | 'library'

const dir = mkdtempSync(join(tmpdir(), 'cairn-age-'))
after(() => rmSync(dir, { recursive: true }))

const mine = await generateIdentity()
const other = await generateIdentity()
const keyFile = file('key.txt', `# created: today\n${mine.identity.reveal()}\n`)
const rsa = sshKey('rsa', ['-t', 'rsa', '-b', '2048'])
const ed25519 = sshKey('ed25519', ['-t', 'ed25519'])

function file(name: string, content: string): string {
  const path = join(dir, name)
  writeFileSync(path, content, { mode: 0o600 })
  return path
}

function sshKey(name: string, args: string[], passphrase = '') {
  const path = join(dir, name)
  execFileSync('ssh-keygen', ['-q', '-C', 'me@here', '-N', passphrase, '-f', path, ...args])
  return { path, recipient: readFileSync(`${path}.pub`, 'utf8').trim() }
}

/** A stage that writes for my key and reads with it, or with another. */
function stage(implementation: Implementation, identity: unknown = { file: keyFile }): Promise<Stage> {
  const options = AgeOptions.parse({ recipients: [mine.recipient], identity })
  return ageStage(options, { reading: true, implementation })
}

function contract(
  name: string,
  writer: Implementation,
  reader: Implementation,
  before: readonly Stage[] = [],
) {
  const open = async () => ({
    writing: [...before, await stage(writer)],
    reading: [...before, await stage(reader)],
    wrongKey: [...before, await stage(reader, other.identity.reveal())],
    key: keyFile,
  })
  stageContract(name, open, { encrypts: true })
}

contract('age by its program', 'program', 'program')
contract('age by the library', 'library', 'library')
contract('age by its program, read by the library,', 'program', 'library')
contract('age by the library, read by its program,', 'library', 'program')
contract('zstd and age by their programs', 'program', 'program', [zstdStage(undefined, 'program')])
contract('zstd by its program and age by the library', 'library', 'library', [
  zstdStage(undefined, 'program'),
])

const word = 'correct horse – battery staple'

function onePassphrase(passphrase: string): Stage {
  return agePassphraseStage([new Secret(passphrase)])
}

/** A shell command that asks on a terminal: script makes one, and each answer is typed a moment after the one before. */
function typed(command: string, answers: readonly string[]): string {
  const typing = answers.map(answer => `sleep 0.5; echo '${answer}'`).join('; ')
  return `(${typing}; sleep 2) | script -qec "${command}" /dev/null`
}

async function encrypted(by: Stage, plain: Buffer): Promise<Buffer> {
  return collect(flow(inChunks(plain, seeded(1)), [by.encode()], ctx))
}

async function decrypted(by: Stage, bytes: Buffer): Promise<Buffer> {
  return collect(flow(inChunks(bytes, seeded(2)), [by.decode()], ctx))
}

const plain = sampleBytes(seeded(31), 200_000)

suite('keys', () => {
  const identities: [title: string, recipients: string[], identity: unknown][] = [
    ['a native key from a value', [mine.recipient], mine.identity.reveal()],
    ['an ssh-ed25519 key from a file', [ed25519.recipient], { file: ed25519.path }],
    ['an ssh-rsa key from a file', [rsa.recipient], { file: rsa.path }],
    ['an ssh-rsa key from a command', [rsa.recipient], { command: ['cat', rsa.path] }],
    ['the second of two recipients', [other.recipient, ed25519.recipient], { file: ed25519.path }],
    ['the second of two identities', [mine.recipient], [other.identity.reveal(), mine.identity.reveal()]],
    ['a file and a value', [rsa.recipient], [mine.identity.reveal(), { file: rsa.path }]],
    ['two keys in one', [mine.recipient], `${other.identity.reveal()}\n# mine\n${mine.identity.reveal()}`],
  ]
  for (const [title, recipients, identity] of identities) {
    test(`${title} opens what was encrypted for it`, async () => {
      const options = AgeOptions.parse({ recipients, identity })
      const age = await ageStage(options, { reading: true, implementation: 'program' })
      assert.ok((await decrypted(age, await encrypted(age, plain))).equals(plain))
    })
  }

  test('recipients come from a file too', async () => {
    const recipientsFile = file('recipients', `# the team\n\n${ed25519.recipient}\n${mine.recipient}\n`)
    const options = AgeOptions.parse({ recipients: [rsa.recipient], recipientsFile })
    const writer = await ageStage(options, { reading: false, implementation: 'program' })
    assert.equal((writer.facts.recipients as string[]).length, 3)
    const bytes = await encrypted(writer, plain)
    assert.ok((await decrypted(await stage('program'), bytes)).equals(plain))
    assert.ok((await decrypted(await stage('library'), bytes)).equals(plain))
  })

  test('the manifest names the recipients without giving them away, and a comment is no part of a name', async () => {
    const [type, key] = ed25519.recipient.split(' ')
    const facts = async (recipient: string) =>
      (await ageStage(AgeOptions.parse({ recipients: [recipient] }), { reading: false })).facts
    const named = await facts(ed25519.recipient)
    assert.match(JSON.stringify(named), /^\{"recipients":\["sha256:[0-9a-f]{16}"\]\}$/)
    assert.deepEqual(await facts(`${type} ${key} another comment`), named)
  })

  test('a host that only writes does not read the identity', async () => {
    const options = AgeOptions.parse({ recipients: [mine.recipient], identity: { file: '/nowhere/key' } })
    const writer = await ageStage(options, { reading: false })
    await encrypted(writer, plain)
    assert.throws(() => writer.decode(), { exit: exitCode.wrongKey })
    await assert.rejects(ageStage(options, { reading: true }), { exit: exitCode.usage, message: /nowhere/ })
  })

  test('a host that only reads needs no recipients', async () => {
    const options = AgeOptions.parse({ recipientsFile: '/nowhere/recipients', identity: { file: keyFile } })
    const reader = await ageStage(options, { reading: true })
    const bytes = await encrypted(await stage('program'), plain)
    assert.ok((await decrypted(reader, bytes)).equals(plain))
    assert.throws(() => reader.encode(), { exit: exitCode.usage, message: /nowhere/ })
    await assert.rejects(ageStage(options, { reading: false }), { exit: exitCode.usage })
  })

  test('without an identity nothing can be read, and that is exit 12', async () => {
    const reader = await ageStage(AgeOptions.parse({ recipients: [mine.recipient] }), { reading: true })
    assert.throws(() => reader.decode(), { exit: exitCode.wrongKey, remedy: /identity/ })
  })

  test('a new identity opens what is encrypted for its recipient, and prints as ***', async () => {
    assert.match(mine.recipient, /^age1/)
    assert.equal(`${mine.identity}`, '***')
  })
})

suite('a passphrase', () => {
  test('opens what was encrypted for it, whatever its size; another does not, and damage is told apart', async () => {
    const stage = onePassphrase(word)
    for (const size of [0, 1, 65536, 300_000]) {
      const bytes = await encrypted(stage, plain.subarray(0, size))
      assert.ok((await decrypted(stage, bytes)).equals(plain.subarray(0, size)))
      await assert.rejects(decrypted(onePassphrase('another'), bytes), { exit: exitCode.wrongKey })
      const cut = bytes.subarray(0, bytes.length - 1)
      await assert.rejects(decrypted(stage, cut), { what: 'age failed', exit: exitCode.failed })
    }
    assert.throws(() => agePassphraseStage([]).decode(), { exit: exitCode.wrongKey })
  })

  test('is one that age itself takes, and what age writes is read, with any of several passphrases', async () => {
    const path = file('plain', plain.toString('latin1'))
    const text = readFileSync(path)
    execFileSync('sh', ['-c', typed(`age -p -o ${path}.age ${path}`, [word, word])])
    const reader = agePassphraseStage([new Secret('another'), new Secret(word)])
    assert.ok((await decrypted(reader, readFileSync(`${path}.age`))).equals(text))
    writeFileSync(`${path}.ours`, await encrypted(onePassphrase(word), text))
    execFileSync('sh', ['-c', typed(`age -d -o ${path}.undone ${path}.ours`, [word])])
    assert.ok(readFileSync(`${path}.undone`).equals(text))
  })
})

suite('recipients that cannot be used', () => {
  const table: [title: string, recipient: string, message: RegExp][] = [
    ['a key of another type', 'ecdsa-sha2-nistp256 AAAAE2VjZHNh', /'ecdsa-sha2-nistp256 AAAA…'/],
    ['a secret key', mine.identity.reveal(), /it is a secret key/],
    ['a secret key of SSH', '-----BEGIN OPENSSH PRIVATE KEY-----', /it is a secret key/],
    ['an option', '--output=/etc/passwd', /not a recipient/],
    ['a file name', 'recipients.txt', /not a recipient/],
    ['a truncated key', mine.recipient.slice(0, -3), /not a recipient/],
    ['a plugin', 'age1yubikey1q2w7u3v5yuuhasfjk5', /plugin/],
    ['nothing', '', /not a recipient/],
  ]
  for (const [title, recipient, message] of table) {
    test(`${title} is refused by the configuration`, () => {
      const parsed = AgeOptions.safeParse({ recipients: [recipient] })
      assert.deepEqual(parsed.error?.issues[0]?.path, ['recipients', 0])
      assert.match(parsed.error?.issues[0]?.message ?? '', message)
    })

    test(`${title} in a recipients file is refused`, async () => {
      const recipientsFile = file(`recipients-${title.replaceAll(' ', '-')}`, `${recipient}\n`)
      const options = AgeOptions.parse({ recipientsFile })
      await assert.rejects(ageStage(options, { reading: false }), { exit: exitCode.usage })
    })
  }

  test('a recipients file that is not there is said, and where it was looked for', async () => {
    const rejects = async (recipientsFile: string, message: string): Promise<void> => {
      const staged = ageStage(AgeOptions.parse({ recipientsFile }), { reading: false })
      await assert.rejects(staged, { message, remedy: /its whole path.*age-keygen -y/ })
    }
    const what = 'cannot read the recipients file'
    await rejects('/no/such', `${what} /no/such: there is no such file`)
    await rejects('no-such', `${what} no-such: there is no such file in ${process.cwd()}`)
  })

  test('nothing of a secret key is quoted', () => {
    const secret = mine.identity.reveal()
    const { error } = AgeOptions.safeParse({ recipients: [secret] })
    const { message = '' } = error?.issues[0] ?? {}
    assert.ok(!message.includes(secret.slice(0, 'AGE-SECRET-KEY-1'.length + 1)), message)
  })

  test('a recipients file with none but other keys says which they are', async () => {
    const recipientsFile = file('recipients-others', '# mine\necdsa-sha2-nistp256 AAAA me\nssh-dss AAAA me\n')
    const options = AgeOptions.parse({ recipientsFile, skipOtherKeys: true })
    await assert.rejects(ageStage(options, { reading: false }), {
      exit: exitCode.usage,
      message: `cannot encrypt for the keys in ${recipientsFile}: age cannot encrypt for ecdsa-sha2-nistp256, ssh-dss`,
    })
  })

  test('a plugin may be allowed', async () => {
    const recipients = ['age1yubikey1q2w7u3v5yuuhasfjk5']
    const options = AgeOptions.parse({ recipients, plugins: true })
    await ageStage(options, { reading: false })
  })

  test('a mistyped key is a mistake of the configuration, whoever finds it', async () => {
    const end = mine.recipient.endsWith('q') ? 'p' : 'q'
    const options = AgeOptions.parse({ recipients: [`${mine.recipient.slice(0, -1)}${end}`] })
    for (const implementation of ['program', 'library'] as const) {
      const writer = await ageStage(options, { reading: false, implementation })
      await assert.rejects(encrypted(writer, plain), { exit: exitCode.usage })
    }
  })

  test('an RSA key that is too short is a mistake of the configuration', async () => {
    const short = sshKey('short', ['-t', 'rsa', '-b', '1024'])
    const writer = await ageStage(AgeOptions.parse({ recipients: [short.recipient] }), { reading: false })
    await assert.rejects(encrypted(writer, plain), { exit: exitCode.usage, message: /too small/ })
  })

  test('an SSH key needs the age program, which is said', async () => {
    const options = AgeOptions.parse({ recipients: [ed25519.recipient], identity: { file: ed25519.path } })
    const library = await ageStage(options, { reading: true, implementation: 'library' })
    assert.throws(() => library.encode(), { exit: exitCode.usage, remedy: 'install age' })
    assert.throws(() => library.decode(), { exit: exitCode.usage, remedy: 'install age' })
  })
})

suite('identities that cannot be used', () => {
  const locked = sshKey('locked', ['-t', 'ed25519'], 'passphrase')
  const lockedRsa = sshKey('locked-rsa', ['-t', 'rsa', '-b', '2048', '-m', 'PEM'], 'passphrase')
  const table: [title: string, identity: unknown, exit: ExitCode, why: RegExp][] = [
    ['an SSH key with a passphrase', { file: locked.path }, exitCode.wrongKey, /passphrase/],
    ['an old SSH key with a passphrase', { file: lockedRsa.path }, exitCode.wrongKey, /passphrase/],
    ['an encrypted age key', 'age-encryption.org/v1\n-> scrypt x 15', exitCode.wrongKey, /passphrase/],
    ['an armored age key', '-----BEGIN AGE ENCRYPTED FILE-----\nYWdl', exitCode.wrongKey, /passphrase/],
    ['a recipient', mine.recipient, exitCode.wrongKey, /public key/],
    ['the public half of an SSH key', { file: `${ed25519.path}.pub` }, exitCode.wrongKey, /public key/],
    ['text', 'hunter2', exitCode.wrongKey, /something else/],
    ['an empty file', { file: file('empty', '') }, exitCode.usage, /empty/],
    ['a plugin', 'AGE-PLUGIN-YUBIKEY-1QQQ', exitCode.wrongKey, /plugin/],
    ['a file that is not there', { file: '/nowhere/key' }, exitCode.usage, /no such file/],
  ]
  for (const [title, identity, exit, why] of table) {
    test(`${title} is refused at once, and not shown`, async () => {
      const failure = await stage('program', identity).catch((error: unknown) => error)
      assert.ok(failure instanceof Failure)
      assert.equal(failure.exit, exit)
      assert.match(failure.why, why)
      assert.notEqual(failure.remedy, '')
      assert.doesNotMatch(`${failure.message} ${failure.remedy}`, /hunter2/)
    })
  }

  for (const implementation of ['program', 'library'] as const) {
    test(`a mistyped identity is exit 12 by the ${implementation}, and not shown`, async () => {
      const mistyped = mine.identity.reveal().replace(/.$/, last => (last === 'Q' ? 'P' : 'Q'))
      const bytes = await encrypted(await stage(implementation), plain)
      const failure = await decrypted(await stage(implementation, mistyped), bytes).catch((e: unknown) => e)
      assert.ok(failure instanceof Failure)
      assert.equal(failure.exit, exitCode.wrongKey)
      assert.equal(inspect(failure, { depth: 9 }).includes(mistyped.slice(20)), false)
    })
  }

  test('a damaged SSH key is exit 12', async () => {
    const damaged = readFileSync(rsa.path, 'utf8').replace(/A{3}/, 'BBB')
    const bytes = await encrypted(await stage('program'), plain)
    await assert.rejects(decrypted(await stage('program', damaged), bytes), { exit: exitCode.wrongKey })
  })
})

suite('what is not opened', () => {
  for (const implementation of ['program', 'library'] as const) {
    test(`damage is an ordinary failure by the ${implementation}, and a wrong key is not`, async () => {
      const age = await stage(implementation)
      const bytes = await encrypted(age, plain)
      const changed = Buffer.from(bytes)
      changed[150_000] = (changed[150_000] ?? 0) ^ 1
      for (const damaged of [
        changed,
        bytes.subarray(0, 100_000),
        bytes.subarray(0, 50),
        Buffer.from('text'),
      ]) {
        await assert.rejects(decrypted(age, damaged), { what: 'age failed', exit: exitCode.failed })
      }
      const stranger = await stage(implementation, other.identity.reveal())
      await assert.rejects(decrypted(stranger, bytes), { exit: exitCode.wrongKey, remedy: /identity/ })
    })
  }

  test('a wrong key is known in the words of age 1.3 too', async () => {
    const step = (await stage('program')).decode()
    assert.ok(isProgram(step))
    const said =
      'age: error: identity did not match any of the recipients: incorrect identity for recipient block'
    const verdict = step.judge?.({ code: 1, signal: null }, said)
    assert.ok(verdict instanceof Failure)
    assert.equal(verdict.exit, exitCode.wrongKey)
  })

  test('a passphrase instead of a recipient is a matter of keys', async () => {
    const scrypt = [
      'age-encryption.org/v1',
      '-> scrypt bBjlhJVYZeE4aqUdmtRHfw 15',
      'ZV/AhotwSGqaPCU43cepl4WYUouAa17a3xpu4G2yi5k',
      '--- fgMiVLJHMlg9fW7CVG/hPS5EAU4Zeg19LyCP7SoH5nA\n',
    ].join('\n')
    for (const implementation of ['program', 'library'] as const) {
      const reader = await stage(implementation)
      await assert.rejects(decrypted(reader, Buffer.from(scrypt)), { exit: exitCode.wrongKey })
    }
  })

  test('a header that does not end does not fill the memory of the library', async () => {
    const age = await stage('library')
    async function* endless() {
      yield Buffer.from('age-encryption.org/v1\n-> X25519 ')
      for (;;) yield Buffer.alloc(1024 * 1024, 'a')
    }
    await assert.rejects(collect(flow(endless(), [age.decode()], ctx)), /header/)
  })
})
