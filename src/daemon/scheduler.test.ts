import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type FakeTimer, fakeTimer } from '../../test/support/fake-timer.ts'
import type { RunEvent } from '../model/event.ts'
import { openState, type State } from '../platform/state.ts'
import { keepSchedule } from './scheduler.ts'
import { slots } from './slots.ts'

const folders: string[] = []
process.on('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

function freshState(): State {
  const folder = mkdtempSync(join(tmpdir(), 'cairn-scheduler-'))
  folders.push(folder)
  return openState({ CAIRN_STATE: folder })
}

interface Kept {
  /** `2026-11-21T02:00 schedule`, a run each. */
  readonly runs: string[]
  readonly events: RunEvent[]
}

/** Keeps a schedule until so many runs have begun; `during` is what each run does. */
async function keep(
  state: State,
  timer: FakeTimer,
  count: number,
  options: { schedule?: string; zone?: string; jitterMs?: number; during?: (run: number) => void } = {},
): Promise<Kept> {
  const { schedule = '0 2 * * *', zone = 'UTC', jitterMs = 0, during } = options
  const controller = new AbortController()
  const stop = new Error('enough')
  const kept: Kept = { runs: [], events: [] }
  const keeping = keepSchedule(
    { job: 'shop', schedule, timing: { zone, jitterMs } },
    {
      state,
      timer,
      signal: controller.signal,
      stopping: controller.signal,
      emit: event => kept.events.push(event),
      planned: () => {
        if (kept.runs.length === count) controller.abort(stop)
      },
      async run(_job, trigger) {
        kept.runs.push(`${timer.now().toISOString().slice(0, 19)} ${trigger}`)
        during?.(kept.runs.length)
      },
    },
  )
  await assert.rejects(keeping, stop)
  return kept
}

const warnings = ({ events }: Kept): string[] =>
  events.flatMap(event =>
    event.type === 'warning' ? [event.what] : event.type === 'notice' ? [event.text] : [],
  )

test('a job runs whenever its schedule comes due, in its zone', async () => {
  const kept = await keep(freshState(), fakeTimer('2026-03-28T12:00:00Z'), 3, {
    schedule: '30 2 * * *',
    zone: 'Europe/Berlin',
  })
  assert.deepEqual(kept.runs, [
    '2026-03-29T01:00:00 schedule',
    '2026-03-30T00:30:00 schedule',
    '2026-03-31T00:30:00 schedule',
  ])
  assert.deepEqual(warnings(kept), [])
})

test('what came due while nobody was there is said, and made up for by one run', async () => {
  const state = freshState()
  await keep(state, fakeTimer('2026-11-20T12:00:00Z'), 1)
  const kept = await keep(state, fakeTimer('2026-11-24T13:30:00Z'), 2)
  assert.deepEqual(kept.runs, ['2026-11-24T13:30:00 missed', '2026-11-25T02:00:00 schedule'])
  assert.deepEqual(warnings(kept), ['shop missed 3 runs, the first of 2026-11-22T02:00:00Z,'])
})

test('a restart between two runs misses nothing, nor does the first start, nor another schedule', async () => {
  const state = freshState()
  await keep(state, fakeTimer('2026-11-20T12:00:00Z'), 1)
  const restarted = await keep(state, fakeTimer('2026-11-21T13:00:00Z'), 1)
  assert.deepEqual(restarted.runs, ['2026-11-22T02:00:00 schedule'])
  const changed = await keep(state, fakeTimer('2026-11-25T13:00:00Z'), 1, { schedule: '0 3 * * *' })
  assert.deepEqual(changed.runs, ['2026-11-26T03:00:00 schedule'])
  assert.deepEqual([...warnings(restarted), ...warnings(changed)], [])
})

test('a machine that slept through a run makes it when it wakes up', async () => {
  const timer = fakeTimer('2026-11-20T12:00:00Z')
  let slept = false
  timer.onWait = () => {
    if (!slept) timer.set('2026-11-21T09:00:00Z')
    slept = true
  }
  const kept = await keep(freshState(), timer, 2)
  assert.deepEqual(kept.runs, ['2026-11-21T09:00:00 missed', '2026-11-22T02:00:00 schedule'])
  assert.deepEqual(warnings(kept), ['shop missed the run of 2026-11-21T02:00:00Z'])
})

test('a clock that was years ahead, and is put right, does not stop the schedule for years', async () => {
  const timer = fakeTimer('2031-01-01T00:00:00Z')
  const state = freshState()
  let put = false
  timer.onWait = () => {
    if (!put) timer.set('2026-11-20T12:00:00Z')
    put = true
  }
  assert.deepEqual((await keep(state, timer, 1)).runs, ['2026-11-21T02:00:00 schedule'])
  await keep(state, fakeTimer('2031-01-01T00:00:00Z'), 1)
  const after = await keep(state, fakeTimer('2026-11-21T12:00:00Z'), 1)
  assert.deepEqual(after.runs, ['2026-11-22T02:00:00 schedule'])
})

test('a run that takes longer than the schedule allows is not overtaken; what came due meanwhile is passed over', async () => {
  const timer = fakeTimer('2026-11-21T00:00:00Z')
  const kept = await keep(freshState(), timer, 2, {
    schedule: '*/10 * * * *',
    during: run => timer.pass(run === 1 ? 35 * 60_000 : 0),
  })
  assert.deepEqual(kept.runs, ['2026-11-21T00:10:00 schedule', '2026-11-21T00:50:00 schedule'])
  assert.deepEqual(warnings(kept), [
    'skipped 3 runs, the first of 2026-11-21T00:20:00Z, because the one before was still going on',
  ])
})

test('a run that throws is reported, and the schedule goes on', async () => {
  const kept = await keep(freshState(), fakeTimer('2026-11-20T12:00:00Z'), 2, {
    during: run => {
      if (run === 1) throw new Error('the disk is gone')
    },
  })
  assert.equal(kept.runs.length, 2)
  const failure = kept.events.find(event => event.type === 'failure')
  assert.equal(failure?.type === 'failure' && failure.why, 'the disk is gone')
})

test('jitter delays a run by no more than it says, and not always by the same', async () => {
  const kept = await keep(freshState(), fakeTimer('2026-11-20T12:00:00Z'), 20, { jitterMs: 600_000 })
  const minutes = kept.runs.map(run => run.slice(11, 16))
  assert.ok(
    minutes.every(minute => minute >= '02:00' && minute <= '02:10'),
    minutes.join(),
  )
  assert.ok(new Set(minutes).size > 2, minutes.join())
  assert.equal(new Set(kept.runs.map(run => run.slice(0, 10))).size, 20)
  assert.deepEqual(warnings(kept), [])
})

test('a run that a signal stopped is made up for after the restart; one that took the process down is not', async () => {
  const state = freshState()
  const controller = new AbortController()
  const timer = fakeTimer('2026-11-20T12:00:00Z')
  const { signal } = controller
  const around = { state, timer, signal, stopping: signal, emit: () => {}, planned: () => {} }
  const scheduled = { job: 'shop', schedule: '0 2 * * *', timing: { zone: 'UTC', jitterMs: 0 } }
  const stop = new Error('SIGTERM')
  const run = async (): Promise<void> => {
    controller.abort(stop)
    throw stop
  }
  await assert.rejects(keepSchedule(scheduled, { ...around, run }), stop)
  const again = await keep(state, fakeTimer('2026-11-21T02:05:00Z'), 1)
  assert.deepEqual(again.runs, ['2026-11-21T02:05:00 missed'])

  // Killed: the promise never settles, and nothing more is written.
  const other = freshState()
  await new Promise<void>(resolve => {
    const hangs = (): Promise<void> => {
      resolve()
      return new Promise(() => {})
    }
    const late = { ...around, timer: fakeTimer('2026-11-20T12:00:00Z'), signal: new AbortController().signal }
    void keepSchedule(scheduled, { ...late, state: other, run: hangs })
  })
  const restarted = await keep(other, fakeTimer('2026-11-21T02:05:00Z'), 1)
  assert.deepEqual(restarted.runs, ['2026-11-22T02:00:00 schedule'])
})

test('when only the schedule ends, its run goes on, and counts, whatever becomes of it', async () => {
  const state = freshState()
  const controller = new AbortController()
  const stop = new Error('another configuration')
  const around = {
    ...{ state, timer: fakeTimer('2026-11-20T12:00:00Z'), signal: controller.signal },
    ...{ stopping: new AbortController().signal, emit: () => {}, planned: () => {} },
  }
  let ended = false
  const run = async (): Promise<void> => {
    controller.abort(stop)
    await new Promise(resolve => setImmediate(resolve))
    ended = true
    throw new Error('the disk is full')
  }
  const scheduled = { job: 'shop', schedule: '0 2 * * *', timing: { zone: 'UTC', jitterMs: 0 } }
  await assert.rejects(keepSchedule(scheduled, { ...around, run }), stop)
  assert.equal(ended, true)
  const again = await keep(state, fakeTimer('2026-11-21T02:05:00Z'), 1)
  assert.deepEqual(again.runs, ['2026-11-22T02:00:00 schedule'])
})

test('so many at once, the others in their order; who is stopped while waiting is not let in', async () => {
  const { take } = slots(2)
  const forever = new AbortController().signal
  const [one, two] = [await take(forever), await take(forever)]
  const order: string[] = []
  const impatient = new AbortController()
  const waiting = [
    take(impatient.signal).catch(() => order.push('gone')),
    take(forever).then(() => order.push('third')),
  ]
  impatient.abort(new Error('stop'))
  await waiting[0]
  assert.deepEqual(order, ['gone'])
  one[Symbol.dispose]()
  one[Symbol.dispose]()
  await waiting[1]
  const fourth = take(forever).then(() => order.push('fourth'))
  await new Promise(resolve => setImmediate(resolve))
  assert.deepEqual(order, ['gone', 'third'])
  two[Symbol.dispose]()
  await fourth
})

test('when fewer may come in at once from now on, nobody is thrown out, and nobody comes in for a while', async () => {
  const { take, resize } = slots(2)
  const forever = new AbortController().signal
  const inside = [await take(forever), await take(forever)]
  resize(1)
  let isIn = false
  const next = take(forever).then(() => {
    isIn = true
  })
  for (const [left, expected] of [
    [1, false],
    [0, true],
  ] as const) {
    inside[left]?.[Symbol.dispose]()
    await new Promise(resolve => setImmediate(resolve))
    assert.equal(isIn, expected)
  }
  await next
})

test('when more may come in at once from now on, those who wait come in without anybody leaving', async () => {
  const { take, resize } = slots(1)
  const forever = new AbortController().signal
  await take(forever)
  const waiting = [take(forever), take(forever)]
  resize(3)
  await Promise.all(waiting)
})

test('a schedule that is another one when its run ends plans nothing more', async () => {
  const timer = fakeTimer('2026-11-20T12:00:00Z')
  const waiting = new AbortController()
  const planned: Date[] = []
  const keeping = keepSchedule(
    { job: 'shop', schedule: '0 2 * * *', timing: { zone: 'UTC', jitterMs: 0 } },
    {
      ...{ state: freshState(), timer, signal: waiting.signal, stopping: new AbortController().signal },
      emit: () => {},
      planned: (_job, at) => planned.push(at),
      run: async () => waiting.abort(new Error('read again')),
    },
  )
  await assert.rejects(keeping, /read again/)
  assert.equal(planned.length, 1)
})
