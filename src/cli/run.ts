import { appToRun } from '../app.ts'
import { type ExitCode, exitCode } from '../model/failure.ts'
import { runJobs } from './backup.ts'
import type { Global } from './io.ts'
import { pruneJobs } from './prune.ts'
import { withApp } from './work.ts'

/**
 * `cairn run [-- ARGS…]`: the entry point of containers. Runs every job of the configuration, or of the environment of a tool
 * that Cairn replaces, and lets go what retention does not keep. The outcome is that of the backups: a copy
 * that could not be let go is a warning.
 */
export function run(args: readonly string[], global: Global): Promise<ExitCode> {
  return withApp(
    global,
    async work => {
      const code = await runJobs([], work, global)
      // After a failure everything stays: it may be needed now.
      if (code === exitCode.ok) await pruneJobs([], work, false)
      return code
    },
    () => appToRun(global.config, args),
  )
}
