import { configFromEnvironment } from '../config/environment.ts'
import { type ExitCode, usage } from '../model/failure.ts'
import { runJobs } from './backup.ts'
import { type ServeOptions, serve } from './serve.ts'
import { withApp } from './work.ts'

/**
 * `cairn run [-- ARGS…]`: the entry point of a container. By schedule, when a job has one, until it is told to stop; else
 * every job once, as `cairn backup` does, with retries and retention.
 */
export function run(args: readonly string[], options: ServeOptions): Promise<ExitCode> {
  const { unscheduled } = configFromEnvironment(process.env, args, options.config)
  return withApp(
    options,
    work => {
      const { app } = work
      const jobs = Object.keys(app.config.jobs)
      if (args.length > 0)
        throw usage(
          `"${args[0]}" means nothing here`,
          'no command of Cairn is called so',
          'cairn --help lists them',
        )
      const scheduled = jobs.some(job => app.timing(job).schedule)
      if (scheduled || unscheduled === 'idle') return serve(work, options, true)
      const retryOf = (job: string) => app.timing(job).retry
      return runJobs([], { trigger: 'once', prune: true, retryOf }, work, options)
    },
    false,
  )
}
