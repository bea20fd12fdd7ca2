import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { exitCode } from '../../src/model/failure.ts'
import { machine } from '../support/cli.ts'
import { hostileBytes } from '../support/store-contract.ts'

test('a single file comes back where it was, with its rights, or where a person says', async () => {
  const host = machine()
  const path = host.path('ä secret\n.bin')
  const bytes = hostileBytes(300_000)
  writeFileSync(path, bytes)
  chmodSync(path, 0o600)
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: { one: { source: { type: 'file', path }, to: ['disk'] } },
  })
  await host.ok(['backup'])
  const isBack = (at: string): void => {
    assert.deepEqual(readFileSync(at), bytes)
    assert.equal(statSync(at).mode & 0o7777, 0o600)
  }
  writeFileSync(path, 'changed')
  assert.equal((await host.run(['restore', 'latest'])).code, exitCode.usage)
  assert.equal(readFileSync(path, 'utf8'), 'changed')
  await host.ok(['restore', 'latest', '--yes'])
  isBack(path)
  rmSync(path)
  await host.ok(['restore', 'latest'])
  isBack(path)
  mkdirSync(host.path('folder'))
  await host.ok(['restore', 'latest', '--to', host.path('folder')])
  isBack(host.path('folder', 'ä secret\n.bin'))
  await host.ok(['restore', 'latest', '--to', host.path('new/other')])
  isBack(host.path('new/other'))
  assert.equal((await host.run(['restore', 'latest', '--to', 'http://u:p@h/x'])).code, exitCode.usage)
})
