import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { test } from 'node:test'
import { toolVersion } from '../src/model/version.ts'

/** The rules of docs/architecture.md: who may import whom, and why. A test may import what it tests and what it needs. */
const root = resolve(import.meta.dirname, '..')

/** Which rooms a room may import from, besides itself. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  'main.ts': ['cli'],
  cli: ['app.ts', 'config', 'daemon', 'engine', 'model', 'platform', 'stages'],
  daemon: ['app.ts', 'engine', 'model', 'platform'],
  'app.ts': ['config', 'containers', 'engine', 'model', 'notifiers', 'platform', 'stages', 'wiring'],
  wiring: ['config', 'containers', 'engine', 'model', 'platform', 'sources', 'stages', 'stores'],
  config: ['model', 'notifiers', 'platform', 'sources', 'stages', 'stores'],
  engine: ['model', 'platform'],
  containers: ['model', 'platform'],
  sources: ['model', 'platform'],
  stages: ['model', 'platform'],
  stores: ['model', 'platform'],
  notifiers: ['model', 'platform'],
  platform: ['model'],
  model: [],
}

const reasons: Readonly<Record<string, string>> = {
  engine:
    'the engine is handed its adapters: it must work with any store, and with none but the memory one in a test',
  model: 'the nouns stand alone: whoever reads them must not need to know what does the work',
  containers: 'an adapter knows its product only: Docker',
  sources: 'an adapter knows its product only: what two adapters share belongs to model or platform',
  stores: 'an adapter knows its product only: what two adapters share belongs to model or platform',
  notifiers: 'an adapter knows its product only: what two adapters share belongs to model or platform',
  daemon: 'when things run, and what is told about it, is decided without knowing any adapter',
  stages: 'an adapter knows its product only: what two adapters share belongs to model or platform',
  platform: 'platform knows no product and no verb, so that every room can build on it',
  config: 'the configuration knows the options of the adapters, and does nothing with them',
  cli: 'people see what the engine did; the work itself is not done here',
}

function files(): string[] {
  return globSync('src/**/*.ts', { cwd: root }).filter(file => !file.endsWith('.test.ts'))
}

function importsOf(file: string): { path: string; line: number }[] {
  const lines = readFileSync(join(root, file), 'utf8').split('\n')
  return lines.flatMap((text, index) => {
    const path = /(?:from|import\()\s*'(\.[^']+)'/.exec(text)?.[1]
    return path ? [{ path: relative(root, resolve(root, dirname(file), path)), line: index + 1 }] : []
  })
}

/** `src/stores/s3/index.ts` is in the room `stores`; `src/app.ts` is a room of its own. */
function roomOf(file: string): string {
  return file.split('/')[1] ?? ''
}

test('every import goes where the architecture allows', () => {
  const broken = files().flatMap(file =>
    importsOf(file)
      .filter(({ path }) => roomOf(path) !== roomOf(file) && !allowed[roomOf(file)]?.includes(roomOf(path)))
      .map(
        ({ path, line }) =>
          `${file}:${line} imports ${path}: ${reasons[roomOf(file)] ?? 'see docs/architecture.md'}`,
      ),
  )
  assert.deepEqual(broken, [])
})

test('adapters do not import one another; only the lists and the combinators know several', () => {
  const adapter = (file: string): string => file.split('/')[2]?.replace(/\.ts$/, '') ?? ''
  const broken = files()
    .filter(
      file => ['sources', 'stages', 'stores', 'notifiers'].includes(roomOf(file)) && !lists.includes(file),
    )
    .flatMap(file =>
      importsOf(file)
        .filter(({ path }) => roomOf(path) === roomOf(file) && !sameAdapter(adapter(file), adapter(path)))
        .map(
          ({ path, line }) =>
            `${file}:${line} imports ${path}: what two adapters share belongs to model or platform`,
        ),
    )
  assert.deepEqual(broken, [])
})

/** The lists, and what chooses among the stages and their keys. */
const lists = ['sources', 'stages', 'stores', 'notifiers'].map(room => `src/${room}/index.ts`)
lists.push('src/stages/choose.ts', 'src/stages/options.ts', 'src/stages/keys.ts')

/** `zstd-frames` is part of `zstd`; `duplex` and `detect` are what stages share about streams and formats. */
function sameAdapter(left: string, right: string): boolean {
  return left === right || left.split('-')[0] === right.split('-')[0] || ['duplex', 'detect'].includes(right)
}

test('only main.ts ends the process, and only main.ts and the command line write to stdout', () => {
  const broken = files()
    .filter(file => file !== 'src/main.ts' && !file.startsWith('src/cli/'))
    .filter(file => /process\.(exit\(|stdout)|console\./.test(readFileSync(join(root, file), 'utf8')))
  assert.deepEqual(broken, [])
})

test('programs are started in one place only, where they are grouped, gated and given no secret by argument', () => {
  const allowedFiles = ['src/platform/program.ts', 'src/platform/secret-source.ts', 'src/cli/demo.ts']
  const broken = files()
    .filter(file => !allowedFiles.includes(file))
    .filter(file => /from 'node:child_process'/.test(readFileSync(join(root, file), 'utf8')))
  assert.deepEqual(broken, [])
})

test('the version of the program is the version of the package', () => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  assert.equal(toolVersion, version)
})

test('tests run on the Node.js that npm ci brings', () => {
  assert.ok(Number(process.versions.node.split('.')[0]) >= 24, process.version)
})
