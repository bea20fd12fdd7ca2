import { stringify } from 'yaml'
import { configSchema } from '../config/json-schema.ts'
import { findConfig, readConfig } from '../config/read.ts'
import { type ExitCode, exitCode, usage } from '../model/failure.ts'
import { writeDuration } from '../model/quantity.ts'
import { type Global, out, outJson } from './io.ts'

/** The durations of the configuration, which are milliseconds inside the program. */
const durations = new Set(['within', 'stall', 'undelete', 'for', 'timeout', 'jitter', 'after', 'expect'])

function asWritten(key: string, value: unknown): unknown {
  return durations.has(key) && typeof value === 'number' ? writeDuration(value) : value
}

/** `cairn config show|schema`. */
export async function run(what: 'show' | 'schema', global: Global): Promise<ExitCode> {
  if (what === 'schema') {
    await outJson(configSchema())
    return exitCode.ok
  }
  const path = findConfig(global.config)
  if (path === null)
    throw usage(
      'there is no configuration',
      'neither ./cairn.yaml nor /etc/cairn/cairn.yaml is there',
      'cairn init writes one',
    )
  // Secrets turn themselves into *** or into the place they come from.
  const shown: unknown = JSON.parse(JSON.stringify(readConfig(path)), asWritten)
  if (global.json) await outJson(shown)
  else await out(stringify(shown))
  return exitCode.ok
}
