import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import { findSurvivors } from '../../test/services/survivors.ts'
import { testContext } from '../../test/support/context.ts'
import { collect, inChunks, sampleBytes, seeded } from '../../test/support/samples.ts'
import { exitCode, Failure } from '../model/failure.ts'
import type { ArtifactRecord } from '../model/manifest.ts'
import type { Stage } from '../model/step.ts'
import { typedArmor } from '../model/typed.ts'
import { flow } from '../platform/flow.ts'
import { generateIdentity } from './age.ts'
import { readingStages, writingStages } from './choose.ts'
import { Compression, Encryption } from './options.ts'

const dir = mkdtempSync(join(tmpdir(), 'cairn-choose-'))
const own = mkdtempSync(join(tmpdir(), 'cairn-choose-'))
after(() => {
  for (const each of [dir, own]) rmSync(each, { recursive: true })
})
const ctx = testContext({ dir: own })

function file(name: string, text: string): string {
  writeFileSync(join(dir, name), text, { mode: 0o600 })
  return join(dir, name)
}

const line = (): string => randomBytes(30).toString('base64')
const lines = (): string => `${Array.from({ length: 64 }, line).join('\n')}\n`
const mine = await generateIdentity()
const other = await generateIdentity()
const ageKey = file('age.key', `${mine.identity.reveal()}\n`)
const passphrase = file('passphrase', `${line()}\n`)
const keyFile = file('aes.key', lines())

/** What is configured, the key file that opens it, and one that does not. */
const encryptions: Record<string, { option: unknown; key?: string; wrong?: string }> = {
  none: { option: 'none' },
  age: {
    option: { age: { recipients: [mine.recipient] } },
    key: ageKey,
    wrong: file('other.key', other.identity.reveal()),
  },
  gpg: {
    option: { gpg: { passphrase: { file: passphrase } } },
    key: passphrase,
    wrong: file('other', line()),
  },
  aespipe: {
    option: { aespipe: { keyFile, unauthenticated: true } },
    key: keyFile,
    wrong: file('other-aes.key', lines()),
  },
}
const compressions: Record<string, unknown> = { zstd: { zstd: {} }, gzip: { gzip: {} }, none: 'none' }

/** Nothing, a byte, NULs, what does not compress, and what does. */
const samples = [
  Buffer.alloc(0),
  Buffer.from('x'),
  Buffer.alloc(300_001),
  randomBytes(1_000_000),
  sampleBytes(seeded(9), 3_000_000),
]

function recordOf(stages: readonly Stage[]): ArtifactRecord {
  const nothing = { bytes: 0, sha256: '' }
  const recorded = stages.map(stage => ({ name: stage.name, ...stage.facts }))
  return {
    name: 'a',
    media: 'sql',
    role: 'data',
    stages: recorded,
    plain: nothing,
    stored: nothing,
    objects: [],
    undo: '',
  }
}

async function decoded(
  bytes: Uint8Array,
  key: string | undefined,
  writing: readonly Stage[],
): Promise<Buffer> {
  // As a host would that has other keys beside, in its configuration.
  const beside = [
    Encryption.parse({ gpg: { passphrase: 'besides' } }),
    Encryption.parse({ age: { identity: other.identity.reveal() } }),
  ]
  const reading = await readingStages(key, key === encryptions.age?.wrong ? [] : beside)
  const steps = reading
    .stagesOf(recordOf(writing))
    .toReversed()
    .map(stage => stage.decode())
  return collect(flow(inChunks(bytes, seeded(2)), steps, ctx))
}

suite('every compression with every encryption', () => {
  for (const [compression, compressing] of Object.entries(compressions)) {
    for (const [encryption, { option, key, wrong }] of Object.entries(encryptions)) {
      const chosen = { compression: Compression.parse(compressing), encryption: Encryption.parse(option) }
      if (encryption === 'aespipe' && compression !== 'gzip') {
        test(`${compression} does not go with aespipe, which is said`, async () => {
          await assert.rejects(writingStages(chosen, ctx), { exit: exitCode.usage, remedy: /gzip/ })
        })
        continue
      }
      test(`${compression} and ${encryption}: everything comes back, by us and by hand; what is not right fails`, async () => {
        const writing = await writingStages(chosen, ctx)
        const steps = writing.map(stage => stage.encode())
        const undo = writing
          .toReversed()
          .map(stage => stage.undo)
          .join(' | ')
          .replace(/\bKEY\b/, key ?? '')
        for (const plain of samples) {
          const bytes = await collect(flow(inChunks(plain, seeded(1)), steps, ctx))
          assert.ok((await decoded(bytes, key, writing)).equals(plain), `${plain.length} bytes`)
          const byHand = execFileSync('sh', ['-c', undo || 'cat'], {
            input: bytes,
            maxBuffer: 1e8,
            stdio: ['pipe', 'pipe', 'ignore'],
          })
          assert.ok(byHand.equals(plain), `${plain.length} bytes by hand`)
          if (plain.length < 3_000_000 || writing.length === 0) continue
          await assert.rejects(decoded(bytes.subarray(0, -40), key, writing), Failure)
          if (!wrong) continue
          await assert.rejects(decoded(bytes, wrong, writing), { exit: exitCode.wrongKey })
        }
        assert.deepEqual([findSurvivors([own], 0), readdirSync(own)], [[], []])
      })
    }
  }
})

test('without a choice it is zstd, and gzip where aespipe needs it', async () => {
  const names = async (encryption: unknown): Promise<string[]> =>
    (await writingStages({ encryption: Encryption.parse(encryption) }, ctx)).map(stage => stage.name)
  assert.deepEqual(await names('none'), ['zstd'])
  assert.deepEqual(await names(encryptions.aespipe?.option), ['gzip', 'aespipe'])
})

