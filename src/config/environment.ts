import { findConfig, readConfig } from './read.ts'
import { Config } from './schema.ts'

/** What the surroundings ask for. */
export interface Wanted {
  readonly config: Config
  /** What `cairn run` does when no job has a schedule: runs all of them once, or stays up and waits. */
  readonly unscheduled: 'once' | 'idle'
}

/**
 * The configuration that holds here: the file that `--config` or CAIRN_CONFIG names, or that lies where one is looked for;
 * an empty one when there is none, because stores can be given by address.
 *
 * This is the only place that decides it, for every command: whoever reads another tool's environment variables does so
 * here, after the file was not found. `argv`: what `cairn run` was given after its name.
 */
export function configFromEnvironment(
  env: NodeJS.ProcessEnv,
  _argv: readonly string[],
  flag?: string,
): Wanted {
  const path = findConfig(flag, env)
  return { config: path === null ? Config.parse({}) : readConfig(path), unscheduled: 'once' }
}
