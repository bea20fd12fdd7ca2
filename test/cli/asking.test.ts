import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { exitCode } from '../../src/model/failure.ts'
import { type Machine, machine, privateFiles, randomFiles, tree } from '../support/cli.ts'
import { onTerminal, type Terminal } from '../support/terminal.ts'

const question = /Type "yes" to go on: /

/** A host whose restore would replace something, so that it asks. */
async function aboutToRestore(): Promise<{ host: Machine; restore: () => Promise<Terminal>; data: string }> {
  const host = machine()
  const data = randomFiles(host.path('data'), 1000)
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: { data: { source: { type: 'files', paths: [data] }, to: ['disk'] } },
  })
  await host.ok(['backup'])
  writeFileSync(`${data}/file-0`, 'changed')
  const restore = async (): Promise<Terminal> => {
    const terminal = onTerminal(host, 'restore latest')
    await terminal.shows(question)
    return terminal
  }
  return { host, restore, data }
}

test('nothing is drawn over a question, and "yes" carries the restore out', async () => {
  const { restore, data } = await aboutToRestore()
  using terminal = await restore()
  const before = terminal.shown().search(question)
  terminal.type('ye')
  await terminal.shows(/go on: .*y.*e/s)
  // The live line would come four times in this time; when it comes later than that, this test sees less.
  await sleep(1000)
  assert.ok(!terminal.shown().slice(before).includes('\x1b[2K'), JSON.stringify(terminal.shown()))
  terminal.type('s\r')
  assert.equal(await terminal.ended, exitCode.ok, terminal.shown())
  assert.notEqual(tree(data).get('file-0'), 'changed')
  assert.match(terminal.shown(), /restored/)
})

test('Ctrl-C, Ctrl-D, SIGTERM and any other answer end a question, and nothing is restored', async () => {
  const { host, restore, data } = await aboutToRestore()
  const before = tree(data)
  const ends: [end: (terminal: Terminal) => unknown, code: number, says: RegExp][] = [
    [terminal => terminal.type('\x03'), exitCode.interrupted, /stopped by SIGINT/],
    [
      terminal => terminal.type('\x04'),
      exitCode.usage,
      /no answer came: .*\r\n {2}hint: nothing was touched/,
    ],
    [terminal => process.kill(terminal.pid(), 'SIGTERM'), exitCode.terminated, /stopped by SIGTERM/],
    [terminal => terminal.type('no\r'), exitCode.usage, /nothing was touched/],
  ]
  for (const [end, code, says] of ends) {
    using terminal = await restore()
    end(terminal)
    assert.equal(await terminal.ended, code, terminal.shown())
    assert.match(terminal.shown(), says)
    assert.doesNotMatch(terminal.shown(), /internal error|AbortError|node:/)
  }
  assert.deepEqual(tree(data), before)
  assert.deepEqual(privateFiles(host), [])
})

test('init takes answers, and ends by Ctrl-C, Ctrl-D and SIGTERM without writing anything', async () => {
  const host = machine()
  const folder = randomFiles(host.path('here'), 1000)
  const before = tree(folder)
  const ends: [(terminal: Terminal) => unknown, number][] = [
    [terminal => terminal.type('\x03'), exitCode.interrupted],
    [terminal => terminal.type('\x04'), exitCode.usage],
    [terminal => process.kill(terminal.pid(), 'SIGTERM'), exitCode.terminated],
  ]
  for (const [end, code] of ends) {
    using terminal = onTerminal(host, 'init', folder)
    await terminal.shows(/What to back up/)
    end(terminal)
    assert.equal(await terminal.ended, code, terminal.shown())
    assert.doesNotMatch(terminal.shown(), /internal error|AbortError|node:/)
  }
  assert.deepEqual(tree(folder), before)
  using terminal = onTerminal(host, 'init', folder)
  await terminal.shows(/What to back up/)
  terminal.type('\r')
  await terminal.shows(/Folder to keep/)
  terminal.type(`${host.path('kept')}\r`)
  assert.equal(await terminal.ended, exitCode.ok, terminal.shown())
  assert.ok(existsSync(`${folder}/cairn.yaml`))
})
