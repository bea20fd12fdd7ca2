import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { alive } from '../services/process.ts'
import { listed, machine, randomFiles } from '../support/cli.ts'

/** A host with a job of files whose hooks can be set; what they write down in `log`, a line each, is what was said. */
function hooked() {
  const host = machine()
  const files = randomFiles(host.path('wiki'), 10_000)
  const log = host.path('log')
  writeFileSync(log, '')
  const configure = (hooks: object): void =>
    host.configure({
      stores: { disk: { type: 'local', path: host.path('disk') } },
      jobs: { wiki: { source: { type: 'files', paths: [files] }, to: ['disk'], hooks } },
    })
  const said = (): string[] => readFileSync(log, 'utf8').split('\n').filter(Boolean)
  return { host, log, configure, said }
}

const note = (log: string, word: string): string => `echo "${word}" >> ${log}`

test('hooks run around the reading, know their job, and get no variable but those that were said', async () => {
  const { host, log, configure, said } = hooked()
  const show = `echo "$CAIRN_HOOK $CAIRN_JOB $GREETING [$HIDDEN]" >> ${log}`
  configure({
    before: [{ run: show, env: { GREETING: { env: 'HELLO' } } }],
    after: [{ run: ['sh', '-c', show] }],
    onFailure: [show],
  })
  await host.ok(['backup'], { env: { HELLO: 'good morning', HIDDEN: 'secret' } })
  assert.deepEqual(said(), ['before wiki good morning []', 'after wiki  []'])
})

test('a before hook that fails stops the job; after and onFailure run, and are told why', async () => {
  const { host, log, configure, said } = hooked()
  configure({
    before: [note(log, 'one'), 'echo the disk is not mounted; exit 3', note(log, 'three')],
    after: [note(log, 'after'), 'exit 1', note(log, 'after all')],
    onFailure: [`printf '%s\\n' "$CAIRN_ERROR" >> ${log}`],
  })
  const ran = await host.run(['backup'])
  assert.equal(ran.code, 1, ran.stderr)
  const [one, after, all, ...error] = said()
  assert.deepEqual([one, after, all], ['one', 'after', 'after all'])
  assert.match(
    error.join('\n'),
    /the before hook of wiki failed: .*: the disk is not mounted \(exit code 3\)/,
  )
  assert.deepEqual(await listed(host), [])
})

test('an after hook that fails is a failure though the backup is whole', async () => {
  const { host, configure } = hooked()
  configure({ after: ['exit 7'] })
  const ran = await host.run(['backup'])
  assert.notEqual(ran.code, 0)
  assert.match(ran.stderr, /the after hook of wiki failed: exit 7/)
})

test('a hook that takes too long is ended with all that it started', async () => {
  const { host, configure } = hooked()
  const pidFile = host.path('pid')
  configure({ before: [{ run: `sleep 600 & echo $! > ${pidFile}; wait`, timeout: '4s' }] })
  const ran = await host.run(['backup'])
  assert.equal(ran.code, 1)
  assert.match(ran.stderr, /it took longer than 4 s, and was ended/)
  assert.equal(alive(Number(readFileSync(pidFile, 'utf8'))), false)
})

test('when Cairn is killed between before and after, the next run begins with after', async () => {
  const { host, log, configure, said } = hooked()
  const after = [note(log, 'after')]
  configure({ before: [note(log, 'before'), 'exec sleep 600'], after })
  const running = host.start(['backup'])
  while (!said().includes('before')) await sleep(20)
  running.child.kill('SIGKILL')
  await running.ended
  assert.deepEqual(said(), ['before'])
  configure({ before: [note(log, 'before')], after })
  await host.ok(['backup'])
  assert.deepEqual(said(), ['before', 'after', 'before', 'after'])
  await host.ok(['backup'])
  assert.deepEqual(said().slice(4), ['before', 'after'])
})

test('a terminal that is closed ends a backup as SIGTERM does, told twice too: what was stopped is started again; nohup goes on', async () => {
  const { host, log, configure, said } = hooked()
  const go = host.path('go')
  const waits = `until [ -e ${go} ]; do sleep 0.05; done`
  configure({ before: [note(log, 'before'), waits], after: [note(log, 'after')] })
  const running = host.start(['backup'])
  while (!said().includes('before')) await sleep(20)
  running.child.kill('SIGHUP')
  running.child.kill('SIGHUP')
  await running.said(/interrupted/)
  running.child.kill('SIGHUP')
  const ran = await running.ended
  assert.deepEqual([ran.code, said()], [143, ['before', 'after']], ran.stderr)

  const kept = host.start(['backup'], { by: ['nohup'] })
  while (said().length < 3) await sleep(20)
  kept.child.kill('SIGHUP')
  writeFileSync(go, '')
  const whole = await kept.ended
  assert.deepEqual([whole.code, said().slice(2)], [0, ['before', 'after']], whole.stderr)
})
