import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { appFor } from './app.ts'
import { Config } from './config/schema.ts'
import { Failure } from './model/failure.ts'
import { openState } from './platform/state.ts'

const folder = mkdtempSync(join(tmpdir(), 'cairn-app-'))
process.on('exit', () => rmSync(folder, { recursive: true }))
const app = (config: object = {}) => appFor(Config.parse(config), openState({ CAIRN_STATE: folder }))

test('a store can be given by its address alone, and is named by it', () => {
  assert.equal(app().store('/var/backups').name, '/var/backups')
  assert.equal(
    app().store('s3://bucket/prefix?endpoint=https://s3.example').name,
    's3://bucket/prefix?endpoint=https://s3.example',
  )
  assert.equal(app().store('rclone:gdrive:backups').name, 'rclone:gdrive:backups')
})

test('an address that holds a secret is refused, or is not the name of the store', () => {
  assert.throws(
    () => app().store('s3://b/p?secretAccessKey=hunter2&accessKeyId=a'),
    (error: unknown) => {
      return (
        error instanceof Failure && error.exit === 2 && !`${error.message}${error.remedy}`.includes('hunter2')
      )
    },
  )
  assert.doesNotMatch(app().store("rclone::http,url='http://u:hunter2@host/':").name, /hunter2/)
  assert.throws(
    () => app().store("rclone::http,url='http://u:hunter2@host/"),
    (error: unknown) => error instanceof Failure && error.exit === 2 && !error.message.includes('hunter2'),
  )
})

test('a name that is neither a store nor an address is refused with the names there are', async () => {
  const stores = { disk: { type: 'local', path: '/a' } }
  assert.throws(() => app({ stores }).store('dsk'), /there are disk/)
  await assert.rejects(app().stores([]), /no store is known/)
})

test('only the engines that are used are loaded', () => {
  const script = `
    import { registerHooks } from 'node:module'
    const loaded = []
    registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) })
    const { sources } = await import(${JSON.stringify(import.meta.resolve('./sources/index.ts'))})
    await import(${JSON.stringify(import.meta.resolve('./app.ts'))})
    const engines = () => loaded.flatMap(url => /sources\\/(\\w+)\\/session\\.ts$/.exec(url)?.[1] ?? [])
    const before = engines()
    await sources.mariadb({ host: '127.0.0.1', port: 1, args: [], exclude: [] }).inspect({}).catch(() => {})
    console.log(JSON.stringify([before, engines().filter(name => !before.includes(name))]))`
  const said = execFileSync(process.execPath, ['--no-warnings', '--input-type=module', '-e', script])
  const [before, after] = JSON.parse(said.toString()) as [string[], string[]]
  for (const engine of ['postgres', 'mariadb', 'mongodb']) assert.ok(!before.includes(engine), engine)
  assert.deepEqual(after, ['mariadb'])
})
