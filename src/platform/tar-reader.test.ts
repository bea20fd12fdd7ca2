import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { NotWhole } from '../model/content.ts'
import type { Bytes } from '../model/step.ts'
import { tarMembers } from './tar-reader.ts'

const dir = mkdtempSync(join(tmpdir(), 'cairn-tar-reader-'))
process.on('exit', () => rmSync(dir, { recursive: true, force: true }))
const deep = `${'d'.repeat(90)}/${'e'.repeat(90)}`
const longName = `${deep}/${'é😀'.repeat(20)}`
mkdirSync(join(dir, deep), { recursive: true })
writeFileSync(join(dir, 'empty'), '')
writeFileSync(join(dir, 'one block'), Buffer.alloc(512, 'x'))
writeFileSync(join(dir, 'odd'), Buffer.alloc(70_001, 'y'))
writeFileSync(join(dir, longName), 'long')
writeFileSync(join(dir, 'holes'), 'begin')
truncateSync(join(dir, 'holes'), 50_000_000)
writeFileSync(join(dir, 'holes'), 'end', { flag: 'a' })
symlinkSync('odd', join(dir, 'to odd'))
linkSync(join(dir, 'odd'), join(dir, 'the same'))
const names = ['empty', 'one block', 'odd', 'the same', 'to odd', longName]

function tarOf(...args: string[]): Buffer {
  return execFileSync('tar', ['--create', '--file=-', `--directory=${dir}`, ...args], {
    maxBuffer: 2 ** 27,
  })
}

/** In chunks whose ends fall anywhere. */
async function* chunks(bytes: Uint8Array, size: number): Bytes {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

/** Name and length of what was really read. */
async function listed(bytes: Uint8Array, size = 999): Promise<[string, number][]> {
  const found: [string, number][] = []
  for await (const { name, body } of tarMembers(chunks(bytes, size))) {
    let length = 0
    for await (const chunk of body) length += chunk.byteLength
    found.push([name, length])
  }
  return found
}

for (const format of ['gnu', 'posix', 'ustar', 'v7'] as const) {
  test(`the members of a tar that GNU tar wrote are read, in the format ${format}`, async () => {
    // The older formats have no room for the long name.
    const put = names.slice(0, format === 'ustar' || format === 'v7' ? -1 : undefined)
    const tar = tarOf(`--format=${format}`, '--', ...put)
    const sizes = [0, 512, 70_001, 0, 0, 4]
    for (const size of [1, 511, 10_240, tar.length])
      assert.deepEqual(
        await listed(tar, size),
        put.map((name, index) => [name, sizes[index]]),
      )
  })
}

test('of a file with holes, what the archive holds of it is passed over, in every format of GNU tar', async () => {
  for (const options of [['--format=gnu'], ['--format=posix'], ['--format=posix', '--sparse-version=0.1']]) {
    const tar = tarOf('--sparse', ...options, 'holes', 'one block')
    const found = await listed(tar)
    assert.deepEqual(found.at(-1), ['one block', 512], options.join(' '))
    assert.equal(found.length, 2)
  }
})

test('a member that nobody reads, or reads in part, is passed over', async () => {
  const found: string[] = []
  for await (const { name, body } of tarMembers(chunks(tarOf('odd', 'one block', 'empty'), 700))) {
    found.push(name)
    if (name === 'odd') for await (const _ of body) break
  }
  assert.deepEqual(found, ['odd', 'one block', 'empty'])
})

test('a tar that was cut anywhere before its end is not whole', async () => {
  const tar = tarOf('--format=posix', '--', ...names)
  // The last byte of the last member, and its padding.
  const end = Math.ceil(tar.findLastIndex(byte => byte !== 0) / 512) * 512
  for (let length = 0; length < end + 512; length += length % 512 === 0 ? 511 : 1)
    await assert.rejects(listed(tar.subarray(0, length), 65_536), NotWhole, `${length}`)
  assert.equal((await listed(tar.subarray(0, end + 512))).length, names.length)
})

test('what is no tar is none, from the first block on or later', async () => {
  const text = Buffer.from('-- PostgreSQL database dump\n'.repeat(1000))
  for (const bytes of [Buffer.alloc(0), Buffer.from('x'), text, Buffer.alloc(100_000, 'z')])
    await assert.rejects(listed(bytes), NotWhole)
  const tar = tarOf('one block', 'odd')
  await assert.rejects(listed(Buffer.concat([tar.subarray(0, 1024), text])), /it is no tar/)
})

test('what the input throws passes through as it is', async () => {
  async function* failing(): Bytes {
    yield tarOf('odd').subarray(0, 5000)
    throw new Error('the store is gone')
  }
  await assert.rejects(async () => {
    for await (const _ of tarMembers(failing()));
  }, /the store is gone/)
})
