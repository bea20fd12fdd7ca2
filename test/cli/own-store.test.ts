import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { exitCode } from '../../src/model/failure.ts'
import { machine } from '../support/cli.ts'

test('a store within what is backed up is neither backed up nor replaced, by its name, its address or through a link', async () => {
  const host = machine()
  mkdirSync(host.path('srv/app/store'), { recursive: true })
  writeFileSync(host.path('srv/app/file'), 'content')
  symlinkSync(host.path('srv'), host.path('link'))
  const local = (path: string) => ({ type: 'local', path: host.path(path) })
  const job = (path: string, to: string) => ({
    source: { type: 'files', paths: [{ path: host.path(path), name: 'srv' }] },
    to: [to],
  })
  host.configure({
    stores: { linked: local('link/app/store'), plain: local('srv/app/store') },
    jobs: { one: job('srv', 'linked'), other: job('link', 'plain') },
  })
  await host.ok(['backup'])
  await host.ok(['backup'])
  for (const name of ['one', 'other']) {
    const to = host.path(`copy of ${name}`)
    await host.ok(['restore', `${name}@latest`, '--store', 'plain', '--to', to])
    assert.deepEqual(readdirSync(join(to, 'srv/app')), ['file'])
  }
  host.configure({ stores: {}, jobs: {} })
  for (const address of ['srv/app/store', 'link/app/store']) {
    const { code, stderr } = await host.run(['restore', 'one@latest', '--store', host.path(address), '--yes'])
    assert.equal(code, exitCode.usage)
    assert.match(stderr, /where the store .* is/)
  }
  assert.equal(readFileSync(host.path('srv/app/file'), 'utf8'), 'content')
  assert.equal(
    (await host.ok(['list', '--store', host.path('srv/app/store'), '--json'])).json<[]>().length,
    4,
  )
})
