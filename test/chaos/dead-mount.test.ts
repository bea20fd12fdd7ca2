import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { exitCode } from '../../src/model/failure.ts'
import { machine, randomFiles } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { isRoot } from '../support/places.ts'

/** A folder on a file system of rclone's, and what lets it answer nobody any more; null, and the test skipped, where nobody may mount one. */
async function remoteFolder(t: TestContext, from: string): Promise<{ path: string; die(): void } | null> {
  if (!isRoot || !existsSync('/dev/fuse')) {
    t.skip('a file system of a program can be mounted by root only, where there is /dev/fuse')
    return null
  }
  const path = mkdtempSync(join(tmpdir(), 'cairn-remote-'))
  const server = spawn('rclone', [
    'mount',
    '--vfs-cache-mode',
    'writes',
    '--cache-dir',
    `${from}.cache`,
    from,
    path,
  ])
  let said = ''
  server.stderr.on('data', text => {
    said += text
  })
  t.after(async () => {
    server.kill('SIGCONT')
    execFileSync('umount', ['--lazy', path])
    server.kill()
    await eventually('rclone has ended', () => server.exitCode !== null || server.signalCode !== null)
    rmdirSync(path)
  })
  await eventually('it is mounted', () => {
    assert.equal(server.exitCode, null, said)
    return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${path} `)
  })
  return { path, die: () => server.kill('SIGSTOP') }
}

test('a mount whose server is gone holds nothing up: the other stores are read, written and restored from', async t => {
  const host = machine()
  mkdirSync(host.path('remote'))
  const mount = await remoteFolder(t, host.path('remote'))
  if (!mount) return
  const files = randomFiles(host.path('wiki'), 10_000)
  const nas = join(mount.path, 'store')
  const job = { source: { type: 'files', paths: [files] }, to: ['nas', 'disk'], stall: '10 s' }
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') }, nas: { type: 'local', path: nas } },
    jobs: { wiki: job, other: job },
  })
  await host.ok(['backup', 'wiki'])
  mount.die()

  const [listed, restored, backedUp, doctor, addressed, pruned] = await Promise.all([
    host.run(['list']),
    host.run(['restore', 'latest', '--to', host.path('out')]),
    host.run(['backup', 'wiki']),
    host.run(['doctor']),
    host.run(['list', '--store', nas]),
    host.run(['prune', 'other']),
  ])
  assert.equal(listed.code, exitCode.partial)
  assert.match(listed.stderr, /store nas does not answer/)
  assert.match(listed.out, /wiki/)
  assert.equal(restored.code, exitCode.ok, restored.stderr)
  assert.ok(existsSync(host.path('out/wiki')))
  assert.equal(backedUp.code, exitCode.partial, backedUp.stderr)
  assert.match(backedUp.stderr, /backed up wiki .* to disk/)
  assert.equal(doctor.code, exitCode.failed)
  assert.match(doctor.out, /FAIL +store nas: reachable/i)
  assert.match(doctor.out, /ok +store disk: write/)
  assert.equal(addressed.code, exitCode.failed, addressed.stderr)
  assert.match(addressed.stderr, /has stalled/)
  assert.equal(pruned.code, exitCode.partial, pruned.stderr)

  const waiting = host.start(['verify', '--store', nas])
  await new Promise(resolve => setTimeout(resolve, 1_000))
  waiting.child.kill('SIGTERM')
  assert.equal((await waiting.ended).code, exitCode.terminated)
})
