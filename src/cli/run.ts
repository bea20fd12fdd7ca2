import { setTimeout as sleep } from 'node:timers/promises'
import { appToRun } from '../app.ts'
import { Incomplete } from '../config/dialects/variables.ts'
import type { ExitCode } from '../model/failure.ts'
import { runJobs } from './backup.ts'
import { answerHangUps, endAtHangUp } from './hang-up.ts'
import { interruptSignal, logForPrograms, sayFailure, tell } from './io.ts'
import { openOrTell } from './open.ts'
import { type ServeOptions, serve } from './serve.ts'
import { withApp } from './work.ts'

interface RunFlags extends ServeOptions {
  readonly idle?: boolean
}

const longestMs = 2 ** 31 - 1

/**
 * `cairn run [-- ARGS…]`: the entry point of containers, for the configuration or the environment of a tool that Cairn
 * replaces. By schedule, when a job has one, until it is told to stop. Else every job once, with retries, and what retention
 * does not keep is let go; the outcome is that of the backups: a copy that could not be let go is a warning. `--idle`: where
 * variables of a tool are missing whose container waited then, so does this one.
 */
export async function run(args: readonly string[], options: RunFlags): Promise<ExitCode> {
  logForPrograms(options)
  try {
    return await runOrServe(args, options)
  } catch (error) {
    if (options.idle && error instanceof Incomplete) return await waitWithout(error)
    throw error
  }
}

function runOrServe(args: readonly string[], options: RunFlags): Promise<ExitCode> {
  const open = () => appToRun(options.config, args)
  return withApp(
    options,
    work => {
      const { app } = work
      const scheduled = Object.keys(app.config.jobs).some(job => app.timing(job).schedule)
      if (scheduled || app.config.serve.idle) return serve(work, options, open, true)
      answerHangUps(endAtHangUp)
      const retryOf = (job: string) => app.timing(job).retry
      return runJobs([], { trigger: 'once', prune: true, retryOf }, work, options)
    },
    () => openOrTell(options.config, open),
    false,
  )
}

/** Whoever starts the container has not finished: what is missing is said, and nothing is restarted again and again. */
async function waitWithout(missing: Incomplete): Promise<never> {
  sayFailure(missing)
  tell('nothing is backed up: waiting to be stopped')
  const signal = interruptSignal()
  answerHangUps(endAtHangUp)
  for (;;) {
    // A signal alone does not keep the process.
    await sleep(longestMs, undefined, { signal }).catch(() => {})
    signal.throwIfAborted()
  }
}
