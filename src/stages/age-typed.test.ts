import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { collect, inChunks, sampleBytes, seeded } from '../../test/support/samples.ts'
import { exitCode } from '../model/failure.ts'
import type { Stage } from '../model/step.ts'
import { flow } from '../platform/flow.ts'
import { AgeOptions, ageStage, generateIdentity } from './age.ts'
import { legibleIdentity } from './age-keys.ts'

const ctx = testContext()
const dir = mkdtempSync(join(tmpdir(), 'cairn-age-'))
after(() => rmSync(dir, { recursive: true }))

const mine = await generateIdentity()
const other = await generateIdentity()

function stage(
  implementation: 'program' | 'library',
  identity: unknown = mine.identity.reveal(),
): Promise<Stage> {
  const options = AgeOptions.parse({ recipients: [mine.recipient], identity })
  return ageStage(options, { reading: true, implementation })
}

async function encrypted(by: Stage, plain: Buffer): Promise<Buffer> {
  return collect(flow(inChunks(plain, seeded(1)), [by.encode()], ctx))
}

async function decrypted(by: Stage, bytes: Buffer): Promise<Buffer> {
  return collect(flow(inChunks(bytes, seeded(2)), [by.decode()], ctx))
}

const plain = sampleBytes(seeded(31), 200_000)

suite('a key that was typed from paper, or went through a mail or an editor', () => {
  const key = mine.identity.reveal()
  const [beginning, end] = [key.slice(0, 40), key.slice(40)]
  const forms: [title: string, content: string | Buffer][] = [
    ['without its comment and newline', key],
    ['with the newlines of Windows', `# created: today\r\n${key}\r\n`],
    ['broken into two lines, its comment too', `# public key: age1ab\r\ncdef\r\n${beginning}\r\n${end}\r\n`],
    ['in groups', `${key.replaceAll(/(.{8})/g, '$1 ')}\n`],
    ['indented, with empty lines', `\n\t ${key}  \n\n`],
    ['in small letters', key.toLowerCase()],
    ['in quotes', `"${key}"\n`],
    ['quoted in a mail, with a label', `> The key:\n> ${key}\n`],
    ['after a byte order mark', `\ufeff# created: today\n${key}\n`],
    ['as UTF-16', Buffer.from(`\ufeff# created: today\r\n${key}\r\n`, 'utf16le')],
    ['between hard spaces', `\u00a0${key}\u00a0\n`],
    ['beside another one', `${other.identity.reveal().toLowerCase()}\n ${key}\n`],
  ]
  test('opens the backup in every form, by the program and by the library', async () => {
    const bytes = await encrypted(await stage('program'), plain)
    for (const [index, [title, content]] of forms.entries()) {
      const path = join(dir, `form-${index}`)
      writeFileSync(path, content)
      for (const implementation of ['program', 'library'] as const)
        assert.ok(plain.equals(await decrypted(await stage(implementation, { file: path }), bytes)), title)
    }
  })

  test('that is not whole, or has letters that no key has, is told so', async () => {
    for (const [typed, why] of [
      [`${key.slice(0, -1)}\n`, /57 characters stand after AGE-SECRET-KEY-1, and not 58/],
      [`${key.slice(0, -1)}O`, /never O/],
      [key.replace('KEY-1', 'KEY-I'), /never I/],
    ] as const)
      await assert.rejects(stage('program', typed), { exit: exitCode.wrongKey, why })
  })

  test('keys that only age knows stay as they are written', () => {
    for (const text of [`AGE-PLUGIN-X-1QQQ\n  ${key}\n`, `AGE-SECRET-KEY-PQ-1QQQ\n  ${key}\n`, 'word'])
      assert.equal(legibleIdentity(text), text)
  })
})
