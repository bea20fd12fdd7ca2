import { stringify } from 'yaml'
import * as z from 'zod'
import { translate } from '../config/dialects/index.ts'
import { configSchema } from '../config/json-schema.ts'
import { findConfig, readConfig } from '../config/read.ts'
import { asWritten } from '../config/written.ts'
import { type ExitCode, exitCode, usage } from '../model/failure.ts'
import { type Global, out, outJson, sayFailure } from './io.ts'

/** What a variable or an argument held is not printed: the place where it can stand instead is. */
function withoutSecrets(): (key: string, value: unknown) => unknown {
  let count = 0
  return (_key, value) => (Value.safeParse(value).success ? { env: `CAIRN_SECRET_${++count}` } : value)
}

const Value = z.strictObject({ value: z.string() })

/** `cairn config from-env [-- ARGS…]`: the configuration that does what the environment of a replaced tool says, and arguments for its dump program. */
async function fromEnvironment(args: readonly string[], global: Global): Promise<ExitCode> {
  const { dialect, plain, warnings } = translate(process.env, args)
  for (const why of warnings) sayFailure({ what: 'the environment', why, remedy: '' }, 'warning')
  const shown: unknown = JSON.parse(JSON.stringify(plain), withoutSecrets())
  if (global.json) await outJson(shown)
  else await out(`# What the environment says (dialect ${dialect}).\n${stringify(shown)}`)
  return exitCode.ok
}

/** `cairn config show|schema|from-env`; only the last one takes arguments. */
export async function run(
  what: 'show' | 'schema' | 'from-env',
  args: readonly string[],
  global: Global,
): Promise<ExitCode> {
  if (what === 'from-env') return await fromEnvironment(args, global)
  const [first] = args
  if (first !== undefined)
    throw usage(`"${first}" means nothing here`, `config ${what} takes no arguments`, 'leave it out')
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
