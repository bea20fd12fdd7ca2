import { setTimeout as sleep } from 'node:timers/promises'
import type { App, Timing } from '../app.ts'
import { backup } from '../engine/backup.ts'
import type { Begun } from '../engine/begun.ts'
import { runFailureHooks } from '../engine/hooks.ts'
import { type BackupOutcome, exitOf } from '../engine/outcome.ts'
import { pruneJob } from '../engine/prune-job.ts'
import { isGood, remaining } from '../engine/remaining.ts'
import type { Context } from '../model/context.ts'
import type { RunEvent } from '../model/event.ts'
import { asFailure, type ExitCode, exitCode, type Failure } from '../model/failure.ts'
import type { Job } from '../model/job.ts'
import type { Moment } from '../model/notifier.ts'
import { showDuration } from '../model/quantity.ts'
import { Forbidden, Transient } from '../model/store.ts'
import { takeLock } from '../platform/lock.ts'
import { secretsRead } from '../platform/secret-source.ts'
import type { State } from '../platform/state.ts'
import { withoutSecrets } from './log-line.ts'
import { openRun, type RunEnd, type RunLog, type Trigger } from './run-record.ts'

/** What became of a job's run. */
export interface JobOutcome {
  readonly job: string
  readonly units: readonly BackupOutcome[]
  /** Why the job could not even begin. */
  readonly failure: Failure | null
  readonly exit: ExitCode
}

/** How a run is made. */
export interface RunRequest {
  readonly job: string
  readonly trigger: Trigger
  /** Whether retention is applied when something was stored: what it goes by is in the stores, not in how the run ended. */
  readonly prune: boolean
  readonly retry: Timing['retry']
  /** When the job is due again: no attempt is waited for beyond that. */
  readonly nextRun?: Date
  /** Waited for before each attempt, and given back after it. */
  turn?(): Promise<Disposable>
}

interface Attempt extends JobOutcome {
  readonly prune: RunEnd['prune']
}

/** How long others may take to be told how a run ended once we are stopped: whoever stops us does not wait for long. */
const farewellMs = 6_000

/**
 * One run of a job, the same for every command: its record, who is told of its beginning and its end, and as many attempts
 * as it takes or may take. Each attempt holds the job's lock. Throws only when the context is aborted: the record says so
 * then, and the failure was told. Telling that fails is a warning.
 */
export async function runJob(request: RunRequest, app: App, ctx: Context): Promise<JobOutcome> {
  const log = openRun(app.state, request.job, request.trigger, ctx.clock.now())
  const run = { ...ctx, emit: recording(log, ctx) }
  using last = outliving(run, farewellMs)
  const started = tell(request.job, 'start', `${request.job} begins`, log, app, run)
  let end: RunEnd | null = null
  try {
    const outcome = await attempts(request, app, run)
    const failures = failuresOf(outcome)
    if (failures.length > 0) await runFailureHooks(request.job, app.hooks(request.job), failures, run)
    await started
    end = endOf(outcome)
    log.end(withoutSecrets(end, secretsRead()), ctx.clock.now())
    await tell(request.job, outcome.exit === 0 ? 'success' : 'failure', summaryOf(outcome), log, app, last)
    return outcome
  } catch (error) {
    if (!end) {
      const exit = ctx.signal.aborted ? exitOfAbort(ctx.signal) : exitCode.failed
      run.emit({ type: 'notice', text: 'the run was interrupted', job: request.job })
      log.end({ exit, backups: [], failures: [], prune: null }, ctx.clock.now())
      await tell(request.job, 'failure', `${request.job} was interrupted (exit ${exit})`, log, app, last)
    }
    throw error
  } finally {
    const fault = log.fault()
    if (fault) {
      const [what, remedy] = ['the log of the run is not whole', 'check the state folder (CAIRN_STATE)']
      ctx.emit({ type: 'warning', what, why: fault, remedy })
    }
  }
}

/** The same context, but aborted so much later: for the last word. */
function outliving(ctx: Context, ms: number): Context & Disposable {
  const own = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const abort = (): void => {
    timer = setTimeout(() => own.abort(ctx.signal.reason), ms)
  }
  if (ctx.signal.aborted) abort()
  else ctx.signal.addEventListener('abort', abort, { once: true })
  return {
    ...ctx,
    signal: own.signal,
    [Symbol.dispose]() {
      clearTimeout(timer)
      ctx.signal.removeEventListener('abort', abort)
    },
  }
}

function recording(log: RunLog, ctx: Context): (event: RunEvent) => void {
  return event => {
    ctx.emit(event)
    if (event.type !== 'progress') log.note(withoutSecrets(event, secretsRead()), ctx.clock.now())
  }
}

/** Until one goes well or no further one is due. What one has backed up well, the next ones leave out. */
async function attempts(request: RunRequest, app: App, ctx: Context): Promise<Attempt> {
  const { times, afterMs, only } = request.retry
  let outcome: Attempt | null = null
  for (let made = 1; ; made++) {
    const good: readonly BackupOutcome[] = outcome?.units.filter(isGood) ?? []
    outcome = added(good, outcome, await attempt(request, good, app, ctx))
    const isDue = only === undefined || failuresOf(outcome).some(failure => failure instanceof Transient)
    if (made > times || outcome.exit === exitCode.ok || !isDue) return outcome
    const pauseMs = afterMs * 2 ** (made - 1)
    if (request.nextRun && ctx.clock.now().getTime() + pauseMs >= request.nextRun.getTime()) {
      const text = `attempt ${made} of ${times + 1} failed (exit ${outcome.exit}); the next run comes before the next attempt`
      ctx.emit({ type: 'notice', text, job: request.job })
      return outcome
    }
    const text = `attempt ${made} of ${times + 1} failed (exit ${outcome.exit}); the next one is in ${showDuration(pauseMs)}`
    ctx.emit({ type: 'notice', text, job: request.job })
    await sleep(pauseMs, undefined, { signal: ctx.signal }).catch(() => ctx.signal.throwIfAborted())
  }
}

