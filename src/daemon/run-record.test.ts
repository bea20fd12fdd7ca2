import assert from 'node:assert/strict'
import { appendFileSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Secret } from '../model/secret.ts'
import { openState, type State } from '../platform/state.ts'
import { withoutSecrets } from './log-line.ts'
import { lastGoodRun, lastRun, listRuns, openRun, type RunEnd, readRun } from './run-record.ts'

const folders: string[] = []
process.on('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

function freshState(): State {
  const folder = mkdtempSync(join(tmpdir(), 'cairn-runs-'))
  folders.push(folder)
  return openState({ CAIRN_STATE: folder })
}

const good: RunEnd = {
  exit: 0,
  backups: [{ id: '20261121T020000Z-aaaaaaaa', unit: 'wiki', stores: ['disk'] }],
  failures: [],
  prune: 'done',
}
const at = (text: string): Date => new Date(`${text}Z`)

test('a run is listed with what became of it, newest first, and its log is read back', () => {
  const state = freshState()
  const first = openRun(state, 'shop', 'schedule', at('2026-11-21T02:00:00'))
  first.note({ type: 'notice', text: 'hello', job: 'shop' }, at('2026-11-21T02:00:01'))
  first.note({ type: 'progress', artifact: 'a', read: null, stored: {} }, at('2026-11-21T02:00:02'))
  first.end(good, at('2026-11-21T02:00:03'))
  const second = openRun(state, 'wiki', 'command', at('2026-11-21T03:00:00'))
  assert.deepEqual(
    listRuns(state, null).map(({ id, isRunning, end }) => [id, isRunning, end?.exit]),
    [
      [second.id, true, undefined],
      [first.id, false, 0],
    ],
  )
  assert.equal(first.text(), '2026-11-21T02:00:01Z hello')
  assert.deepEqual(
    listRuns(state, 'shop').map(({ id }) => id),
    [first.id],
  )
  assert.equal(readRun(state, first.id.slice(0, 17))?.lines.length, 3)
  assert.equal(readRun(state, '2026'), null)
  assert.equal(lastRun(state, 'wiki', at('2026-11-21T03:00:00'))?.id, second.id)
  assert.equal(lastRun(state, 'wiki', at('2026-11-21T01:00:00')), null)
  const now = at('2026-11-21T03:00:00')
  assert.deepEqual(lastGoodRun(state, ['shop', 'store'], 'disk', now), at('2026-11-21T02:00:03'))
  assert.equal(lastGoodRun(state, ['shop'], 'offsite', now), null)
  assert.equal(lastGoodRun(state, ['shop', 'store'], 'disk', at('2026-11-21T02:00:02')), null)
  assert.equal(statSync(join(state.path, 'runs')).mode & 0o777, 0o700)
  assert.equal(first.fault(), null)
})

test('a file whose first line was lost, on a full disk, is no run', () => {
  const state = freshState()
  const { id } = openRun(state, 'shop', 'schedule', at('2026-11-21T02:00:00'))
  const lost = JSON.stringify({ at: '2026-11-21T03:00:00Z', type: 'backup', id: 'x' })
  writeFileSync(
    join(state.path, 'runs', '20261121T030000Z-aaaaaaaa.shop.jsonl'),
    `{"cairn":1,"ty${lost}\n${lost}\n`,
  )
  assert.equal(lastRun(state, 'shop', at('2026-11-21T03:00:00'))?.id, id)
  assert.deepEqual(
    listRuns(state, null).map(each => each.id),
    [id],
  )
})

test('a run whose process was killed counts as neither running nor ended, whatever it left half-written', () => {
  const state = freshState()
  const run = openRun(state, 'shop', 'schedule', at('2026-11-21T02:00:00'))
  const file = join(state.path, 'runs', `${run.id}.shop.jsonl`)
  const gone = {
    cairn: 1,
    type: 'run',
    at: '2026-11-21T02:00:00Z',
    id: run.id,
    job: 'shop',
    trigger: 'schedule',
  }
  const process_ = { pid: process.pid, started: '1', host: 'x' }
  writeFileSync(file, `${JSON.stringify({ ...gone, process: process_ })}\n`)
  appendFileSync(file, '{"at":"2026-11-21T02:00:0')
  const [record] = listRuns(state, 'shop')
  assert.deepEqual([record?.isRunning, record?.end], [false, null])
  assert.equal(readRun(state, run.id)?.lines.length, 1)
})

test('a hundred runs of a job are kept, and none longer than 90 days, but the newest always', () => {
  const state = freshState()
  const start = at('2026-11-21T02:00:00').getTime()
  for (let run = 0; run < 120; run++) openRun(state, 'often', 'schedule', new Date(start + run * 1000))
  assert.equal(listRuns(state, 'often').length, 100)
  assert.equal(listRuns(state, 'often')[0]?.startedAt.getTime(), start + 119_000)
  for (const month of ['01', '02', '06']) openRun(state, 'rare', 'schedule', at(`2026-${month}-01T02:00:00`))
  assert.deepEqual(
    listRuns(state, 'rare').map(({ startedAt }) => startedAt.toISOString().slice(0, 7)),
    ['2026-06', '2026-02'],
  )
})

test('a log that grows too long is cut, and how the run ended is still told', () => {
  const state = freshState()
  const run = openRun(state, 'shop', 'schedule', at('2026-11-21T02:00:00'))
  for (let line = 0; line < 3000; line++)
    run.note({ type: 'notice', text: 'x'.repeat(1000) }, at('2026-11-21T02:00:01'))
  run.end(good, at('2026-11-21T02:00:03'))
  const [file = ''] = readdirSync(join(state.path, 'runs'))
  assert.ok(statSync(join(state.path, 'runs', file)).size < 1_100_000)
  assert.match(run.text(), /the log was cut here$/)
  assert.equal(lastRun(state, 'shop', at('2026-11-21T02:00:04'))?.end?.exit, 0)
})

test('a state folder that cannot be written is a fault of the log, not of the run', () => {
  const state = freshState()
  writeFileSync(join(state.path, 'runs'), 'not a folder')
  const run = openRun(state, 'shop', 'schedule', at('2026-11-21T02:00:00'))
  run.note({ type: 'notice', text: 'still told' }, at('2026-11-21T02:00:01'))
  run.end(good, at('2026-11-21T02:00:03'))
  assert.ok(run.fault())
  assert.match(run.text(), /still told/)
  assert.deepEqual(listRuns(state, null), [])
})

test('secrets are masked wherever they stand, and passwords in URLs that nobody named', () => {
  const event = {
    type: 'failure',
    what: 'login with hunter2',
    why: ['at postgres://me:pa%20ss@db/x'],
    count: 3,
  }
  assert.deepEqual(withoutSecrets(event, [new Secret('hunter2')]), {
    type: 'failure',
    what: 'login with ***',
    why: ['at postgres://me:***@db/x'],
    count: 3,
  })
})
