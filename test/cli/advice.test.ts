import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { machine } from '../support/cli.ts'

test('doctor shows what stages and stores advise, which fails nothing', async () => {
  const host = machine()
  writeFileSync(host.path('aes.key'), `${'k'.repeat(30)}\n`, { mode: 0o600 })
  writeFileSync(host.path('page'), 'text')
  const aespipe = { keyFile: host.path('aes.key'), unauthenticated: true }
  host.configure({
    stores: { far: { type: 'rclone', remote: host.path('far') } },
    jobs: {
      wiki: { source: { type: 'files', paths: [host.path('page')] }, to: ['far'], encryption: { aespipe } },
    },
  })
  const { out } = await host.ok(['doctor', 'wiki'])
  assert.match(out, /warn {2}stage aespipe of wiki: aespipe encrypts without authenticating: /)
  assert.match(out, /Nothing has failed\./)
  const [, minor] = /v1\.(\d+)/.exec(execFileSync('rclone', ['version']).toString()) ?? []
  const told = /warn {2}store far: rclone is older than 1\.70: it is v1\.\d+.*\n.*rclone\.org/
  if (Number(minor) < 70) assert.match(out, told)
  else assert.doesNotMatch(out, told)
})
