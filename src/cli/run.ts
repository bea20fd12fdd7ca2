import { appToRun } from '../app.ts'
import type { ExitCode } from '../model/failure.ts'
import { runJobs } from './backup.ts'
import { answerHangUps, endAtHangUp } from './hang-up.ts'
import { type ServeOptions, serve } from './serve.ts'
import { withApp } from './work.ts'

/**
 * `cairn run [-- ARGS…]`: the entry point of containers, for the configuration or the environment of a tool that Cairn
 * replaces. By schedule, when a job has one, until it is told to stop. Else every job once, with retries, and what retention
 * does not keep is let go; the outcome is that of the backups: a copy that could not be let go is a warning.
 */
export function run(args: readonly string[], options: ServeOptions): Promise<ExitCode> {
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
    open,
    false,
  )
}
