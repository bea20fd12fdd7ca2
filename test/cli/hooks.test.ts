import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { alive } from '../services/process.ts'
import { listed, type Machine, machine, randomFiles } from '../support/cli.ts'

/** A host with a job of files and hooks that write down when they ran, a word a line. */
function hooked(hooks: object, source: object = {}): { host: Machine; log: string; said: () => string[] } {
  const host = machine()
  const files = randomFiles(host.path('wiki'), 10_000)
  const log = host.path('log')
  writeFileSync(log, '')
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: { wiki: { source: { type: 'files', paths: [files], ...source }, to: ['disk'], hooks } },
  })
  return { host, log, said: () => readFileSync(log, 'utf8').split('\n').filter(Boolean) }
}

const note = (host: string, word: string): string => `echo "${word}" >> ${host}/log`

test('hooks run around the reading, know their job, and get no variable but those that were said', async () => {
  const { host, log, said } = hooked({})
  const show = `echo "$CAIRN_HOOK $CAIRN_JOB $GREETING [$HIDDEN]" >> ${log}`
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: {
      wiki: {
        source: { type: 'files', paths: [host.path('wiki')] },
        to: ['disk'],
        hooks: {
          before: [{ run: show, env: { GREETING: { env: 'HELLO' } } }],
          after: [{ run: ['sh', '-c', show] }],
          onFailure: [show],
        },
      },
    },
  })
  await host.ok(['backup'], { env: { HELLO: 'good morning', HIDDEN: 'secret' } })
  assert.deepEqual(said(), ['before wiki good morning []', 'after wiki  []'])
})

test('a before hook that fails stops the job; after and onFailure run, and are told why', async () => {
  const { host, said } = hooked({})
  const folder = host.folder
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: {
      wiki: {
        source: { type: 'files', paths: [host.path('wiki')] },
        to: ['disk'],
        hooks: {
          before: [note(folder, 'one'), 'echo the disk is not mounted; exit 3', note(folder, 'three')],
          after: [note(folder, 'after'), 'exit 1', note(folder, 'after all')],
          onFailure: [`printf '%s\\n' "$CAIRN_ERROR" >> ${folder}/log`],
        },
      },
    },
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
  const { host } = hooked({ after: ['exit 7'] })
  const ran = await host.run(['backup'])
  assert.notEqual(ran.code, 0)
  assert.match(ran.stderr, /the after hook of wiki failed: exit 7/)
})

test('a hook that takes too long is ended with all that it started', async () => {
  const { host } = hooked({})
  const pidFile = host.path('pid')
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: {
      wiki: {
        source: { type: 'files', paths: [host.path('wiki')] },
        to: ['disk'],
        hooks: { before: [{ run: `sleep 600 & echo $! > ${pidFile}; wait`, timeout: '1s' }] },
      },
    },
  })
  const ran = await host.run(['backup'])
  assert.equal(ran.code, 1)
  assert.match(ran.stderr, /it took longer than 1 s, and was ended/)
  assert.equal(alive(Number(readFileSync(pidFile, 'utf8'))), false)
})

test('when Cairn is killed between before and after, the next run begins with after', async () => {
  const { host, said } = hooked({})
  const folder = host.folder
  const configure = (before: string[]): void =>
    host.configure({
      stores: { disk: { type: 'local', path: host.path('disk') } },
      jobs: {
        wiki: {
          source: { type: 'files', paths: [host.path('wiki')] },
          to: ['disk'],
          hooks: { before, after: [note(folder, 'after')] },
        },
      },
    })
  configure([note(folder, 'before'), 'exec sleep 600'])
  const running = host.start(['backup'])
  while (!said().includes('before')) await sleep(20)
  running.child.kill('SIGKILL')
  await running.ended
  assert.deepEqual(said(), ['before'])
  configure([note(folder, 'before')])
  await host.ok(['backup'])
  assert.deepEqual(said(), ['before', 'after', 'before', 'after'])
  await host.ok(['backup'])
  assert.deepEqual(said().slice(4), ['before', 'after'])
})
