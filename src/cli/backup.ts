import { stallOf } from '../app.ts'
import { type BackupOutcome, type Begun, backup, exitOf } from '../engine/backup.ts'
import { runFailureHooks } from '../engine/hooks.ts'
import { asFailure, type ExitCode, exitCode, type Failure, worstExit } from '../model/failure.ts'
import { takeLock } from '../platform/lock.ts'
import type { State } from '../platform/state.ts'
import { type Global, outJson, sayFailure } from './io.ts'
import { recoverJobs } from './recover.ts'
import { type Work, withApp } from './work.ts'

interface JobOutcome {
  readonly job: string
  readonly units: readonly BackupOutcome[]
  /** Why the job could not even begin. */
  readonly failure: Failure | null
}

/** `cairn backup [JOB…]`: runs the jobs now, one after the other; one that fails does not stop the others. */
export function run(jobs: readonly string[], global: Global): Promise<ExitCode> {
  return withApp(global, work => runJobs(jobs, work, global))
}

/** The same with what is open already. */
export async function runJobs(jobs: readonly string[], work: Work, global: Global): Promise<ExitCode> {
  const outcomes: JobOutcome[] = []
  const names = work.app.jobNames(jobs)
  await recoverJobs(work)
  for (const name of names) {
    const outcome = await runJob(name, work, global)
    outcomes.push(outcome)
    const failures = [outcome.failure ?? [], ...outcome.units.map(unit => unit.failures)].flat()
    if (failures.length > 0) await runFailureHooks(name, work.app.hooks(name), failures, work.ctx)
  }
  if (global.json) await outJson({ cairn: 1, jobs: outcomes.map(toJson) })
  return exitOfAll(outcomes)
}

async function runJob(name: string, { app, ctx }: Work, global: Global): Promise<JobOutcome> {
  try {
    const job = await app.job(name)
    using _lock = await takeLock(app.state.lockPath(name), `job ${name}`)
    const stallMs = global.stall === undefined ? stallOf(app.config, name) : ctx.stallMs
    const units = await backup(job, app.state.host, { ...ctx, stallMs }, begunBackups(app.state, name))
    return { job: name, units, failure: null }
  } catch (error) {
    ctx.signal.throwIfAborted()
    const failure = asFailure(error, `job ${name} failed`)
    sayFailure(failure)
    return { job: name, units: [], failure }
  }
}

/** In the journal of the state folder, an entry each. */
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

/** 0: all whole. One kind of failure alone keeps its code; when something is whole and something is not, 3. */
function exitOfAll(outcomes: readonly JobOutcome[]): ExitCode {
  const codes = outcomes.map(({ units, failure }) => failure?.exit ?? exitOf(units))
  if (codes.every(code => code === exitCode.ok)) return exitCode.ok
  const some = outcomes.some(({ units }) => units.some(unit => unit.manifest))
  return some ? exitCode.partial : worstExit(codes)
}

function toJson({ job, units, failure }: JobOutcome) {
  return {
    job,
    failure: failure && { what: failure.what, why: failure.why, remedy: failure.remedy },
    units: units.map(({ unit, id, manifest, stores, failures }) => ({
      unit,
      id: manifest ? id : null,
      stores,
      sizeBytes: manifest?.artifacts.reduce((sum, artifact) => sum + artifact.stored.bytes, 0) ?? null,
      failures: failures.map(({ what, why, remedy }) => ({ what, why, remedy })),
    })),
  }
}
