import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { exitCode } from '../../src/model/failure.ts'
import { machine } from '../support/cli.ts'
import { mounted } from '../support/places.ts'

test('a store within what is backed up is neither backed up nor replaced, by its name, its address or through a link', async () => {
  const host = machine()
  mkdirSync(host.path('srv/app/[s]tore*'), { recursive: true })
  writeFileSync(host.path('srv/app/file'), 'content')
  symlinkSync(host.path('srv'), host.path('link'))
  for (const [source, store] of [
    ['srv', 'link/app/[s]tore*'],
    ['link', 'srv/app/[s]tore*'],
  ] as const) {
    const paths = [{ path: host.path(source), name: 'srv' }]
    host.configure({
      stores: { disk: { type: 'local', path: host.path(store) } },
      jobs: { own: { source: { type: 'files', paths }, to: ['disk'] } },
    })
    await host.ok(['backup'])
    await host.ok(['backup'])
    const to = host.path(`copy of ${source}`)
    await host.ok(['restore', 'latest', '--to', to])
    assert.equal(existsSync(join(to, 'srv/app/[s]tore*')), false)
  }
  host.configure({ stores: {}, jobs: {} })
  for (const address of ['srv/app/[s]tore*', 'link/app/[s]tore*']) {
    const { code, stderr } = await host.run(['restore', 'latest', '--store', host.path(address), '--yes'])
    assert.equal(code, exitCode.usage)
    assert.match(stderr, /where the store .* is/)
  }
  assert.equal(readFileSync(host.path('srv/app/file'), 'utf8'), 'content')
  assert.equal(
    (await host.ok(['list', '--store', host.path('srv/app/[s]tore*'), '--json'])).json<[]>().length,
    4,
  )
})

test('a store is known where a mount shows it within what is backed up, also before it is there', async t => {
  const host = machine()
  mkdirSync(host.path('disk/app'), { recursive: true })
  writeFileSync(host.path('disk/app/file'), 'content')
  const data = mounted(t, '--bind', host.path('disk'))
  if (!data) return
  const paths = [{ path: data, name: 'data' }]
  const disk = { type: 'local', path: host.path('disk/app/[s]tore*') }
  host.configure({ stores: { disk }, jobs: { own: { source: { type: 'files', paths }, to: ['disk'] } } })
  for (const to of [host.path('first'), host.path('second')]) {
    await host.ok(['backup'])
    await host.ok(['restore', 'latest', '--to', to])
    assert.deepEqual(readdirSync(join(to, 'data/app')), ['file'])
  }
  const { code, stderr } = await host.run(['restore', 'latest', '--yes'])
  assert.equal(code, exitCode.usage)
  assert.ok(stderr.includes(`where the store ${join(data, 'app/[s]tore*')} is`), stderr)
  assert.equal((await host.ok(['list', '--json'])).json<[]>().length, 2)
})
