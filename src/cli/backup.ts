import { openApp, type Timing } from '../app.ts'
import { recoverJobs } from '../daemon/recover.ts'
import { type JobOutcome, runJob } from '../daemon/run-job.ts'
import type { Trigger } from '../daemon/run-record.ts'
import { type ExitCode, exitCode, worstExit } from '../model/failure.ts'
import { asJson, type Global, logForPrograms, outDone } from './io.ts'
import { openOrTell } from './open.ts'
import { contextFor, type Work, withApp } from './work.ts'

interface BackupFlags extends Global {
  readonly prune?: boolean
}

/** `cairn backup [JOB…]`: runs the jobs now, one after the other; one that fails does not stop the others. */
export function run(jobs: readonly string[], flags: BackupFlags): Promise<ExitCode> {
  logForPrograms(flags)
  return withApp(
    flags,
    work => {
      const noRetry = (): Timing['retry'] => ({ times: 0, afterMs: 0 })
      const how = { trigger: 'command' as const, prune: flags.prune === true, retryOf: noRetry }
      return runJobs(jobs, how, work, flags)
    },
    () => openOrTell(flags.config, () => openApp(flags.config)),
  )
}

/** Runs the jobs named, or all, one after the other, and prints what became of them. */
export async function runJobs(
  jobs: readonly string[],
  how: { readonly trigger: Trigger; readonly prune: boolean; retryOf(job: string): Timing['retry'] },
  work: Work,
  global: Global,
): Promise<ExitCode> {
  const { app, ctx } = work
  const outcomes: JobOutcome[] = []
  const names = app.jobNames(jobs)
  await recoverJobs(app, ctx)
  for (const job of names) {
    const request = { job, trigger: how.trigger, prune: how.prune, retry: how.retryOf(job) }
    outcomes.push(await runJob(request, app, contextFor(job, work, global)))
  }
  const code = exitOfAll(outcomes)
  return global.json ? await outDone(asJson({ cairn: 1, jobs: outcomes.map(toJson) }), code) : code
}

/** 0: all whole. One kind of failure alone keeps its code; when something is whole and something is not, 3. */
function exitOfAll(outcomes: readonly JobOutcome[]): ExitCode {
  const codes = outcomes.map(({ exit }) => exit)
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
