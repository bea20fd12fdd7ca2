import { type App, appFor, stallOf } from '../app.ts'
import type { Context } from '../model/context.ts'
import type { RunEvent } from '../model/event.ts'
import { asFailure } from '../model/failure.ts'
import { nextRun } from '../model/schedule.ts'
import { takeLock } from '../platform/lock.ts'
import { lookAt } from './alarm.ts'
import { describePlace, oldestIn, storeIn } from './arrivals.ts'
import type { Health, JobHealth } from './health.ts'
import { readJobState } from './job-state.ts'
import { recoverJobs } from './recover.ts'
import { runJob } from './run-job.ts'
import { lastRun, type Trigger } from './run-record.ts'
import { keepSchedule } from './scheduler.ts'
import { slots } from './slots.ts'
import { realTimer } from './timer.ts'

/** What the daemon does, and how to ask it. */
export interface Daemon {
  health(): Health
  /** Goes on until the signal is aborted, and throws its reason when everything that ran has ended and was cleared away. */
  run(): Promise<never>
  /**
   * Goes by another configuration from now on. A run that goes on ends by the one it began with; jobs whose timing is the
   * same are not disturbed at all.
   */
  reload(config: App['config']): void
}

/** Everything that changes while it goes on. */
interface Known {
  running: boolean
  nextRun: Date | null
  arrivals: Readonly<Record<string, string | null>>
  alarms: readonly string[]
}

/** What waits for the times of a job. */
interface Loops {
  /** Ends the waiting. */
  readonly stop: AbortController
  /** When the last run of theirs is over. */
  readonly ended: Promise<unknown>
  readonly timing: string
}

const afterFaultMs = 60_000
/** How long until it is tried again to put right what a run has left: Docker may start later than we do. Twice as long each time, up to an hour. */
const recoverMs = { first: 5_000, clear: 60_000, longest: 3_600_000 }

/**
 * Runs the jobs by their schedules, and watches what is expected of them: each job by itself, so that nothing that happens to one of
 * them holds up another, and so many at once as the configuration says. Stores are opened anew for each run: what changed
 * outside (a key, a mount, a server that was away) is seen by the next one.
 */
