import { Document, stringify, visit } from 'yaml'
import * as z from 'zod'
import { isDialectMeant, translate } from '../config/dialects/index.ts'
import { originOf } from '../config/dialects/inline.ts'
import { configSchema } from '../config/json-schema.ts'
import { findConfig, readConfig } from '../config/read.ts'
import type { Config } from '../config/schema.ts'
import { asWritten } from '../config/written.ts'
import { type ExitCode, exitCode, usage } from '../model/failure.ts'
import { type Global, out, outJson, sayFailure, tell } from './io.ts'

/**
 * What is a part of a variable, or an argument, is not printed: a variable of its own, where it can stand instead, is. `origins`:
 * what each of those must hold.
 */
function withoutSecrets(plain: object): { shown: unknown; origins: ReadonlyMap<string, string> } {
  const origins = new Map<string, string>()
  const replaced = JSON.stringify(plain, (_key, value: unknown) => {
    if (!Value.safeParse(value).success) return value
    const env = `CAIRN_SECRET_${origins.size + 1}`
    origins.set(env, originOf(value as object))
    return { env }
  })
  return { shown: JSON.parse(replaced), origins }
}

/** As YAML, with a comment beside each variable that a person has to set. */
function commented(shown: unknown, origins: ReadonlyMap<string, string>): string {
  const document = new Document(shown)
  visit(document, {
    Scalar(_key, node) {
      const from = origins.get(String(node.value))
      if (from !== undefined) node.comment = ` ${from}`
    },
  })
  return document.toString()
}

const Value = z.strictObject({ value: z.string() })

/** `cairn config from-env [-- ARGS…]`: the configuration that does what the environment of a replaced tool says, and arguments for its dump program. */
async function fromEnvironment(args: readonly string[], global: Global): Promise<ExitCode> {
  const { dialect, plain, warnings } = translate(process.env, args)
  for (const why of warnings) sayFailure({ what: 'the environment', why, remedy: '' }, 'warning')
  const { shown, origins } = withoutSecrets(plain)
  if (global.json) {
    for (const [name, from] of origins) tell(`${name} must hold ${from}`)
    await outJson(shown)
  } else {
    const set =
      origins.size > 0
        ? '# Each CAIRN_SECRET_… is a variable to set: what it must hold stands beside it.\n'
        : ''
    await out(`# What the environment says (dialect ${dialect}).\n${set}${commented(shown, origins)}`)
  }
  return exitCode.ok
}

/** What every command works with, from a file or from the environment of a replaced tool. */
function configuration(flag: string | undefined): Config {
  const path = findConfig(flag)
  if (isDialectMeant(flag, path, process.env)) return translate(process.env, []).config
  if (path !== null) return readConfig(path)
  throw usage(
    'there is no configuration',
    'neither ./cairn.yaml nor /etc/cairn/cairn.yaml is there, and no variables of a tool that Cairn replaces are set',
    'cairn init writes one',
  )
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
  // Secrets turn themselves into *** or into the place they come from.
  const shown: unknown = JSON.parse(JSON.stringify(configuration(global.config)), asWritten)
  if (global.json) await outJson(shown)
  else await out(stringify(shown))
  return exitCode.ok
}
