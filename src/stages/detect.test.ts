import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { collect, inChunks, sampleBytes, seeded } from '../../test/support/samples.ts'
import { detect, headBytes, peek } from './detect.ts'

const dir = mkdtempSync(join(tmpdir(), 'cairn-detect-'))
after(() => rmSync(dir, { recursive: true }))
writeFileSync(join(dir, 'file'), 'content')

function run(command: string): Buffer {
  return execFileSync('bash', ['-c', command], {
    cwd: dir,
    env: { PATH: process.env.PATH, HOME: dir },
    stdio: 'pipe',
  })
}

const symmetric = 'gpg --batch --pinentry-mode loopback --passphrase x --s2k-count 65536'

test('what each program writes is told by its first bytes', () => {
  const recipient = 'age -r "$(ssh-keygen -q -t ed25519 -N "" -f k <<< y > /dev/null; cat k.pub)"'
  const table: [format: string, command: string][] = [
    ['age', `${recipient} file`],
    ['armored age', `${recipient} -a file`],
    ['OpenPGP', `${symmetric} -c < file; gpgconf --kill all`],
    ['armored OpenPGP', `${symmetric} --armor -c < file; gpgconf --kill all`],
    ['gzip', 'igzip -c < file'],
    ['zstd', 'zstd -c < file'],
    ['bzip2', 'bzip2 -c < file'],
    ['xz', 'xz -c < file'],
    ['tar', 'tar -c file'],
    ['SQLite', 'sqlite3 t.db "create table t(a)"; cat t.db'],
    ['SQL', 'sqlite3 t.db .dump'],
    ['SQL', 'printf -- "--\\n-- PostgreSQL database dump\\n--\\n\\nSET statement_timeout = 0;\\n"'],
    ['SQL', 'printf "/*M!999999\\\\- enable the sandbox mode */ \\n-- MariaDB dump 10.19\\n"'],
    ['pg_dump', 'printf "PGDMP\\1\\16\\0"'],
  ]
  for (const [format, command] of table)
    assert.equal(detect(run(command).subarray(0, headBytes)), format, command)
})

test('a public key message of OpenPGP is told too, in both forms of its packet', () => {
  for (const head of [
    [0x85, 0x01, 0x8c, 3],
    [0xc1, 0xc0, 0x4c, 3],
    [0x84, 0x5e, 3],
    [0x8c, 0x0d, 4, 9],
    [0xc3, 0x0d, 4, 9],
  ])
    assert.equal(detect(Buffer.from([...head, 1, 2, 3])), 'OpenPGP', `${head}`)
})

test('noise, text and nothing are no format', () => {
  for (let seed = 0; seed < 50; seed++) {
    const found = detect(sampleBytes(seeded(seed), 512))
    assert.ok(found === null || found === 'OpenPGP', `${found}`)
  }
  for (const text of ['', '\x1f', 'hello', 'PG', '\0'.repeat(512)])
    assert.equal(detect(Buffer.from(text, 'latin1')), null)
})

test('who peeks at a stream still reads all of it, however its chunks fall', async () => {
  for (const [size, count] of [
    [0, 1],
    [1, 1],
    [511, 600],
    [5000, 7000],
    [100_000, 3],
  ] as const) {
    const bytes = sampleBytes(seeded(size), size)
    const { head, whole } = await peek(inChunks(bytes, seeded(1), count), 512)
    assert.ok(head.equals(bytes.subarray(0, head.length)) && head.length >= Math.min(size, 512))
    assert.ok((await collect(whole)).equals(bytes))
  }
})

test('a stream that is returned after the look at its beginning is ended', async () => {
  let isEnded = false
  async function* endless() {
    try {
      for (;;) yield Buffer.alloc(100)
    } finally {
      isEnded = true
    }
  }
  const { whole } = await peek(endless(), 512)
  await whole.return()
  assert.equal(isEnded, true)
})
