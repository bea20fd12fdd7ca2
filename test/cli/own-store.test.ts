import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { exitCode } from '../../src/model/failure.ts'
import { machine } from '../support/cli.ts'

test('a store within what is backed up is neither backed up nor replaced, by its name, its address or through a link', async () => {
  const host = machine()
  mkdirSync(host.path('srv/app/store'), { recursive: true })
  writeFileSync(host.path('srv/app/file'), 'content')
  symlinkSync(host.path('srv'), host.path('link'))
  for (const [source, store] of [
    ['srv', 'link/app/store'],
    ['link', 'srv/app/store'],
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
    assert.equal(existsSync(join(to, 'srv/app/store')), false)
  }
  host.configure({ stores: {}, jobs: {} })
  for (const address of ['srv/app/store', 'link/app/store']) {
    const { code, stderr } = await host.run(['restore', 'latest', '--store', host.path(address), '--yes'])
    assert.equal(code, exitCode.usage)
    assert.match(stderr, /where the store .* is/)
  }
  assert.equal(readFileSync(host.path('srv/app/file'), 'utf8'), 'content')
  assert.equal(
    (await host.ok(['list', '--store', host.path('srv/app/store'), '--json'])).json<[]>().length,
    4,
  )
})