test('a stage that is not known, and a key that is not there, are told apart', async () => {
  const reading = await readingStages(undefined, [])
  const record = (name: string): ArtifactRecord => ({ ...recordOf([]), stages: [{ name }] })
  assert.throws(() => reading.stagesOf(record('rot13')), { exit: exitCode.usage, remedy: /newer/ })
  assert.deepEqual(
    ['zstd', 'gzip', 'rot13', 'age', 'gpg', 'aespipe'].map(name => reading.canDecode(record(name))),
    [true, true, false, false, false, false],
  )
  for (const name of ['age', 'gpg', 'aespipe'])
    assert.throws(() => reading.stagesOf(record(name)).map(stage => stage.decode()), {
      exit: exitCode.wrongKey,
    })
})

test('a passphrase file given for a backup that needs an age identity is said to be none', async () => {
  const reading = await readingStages(passphrase, [])
  const record = { ...recordOf([]), stages: [{ name: 'age' }] }
  assert.throws(() => reading.stagesOf(record), {
    exit: exitCode.wrongKey,
    message: /something else than keys/,
  })
})

test('what other tools wrote is peeled by its first bytes, layer by layer, and what is no known format is refused', async () => {
  const reading = await readingStages(passphrase, [Encryption.parse({ age: { identity: { file: ageKey } } })])
  const step = reading
    .stagesOf({ ...recordOf([]), stages: [{ name: 'detect' }] })
    .map(stage => stage.decode())
  const read = (bytes: Uint8Array) => collect(flow(inChunks(bytes, seeded(3), 30), step, ctx))
  const make = (command: string) =>
    execFileSync('bash', ['-o', 'pipefail', '-c', command], { cwd: dir, maxBuffer: 1e8, stdio: 'pipe' })
  writeFileSync(join(dir, 'data'), randomBytes(200_000))
  const gpg = `gpg --homedir . --batch --no-autostart --s2k-count 65536 --pinentry-mode loopback --passphrase-file ${passphrase} -c`
  const age = `age -r ${mine.recipient}`
  execFileSync('chmod', ['700', dir])
  for (const layers of [
    'gzip',
    `gzip | ${gpg}`,
    `${gpg} --armor`,
    `zstd | ${age}`,
    `xz | ${age} -a`,
    'bzip2 | gzip',
    'cat',
    `gzip | ${age} | gzip`,
  ]) {
    const tar = make('tar -c data')
    writeFileSync(join(dir, 'data.tar'), tar)
    assert.ok((await read(make(`cat data.tar | ${layers}`))).equals(tar), layers)
  }
  await assert.rejects(read(Buffer.from('hello')), { what: 'cannot tell what it is' })
  await assert.rejects(read(Buffer.alloc(0)), { what: 'cannot tell what it is' })
  await assert.rejects(
    read(make('cat data.tar | gzip | gzip | gzip | gzip | gzip | gzip | gzip')),
    /more than 6 layers/,
  )
  await assert.rejects(read(make('cat data.tar | gzip').subarray(0, -5)), Failure)
  await assert.rejects(read(make(`cat data.tar | age -r ${other.recipient}`)), { exit: exitCode.wrongKey })
})

suite('a passphrase or a secret key of gpg that was typed, or went through a mail or an editor', () => {
  const word = line()
  const typed = { age: { passphrase: word } }
  const ways: [title: string, (text: string) => string | Buffer][] = [
    ['with the newline of Windows', text => `${text}\r\n`],
    ['with empty lines behind', text => `${text}\n\n\n`],
    ['between spaces', text => `  ${text} \n`],
    ['after a byte order mark', text => `\ufeff${text}\n`],
    ['as UTF-16', text => Buffer.from(`\ufeff${text}\r\n`, 'utf16le')],
  ]
  for (const [name, option] of Object.entries({ age: typed, gpg: { gpg: { passphrase: word } } }))
    test(`opens what ${name} encrypted with it`, async () => {
      const writing = await writingStages({ encryption: Encryption.parse(option) }, ctx)
      const plain = Buffer.from('data')
      const bytes = await collect(
        flow(
          inChunks(plain, seeded(1)),
          writing.map(stage => stage.encode()),
          ctx,
        ),
      )
      for (const [index, [title, way]] of ways.entries()) {
        const path = join(dir, `typed-${name}-${index}`)
        writeFileSync(path, way(word))
        assert.ok(plain.equals(await decoded(bytes, path, writing)), title)
      }
    })

  test('is told apart from one that really begins or ends so, which comes first', async () => {
    const spaced = ` ${word} `
    const writing = await writingStages(
      { encryption: Encryption.parse({ age: { passphrase: spaced } }) },
      ctx,
    )
    const steps = writing.map(stage => stage.encode())
    const bytes = await collect(flow(inChunks(Buffer.from('data'), seeded(1)), steps, ctx))
    const path = file('spaced', `${spaced}\n`)
    assert.equal(String(await decoded(bytes, path, writing)), 'data')
    assert.equal((await readingStages(path, [])).keyFile, path)
  })

  test('an armored key comes out of a mail and of UTF-16 as it was', () => {
    const armor =
      '-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOY\n=abcd\n-----END PGP PRIVATE KEY BLOCK-----\n'
    const quoted = armor.replaceAll(/^/gm, '> ').replaceAll('\n', '\r\n')
    for (const text of [armor, `\ufeff${quoted}`, Buffer.from(`\ufeff${armor}`, 'utf16le').toString('utf8')])
      assert.equal(typedArmor(text).trim(), armor.trim())
  })
})