export function daemon(base: App, signal: AbortSignal, emit: (event: RunEvent) => void): Daemon {
  let current: App = base
  let isRunning = false
  let recovering: Promise<void> = Promise.resolve()
  const known = new Map<string, Known>()
  const loops = new Map<string, Loops>()
  const isConfigured = (job: string): boolean => current.config.jobs[job] !== undefined
  const turns = slots(base.config.serve.parallel)
  const of = (job: string): Known => {
    const found = known.get(job)
    if (found) return found
    // What was known before a restart holds until the stores were asked.
    const alarms = Object.keys(readJobState(base.state, job)?.alarms ?? {})
    const fresh = { running: false, nextRun: null, arrivals: {}, alarms }
    known.set(job, fresh)
    return fresh
  }
  for (const job of Object.keys(current.config.jobs)) of(job)

  /** While no job runs: none may find itself locked out by that. */
  const recover = async (): Promise<boolean> => {
    if ([...known.values()].some(({ running }) => running)) return true
    const { promise, resolve } = Promise.withResolvers<void>()
    recovering = promise
    try {
      const app = appFor(current.config, base.state)
      using ctx = app.context(signal, emit)
      return await recoverJobs(app, ctx)
    } finally {
      resolve()
    }
  }

  const keepRecovering = async (wasClear: boolean): Promise<never> => {
    for (let isClear = wasClear, pauseMs = recoverMs.first; ; ) {
      await realTimer.until(new Date(Date.now() + (isClear ? recoverMs.clear : pauseMs)), signal)
      pauseMs = isClear ? recoverMs.first : Math.min(2 * pauseMs, recoverMs.longest)
      isClear = await recover().catch(error => {
        signal.throwIfAborted()
        const { what, why, remedy } = asFailure(error, 'what runs have left cannot be put right')
        emit({ type: 'warning', what, why, remedy })
        return false
      })
    }
  }

  const inApp = async <T>(job: string, work: (app: App, ctx: Context) => Promise<T>): Promise<T> => {
    const { config } = current
    const app = appFor(config, base.state)
    try {
      using ctx = app.context(signal, event => emit(ofJob(event, job)), stallOf(config, job))
      return await work(app, ctx)
    } finally {
      await app.close()
    }
  }

  /** Looks after the stores of a job; returns when to look again. */
  const look = async (job: string): Promise<Date | null> => {
    if (!isConfigured(job)) return null
    const { arrivals, alarms, next } = await inApp(job, (app, ctx) => lookAt(job, app, ctx))
    of(job).arrivals = oldestIn(arrivals)
    of(job).alarms = alarms
    return next
  }
  const looks = oneAtATime(look)

  const run = async (job: string, trigger: Trigger): Promise<void> => {
    of(job).running = true
    try {
      await recovering
      emit({ type: 'notice', text: trigger === 'missed' ? 'begins, late' : 'begins', job })
      const { retry, schedule, zone } = current.timing(job)
      const next = schedule === null ? {} : { nextRun: nextRun(schedule, zone, new Date()) }
      const request = { job, trigger, prune: true, retry, ...next, turn: () => turns.take(signal) }
      const { exit } = await inApp(job, (app, ctx) => runJob(request, app, ctx))
      emit({ type: 'notice', text: exit === 0 ? 'done' : `failed (exit ${exit})`, job })
    } finally {
      of(job).running = false
    }
    await looks(job)
  }

  const watch = async (job: string, waiting: AbortSignal): Promise<void> => {
    for (let next = await looks(job); next !== null; next = await looks(job))
      await realTimer.until(next, waiting)
  }

  const planned = (job: string, at: Date): void => {
    of(job).nextRun = at
    emit({ type: 'notice', text: `next run ${at.toISOString().slice(0, 19)}Z`, job })
  }

  const schedule = async (job: string, waiting: AbortSignal): Promise<void> => {
    const { schedule: text, ...timing } = current.timing(job)
    const around = {
      ...{ state: base.state, timer: realTimer, signal: waiting, stopping: signal },
      ...{ emit, run, planned },
    }
    if (text) await keepSchedule({ job, schedule: text, timing }, around)
  }

  /** Whatever goes wrong in one of our own loops, it is reported, and the loop goes on. */
  const forGood = async (
    job: string,
    loop: (job: string, waiting: AbortSignal) => Promise<void>,
    waiting: AbortSignal,
  ): Promise<void> => {
    for (;;) {
      try {
        waiting.throwIfAborted()
        return await loop(job, waiting)
      } catch (error) {
        waiting.throwIfAborted()
        emit(asEvent(error, job))
        await realTimer.until(new Date(Date.now() + afterFaultMs), waiting)
      }
    }
  }

  /** After what waited for the times of the job before, and a run of its that goes on. */
  const begin = (job: string): void => {
    const before = loops.get(job)?.ended
    const stop = new AbortController()
    const waiting = AbortSignal.any([signal, stop.signal])
    of(job).nextRun = null
    const ended = Promise.resolve(before).then(() =>
      Promise.allSettled([forGood(job, watch, waiting), forGood(job, schedule, waiting)]),
    )
    loops.set(job, { stop, ended, timing: timingOf(job, current) })
  }

  const end = ({ stop, ended }: Loops, job: string): void => {
    stop.abort(new Error(`the configuration of ${job} is another one now`))
    if (isConfigured(job)) return
    ended.finally(() => {
      if (isConfigured(job)) return
      known.delete(job)
      loops.delete(job)
    })
  }

  return {
    health: () =>
      Object.fromEntries(
        [...known].map(([job, what]) => [job, healthOf(what, lastRun(base.state, job, new Date()))]),
      ),
    reload(config) {
      current = appFor(config, base.state)
      turns.resize(config.serve.parallel)
      for (const [job, each] of loops)
        if (!isConfigured(job) || each.timing !== timingOf(job, current)) end(each, job)
      for (const job of isRunning ? Object.keys(config.jobs) : [])
        if (loops.get(job)?.stop.signal.aborted !== false) begin(job)
    },
    async run() {
      // A second one would run everything twice.
      using _lock = await takeLock(base.state.lockPath('.serve'), 'the scheduler of this state folder')
      const isClear = await recover()
      isRunning = true
      for (const job of Object.keys(current.config.jobs)) begin(job)
      const kept = keepRecovering(isClear).catch(() => {})
      try {
        return await aborted(signal)
      } finally {
        await Promise.allSettled([kept, ...[...loops.values()].map(({ ended }) => ended)])
      }
    },
  }
}

/** All that decides when a job runs and when its stores are looked at, in one text. */
function timingOf(job: string, app: App): string {
  const { stores, defaults, jobs } = app.config
  const { to } = { ...defaults, ...jobs[job] }
  return JSON.stringify([app.timing(job), to, stores, app.namesOf(job)])
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    // With nothing to wait for, the process would end by itself.
    const held = setInterval(() => {}, 2 ** 30)
    const stop = (): void => {
      clearInterval(held)
      reject(signal.reason)
    }
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
  })
}

/** Calls for one job wait for each other. */
function oneAtATime<T>(work: (job: string) => Promise<T>): (job: string) => Promise<T> {
  const last = new Map<string, Promise<unknown>>()
  return job => {
    const before = last.get(job) ?? Promise.resolve()
    const next = before.then(
      () => work(job),
      () => work(job),
    )
    last.set(job, next)
    return next
  }
}

function asEvent(error: unknown, job: string): RunEvent {
  const { what, why, remedy } = asFailure(error, `the scheduler failed for ${job}`)
  return { type: 'failure', what, why, remedy, job }
}

/** Of several jobs at once, whose warning was it? */
function ofJob(event: RunEvent, job: string): RunEvent {
  return event.type === 'warning' || event.type === 'failure' ? { ...event, job } : event
}

function healthOf(
  { running, nextRun, arrivals, alarms }: Known,
  last: ReturnType<typeof lastRun>,
): JobHealth {
  return {
    running,
    lastRun: last && { id: last.id, at: last.startedAt.toISOString(), exit: last.end?.exit ?? null },
    lastGood: arrivals,
    nextRun: nextRun?.toISOString() ?? null,
    alarm: [...new Set(alarms.map(storeIn))],
    overdue: alarms.map(describePlace),
  }
}