/** What an attempt and those before it have come to. */
function added(good: readonly BackupOutcome[], before: Attempt | null, last: Attempt): Attempt {
  const units = [...good, ...last.units]
  const ofFailure = last.failure && (good.length > 0 ? exitCode.partial : last.failure.exit)
  return { ...last, units, exit: ofFailure ?? exitOf(units), prune: last.prune ?? before?.prune ?? null }
}

/** `good` was backed up by attempts before. */
async function attempt(
  request: RunRequest,
  good: readonly BackupOutcome[],
  app: App,
  ctx: Context,
): Promise<Attempt> {
  const { job: name, prune } = request
  using _turn = await request.turn?.()
  try {
    const job = remaining(await app.job(name), good)
    using _lock = await takeLock(app.state.lockPath(name), `job ${name}`)
    const units = await backup(job, app.state.host, ctx, begunBackups(app.state, name))
    const isStored = units.some(({ manifest }) => manifest)
    return {
      job: name,
      units,
      failure: null,
      exit: exitOf(units),
      prune: prune && isStored ? await pruned(job, app, ctx) : null,
    }
  } catch (error) {
    ctx.signal.throwIfAborted()
    const failure = asFailure(error, `job ${name} failed`)
    const { what, why, remedy } = failure
    ctx.emit({ type: 'failure', what, why, remedy })
    return { job: name, units: [], failure, exit: failure.exit, prune: null }
  }
}

/**
 * The backup is whole whatever becomes of this: what fails here is a warning. Where no rule is to be applied there is only to
 * clear up, which is left to others where we may not.
 */
async function pruned(job: Job, app: App, ctx: Context): Promise<RunEnd['prune']> {
  if (!job.to.some(({ store }) => store.can.list && store.can.read && store.can.remove)) return null
  const warn = ({ what, why, remedy }: Failure): void => ctx.emit({ type: 'warning', what, why, remedy })
  // What it reports as a failure of its own comes back in its result.
  const quiet = {
    ...ctx,
    emit: (event: RunEvent) => (event.type === 'failure' ? undefined : ctx.emit(event)),
  }
  const hasRules = job.to.some(({ keep }) => Object.keys(keep).length > 0)
  const matters = (failure: unknown): boolean => hasRules || !(failure instanceof Forbidden)
  try {
    const pruned = await pruneJob(job, app.named, app.state.host, quiet)
    const failures = pruned.failures.filter(matters)
    for (const failure of failures) warn(failure)
    return failures.length > 0 ? 'failed' : 'done'
  } catch (error) {
    ctx.signal.throwIfAborted()
    if (!matters(error)) return null
    warn(asFailure(error, `cannot prune ${job.name}`))
    return 'failed'
  }
}

/** Backups that were begun and not ended, in the journal of the state folder, an entry each. */
function begunBackups({ journal }: State, job: string): Begun {
  const prefix = `begun.${job}.`
  return {
    note: id => journal.write(`${prefix}${id}`, {}),
    forget: id => journal.remove(`${prefix}${id}`),
    ids: () =>
      journal
        .entries()
        .filter(({ name }) => name.startsWith(prefix))
        .map(({ name }) => name.slice(prefix.length)),
  }
}

/** Never throws: others not being told does not make a run worse. */
async function tell(
  job: string,
  moment: Moment,
  message: string,
  log: RunLog,
  app: App,
  ctx: Context,
): Promise<void> {
  const notice = { moment, message: withoutSecrets(message, secretsRead()), log: log.text() }
  for (const notifier of app.notifiers(job)) {
    await notifier.tell(notice, ctx).catch((error: unknown) => {
      if (ctx.signal.aborted && moment === 'start') return
      const { what, why, remedy } = asFailure(error, 'nobody could be told')
      ctx.emit({ type: 'warning', what, why, remedy })
    })
  }
}

function failuresOf({ units, failure }: JobOutcome): Failure[] {
  return [failure ?? [], ...units.map(unit => unit.failures)].flat()
}

function endOf(outcome: Attempt): RunEnd {
  return {
    exit: outcome.exit,
    backups: outcome.units.flatMap(({ unit, id, manifest, stores }) =>
      manifest && id ? [{ id, unit, stores, ...(manifest.missing ? { isIncomplete: true } : {}) }] : [],
    ),
    failures: failuresOf(outcome).map(({ what, why, remedy }) => ({ what, why, remedy })),
    ...(isToldWhole(outcome) ? { units: outcome.units.map(({ unit }) => unit) } : {}),
    prune: outcome.prune,
  }
}

/** Of a source that failed before it told its units, nothing was begun. */
function isToldWhole({ units, failure }: Attempt): boolean {
  return failure === null && units.every(({ id }) => id !== null)
}

function summaryOf(outcome: JobOutcome): string {
  const whole = outcome.units.filter(({ manifest }) => manifest).length
  if (outcome.exit === exitCode.ok)
    return `${outcome.job}: ${whole === 1 ? 'backed up' : `${whole} backed up`}`
  const why = failuresOf(outcome).map(({ message }) => message)
  return [`${outcome.job} failed (exit ${outcome.exit})`, ...why].join('\n')
}

/** 130 after SIGINT, else 143. */
function exitOfAbort({ reason }: AbortSignal): ExitCode {
  return (reason as { signal?: unknown } | undefined)?.signal === 'SIGINT'
    ? exitCode.interrupted
    : exitCode.terminated
}
