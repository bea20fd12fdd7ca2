import { randomInt } from 'node:crypto'
import type { Timing } from '../app.ts'
import type { RunEvent } from '../model/event.ts'
import { asFailure } from '../model/failure.ts'
import { nextRun } from '../model/schedule.ts'
import type { State } from '../platform/state.ts'
import { readJobState, updateJobState } from './job-state.ts'
import type { Trigger } from './run-record.ts'
import { describePassed, passed } from './schedule.ts'
import type { Timer } from './timer.ts'

/** A job that has a schedule. */
export interface Scheduled {
  readonly job: string
  readonly schedule: string
  readonly timing: Pick<Timing, 'zone' | 'jitterMs'>
}

export interface Surroundings {
  readonly state: State
  readonly timer: Timer
  /** Ends the waiting: everything stops, or the schedule is another one from now on. A run goes on to its end. */
  readonly signal: AbortSignal
  /** Everything stops, runs too. */
  readonly stopping: AbortSignal
  emit(event: RunEvent): void
  /** Runs the job, to its end. What it throws is reported, and the schedule goes on. */
  run(job: string, trigger: Trigger): Promise<void>
  /** Says when the job is due next. */
  planned(job: string, at: Date): void
}

/** Later than this, and nobody was there to begin it: the machine slept, or its clock was put forward. */
const lateMs = 60_000
/** The clock may be put right while we wait: so we look again. */
const lookAgainMs = 10 * 60_000

/**
 * Runs a job whenever its schedule comes due, until the signal is aborted; then it throws the signal's reason, after the run
 * that goes on. One run at a time: a time that comes while the run before still goes on is passed over, and that is said. Times that came while
 * nobody was there are made up for by one run, at once. A time counts as taken care of as soon as its run begins, so
 * that a run that takes the process down is not repeated by the next start; one that was interrupted by a signal is.
 */
export async function keepSchedule(scheduled: Scheduled, around: Surroundings): Promise<never> {
  const { job, schedule, timing } = scheduled
  const { timer } = around
  let begun = timer.now()
  let after = rememberedTime(scheduled, begun, around)
  for (;;) {
    const due = nextRun(schedule, timing.zone, after)
    const begin = new Date(Math.max(due.getTime(), timer.now().getTime()) + jitter(timing.jitterMs))
    around.planned(job, begin)
    if (!(await comes(begin, after, around))) {
      after = begun = timer.now()
      continue
    }
    const now = timer.now()
    const isMissed = due <= begun || now.getTime() - begin.getTime() > lateMs
    if (isMissed) sayMissed(scheduled, after, now, around)
    const before = after
    after = isMissed ? now : due
    remember(scheduled, after, around)
    await runOnce(job, isMissed ? 'missed' : 'schedule', around).catch(error => {
      // Whoever stops us wants the backup all the same, when we are back.
      remember(scheduled, before, around)
      throw error
    })
    after = passOver(scheduled, after, around)
  }
}

/** Waits for a time. False when the clock was put back behind `after` meanwhile: what was planned is worth nothing then. */
async function comes(time: Date, after: Date, { timer, signal }: Surroundings): Promise<boolean> {
  for (let now = timer.now(); now < time; now = timer.now()) {
    if (now.getTime() < after.getTime() - lateMs) return false
    await timer.until(new Date(Math.min(time.getTime(), now.getTime() + lookAgainMs)), signal)
  }
  signal.throwIfAborted()
  return true
}

async function runOnce(job: string, trigger: Trigger, { run, emit, stopping }: Surroundings): Promise<void> {
  try {
    await run(job, trigger)
  } catch (error) {
    stopping.throwIfAborted()
    const { what, why, remedy } = asFailure(error, `job ${job} failed`)
    emit({ type: 'failure', what, why, remedy })
  }
}

function jitter(ms: number): number {
  return ms > 0 ? randomInt(ms + 1) : 0
}

/** From when on times count: the last one that was taken care of, if the schedule is still the same, else now. */
function rememberedTime(scheduled: Scheduled, now: Date, around: Surroundings): Date {
  const known = readJobState(around.state, scheduled.job)
  const planned = known?.schedule === scheduled.schedule && known.planned ? new Date(known.planned) : now
  // Of a clock that was wrong for a while, nothing is believed.
  const after = planned > now ? now : planned
  remember(scheduled, after, around)
  return after
}

function remember({ job, schedule }: Scheduled, planned: Date, { state, timer, emit }: Surroundings): void {
  try {
    updateJobState(state, job, { schedule, planned: planned.toISOString() }, timer.now())
  } catch (error) {
    const { what, why } = asFailure(error, `cannot write down when ${job} ran`)
    emit({ type: 'warning', what, why, remedy: 'check the state folder (CAIRN_STATE)' })
  }
}

function sayMissed(
  { job, schedule, timing }: Scheduled,
  after: Date,
  now: Date,
  { emit }: Surroundings,
): void {
  const missed = passed(schedule, timing.zone, after, now)
  if (!missed) return
  emit({
    type: 'warning',
    what: `${job} missed ${describePassed(missed)}`,
    why: 'nobody was there to begin it: Cairn was not running, or the machine slept',
    remedy: 'it runs now, once',
  })
}

/** What came due while the job was running is not run later. Returns from when on times count. */
function passOver(scheduled: Scheduled, after: Date, around: Surroundings): Date {
  const { job, schedule, timing } = scheduled
  const now = around.timer.now()
  const skipped = passed(schedule, timing.zone, after, now)
  if (!skipped) return after
  const text = `skipped ${describePassed(skipped)} because the one before was still going on`
  around.emit({ type: 'notice', text, job })
  remember(scheduled, now, around)
  return now
}
