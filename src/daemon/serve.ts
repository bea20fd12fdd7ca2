import { type App, appFor, stallOf } from '../app.ts'
import type { Context } from '../model/context.ts'
import type { RunEvent } from '../model/event.ts'
import { asFailure } from '../model/failure.ts'
import { takeLock } from '../platform/lock.ts'
import { lookAt } from './alarm.ts'
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
}

/** Everything that changes while it goes on. */
interface Known {
  running: boolean
  nextRun: Date | null
  arrivals: Readonly<Record<string, string | null>>
  alarms: readonly string[]
}

const afterFaultMs = 60_000

/**
 * Runs the jobs by their schedules, and watches what is expected of them: each job by itself, so that nothing that happens to one of
 * them holds up another, and so many at once as the configuration says. Stores are opened anew for each run: what changed
 * outside (a key, a mount, a server that was away) is seen by the next one.
 */
export function daemon(base: App, signal: AbortSignal, emit: (event: RunEvent) => void): Daemon {
  const jobs = Object.keys(base.config.jobs)
  const known = new Map<string, Known>(
    jobs.map(job => {
      // What was known before a restart holds until the stores were asked.
      const alarms = Object.keys(readJobState(base.state, job)?.alarms ?? {})
      return [job, { running: false, nextRun: null, arrivals: {}, alarms }]
    }),
  )
  const take = slots(base.config.serve.parallel)
  const of = (job: string): Known => known.get(job) as Known

  const inOwn = async (work: (app: App, ctx: Context) => Promise<void>): Promise<void> => {
    using ctx = base.context(signal, emit)
    await work(base, ctx)
  }

  const inApp = async <T>(job: string, work: (app: App, ctx: Context) => Promise<T>): Promise<T> => {
    const app = appFor(base.config, base.state)
    try {
      using ctx = app.context(signal, event => emit(ofJob(event, job)), stallOf(base.config, job))
      return await work(app, ctx)
    } finally {
      await app.close()
    }
  }

  /** Looks after the stores of a job; returns when to look again. */
  const look = async (job: string): Promise<Date | null> => {
    const { arrivals, alarms, next } = await inApp(job, (app, ctx) => lookAt(job, app, ctx))
    of(job).arrivals = Object.fromEntries(arrivals.map(({ store, at }) => [store, at?.toISOString() ?? null]))
    of(job).alarms = alarms
    return next
  }
  const looks = oneAtATime(look)

  const run = async (job: string, trigger: Trigger): Promise<void> => {
    of(job).running = true
    try {
      emit({ type: 'notice', text: trigger === 'missed' ? 'begins, late' : 'begins', job })
      const { retry } = base.timing(job)
      const request = { job, trigger, prune: true, retry, turn: () => take(signal) }
      const { exit } = await inApp(job, (app, ctx) => runJob(request, app, ctx))
      emit({ type: 'notice', text: exit === 0 ? 'done' : `failed (exit ${exit})`, job })
    } finally {
      of(job).running = false
    }
    await looks(job)
  }

  const watch = async (job: string): Promise<void> => {
    for (let next = await looks(job); next !== null; next = await looks(job))
      await realTimer.until(next, signal)
  }

  const planned = (job: string, at: Date): void => {
    of(job).nextRun = at
    emit({ type: 'notice', text: `next run ${at.toISOString().slice(0, 19)}Z`, job })
  }

  const schedule = async (job: string): Promise<void> => {
    const { schedule: text, ...timing } = base.timing(job)
    const around = { state: base.state, timer: realTimer, signal, emit, run, planned }
    if (text) await keepSchedule({ job, schedule: text, timing }, around)
  }

  /** Whatever goes wrong in one of our own loops, it is reported, and the loop goes on. */
  const forGood = async (job: string, loop: (job: string) => Promise<void>): Promise<void> => {
    for (;;) {
      try {
        return await loop(job)
      } catch (error) {
        signal.throwIfAborted()
        emit(asEvent(error, job))
        await realTimer.until(new Date(Date.now() + afterFaultMs), signal)
      }
    }
  }

  return {
    health: () => Object.fromEntries(jobs.map(job => [job, healthOf(of(job), lastRun(base.state, job))])),
    async run() {
      // A second one would run everything twice.
      using _lock = await takeLock(base.state.lockPath('.serve'), 'the scheduler of this state folder')
      await inOwn(recoverJobs)
      const going = jobs.flatMap(job => [forGood(job, watch), forGood(job, schedule)])
      try {
        return await aborted(signal)
      } finally {
        await Promise.allSettled(going)
      }
    },
  }
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
    alarm: alarms,
  }
}
