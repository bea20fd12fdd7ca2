import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { exitCode } from '../../src/model/failure.ts'
import { type Machine, machine } from '../support/cli.ts'

/** A host that backs up a folder in which its own store lies. */
function host(store: string): Machine {
  const here = machine()
  const wiki = here.path('wiki')
  mkdirSync(join(wiki, 'sub'), { recursive: true })
  writeFileSync(join(wiki, 'sub', 'page'), 'first')
  here.configure({
    stores: { disk: { type: 'local', path: join(wiki, store) } },
    jobs: { wiki: { source: { type: 'files', paths: [wiki] }, to: ['disk'] } },
  })
  return here
}

test('a store inside the folder that is backed up is not backed up itself, and stays when the folder is restored', async () => {
  const here = host('backups')
  await here.ok(['backup'])
  await here.ok(['backup'])
  writeFileSync(here.path('wiki', 'sub', 'page'), 'spoilt')
  await here.ok(['restore', 'latest', '--yes'])
  assert.equal(readFileSync(here.path('wiki', 'sub', 'page'), 'utf8'), 'first')
  assert.equal((await here.ok(['list', '--json'])).json<unknown[]>().length, 2)
  await here.ok(['verify'])
  const out = here.path('out')
  await here.ok(['restore', 'latest', '--to', out])
  assert.equal(existsSync(join(out, 'wiki', 'backups')), false)
})

test('a restore that would replace a folder with the store in it is refused, and nothing is touched', async () => {
  const here = host('sub/backups')
  await here.ok(['backup'])
  writeFileSync(here.path('wiki', 'sub', 'page'), 'spoilt')
  const ran = await here.run(['restore', 'latest', '--yes'])
  assert.equal(ran.code, exitCode.usage, ran.stderr)
  assert.match(ran.stderr, /where the store .* is/)
  assert.equal(readFileSync(here.path('wiki', 'sub', 'page'), 'utf8'), 'spoilt')
  await here.ok(['verify'])
})

test('verifying a store in which nothing is, is no success', async () => {
  const here = host('backups')
  assert.equal((await here.run(['verify'])).code, exitCode.noSuchBackup)
})
