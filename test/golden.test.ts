import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, globSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { exitCode } from '../src/model/failure.ts'
import { freshFolder } from './services/index.ts'
import { machine } from './support/cli.ts'

/**
 * Backups of format version 1, kept for good (test/fixtures/README.md): every later Cairn lists, verifies and restores them,
 * from the store and the key alone, with the usual programs and without any.
 */
const fixtures = resolve(import.meta.dirname, 'fixtures', 'v1')
const key = join(fixtures, 'key.txt')
const good = ['sqlite-zstd-age', 'sqlite-plain', 'sqlite-many-frames', 'files-zstd-age-split']

/** A copy of a fixture, because verifying writes a mark. */
async function copyOf(name: string): Promise<string> {
  const store = join(await freshFolder(), 'store')
  cpSync(join(fixtures, name, 'store'), store, { recursive: true })
  return store
}

/** A PATH with nothing of ours but tar: what a machine with Node.js alone has. */
async function bareTools(): Promise<string> {
  const folder = join(await freshFolder(), 'bin')
  mkdirSync(folder)
  for (const tool of ['tar', 'sh', 'dirname', 'readlink', 'head', 'cp', 'env', 'setpriv']) {
    const path = execFileSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).trim()
    symlinkSync(path, join(folder, tool))
  }
  return folder
}

function sameDatabase(path: string): void {
  const rows = (file: string): unknown[] => {
    const db = new DatabaseSync(file, { readOnly: true })
    try {
      return [
        ...db.prepare('SELECT sql FROM sqlite_schema').all(),
        ...db.prepare('SELECT * FROM pages').all(),
      ]
    } finally {
      db.close()
    }
  }
  assert.deepEqual(rows(path), rows(join(fixtures, 'expected', 'wiki.db')))
}

async function sameFolder(path: string): Promise<void> {
  // git keeps neither times nor empty folders: names, bytes, links and the rest of the modes are compared.
  const script =
    'cd "$1" && find . -type f -exec sha256sum {} + | sort; find . -type l -printf "%p %l\\n" | sort'
  const look = (folder: string): string =>
    execFileSync('sh', ['-c', script, '-', folder], { encoding: 'utf8' })
  assert.equal(look(path), look(join(fixtures, 'expected', 'docs')))
}

for (const name of good) {
  for (const tools of ['the usual programs', 'Node.js alone'] as const) {
    test(`${name} is listed, verified and restored with ${tools}`, async () => {
      const store = await copyOf(name)
      const env = tools === 'Node.js alone' ? { PATH: await bareTools() } : {}
      const listed = await machine().run(['list', '--store', store, '--json'], { env })
      assert.equal(listed.json<unknown[]>().length, 1, listed.stderr)
      const verified = await machine().run(['verify', '--store', store, '--identity', key], { env })
      assert.equal(verified.code, exitCode.ok, verified.stderr)
      const to = join(await freshFolder(), 'restored')
      mkdirSync(to)
      const restored = await machine().run(
        ['restore', 'latest', '--store', store, '--identity', key, '--to', to, '--yes'],
        { env },
      )
      assert.equal(restored.code, exitCode.ok, restored.stderr)
      if (name.startsWith('sqlite')) sameDatabase(join(to, 'wiki.db'))
      else await sameFolder(join(to, 'docs'))
    })
  }

  test(`${name} comes back by pasting the lines of show into sh`, async () => {
    const store = await copyOf(name)
    const shown = await machine().run(['show', 'latest', '--store', store, '--identity', key, '--json'])
    const { commands } = shown.json<{ commands: Record<string, string> }>()
    const folder = await freshFolder()
    for (const command of Object.values(commands)) execFileSync('sh', ['-c', command], { cwd: folder })
    if (name.startsWith('sqlite')) return sameDatabase(join(folder, 'wiki.db'))
    mkdirSync(join(folder, 'docs'))
    execFileSync('tar', ['-xf', 'docs.tar', '-C', 'docs'], { cwd: folder })
    await sameFolder(join(folder, 'docs'))
  })
}

for (const name of [
  'damaged-truncated',
  'damaged-flipped-bit',
  'damaged-object-missing',
  'damaged-manifest-changed',
]) {
  test(`${name}: verify and restore say damage, and nothing is restored`, async () => {
    const store = await copyOf(name)
    const verified = await machine().run(['verify', '--store', store, '--identity', key])
    assert.equal(verified.code, exitCode.damaged, verified.stderr)
    const to = join(await freshFolder(), 'wiki.db')
    const restored = await machine().run([
      'restore',
      'latest',
      '--store',
      store,
      '--identity',
      key,
      '--to',
      to,
    ])
    assert.equal(restored.code, exitCode.damaged, restored.stderr)
    assert.deepEqual(globSync('*', { cwd: dirname(to) }), [])
  })
}

test('unfinished-manifest-missing: there is no backup', async () => {
  const listed = await machine().run([
    'list',
    '--store',
    await copyOf('unfinished-manifest-missing'),
    '--json',
  ])
  assert.deepEqual(listed.json(), [])
})

test('newer-format: it is refused, and the newer Cairn is named', async () => {
  const shown = await machine().run(['show', 'latest', '--store', await copyOf('newer-format')])
  assert.notEqual(shown.code, exitCode.ok)
  assert.match(shown.stderr, /cannot read the manifest.* version 2.*\n {2}hint: use a newer Cairn/)
  // It is no damage.
  const verified = await machine().run(['verify', '--store', await copyOf('newer-format')])
  assert.deepEqual([verified.code, /damaged/.test(verified.stderr)], [exitCode.failed, false])
})

test('the fixtures are the ones that were made with version 1', () => {
  const files = readdirSync(fixtures, { recursive: true, withFileTypes: true }).filter(file => file.isFile())
  const digests = files.map(file => {
    const path = join(file.parentPath, file.name)
    return `${relative(fixtures, path)} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`
  })
  const all = createHash('sha256').update(digests.sort().join('\n')).digest('hex')
  assert.equal(
    all,
    '875b492150a2c0c49a552411fdf440107d5520a860bff0b997149d62e7e6df4a',
    'a fixture was changed, lost or added: they are kept as they are',
  )
})
