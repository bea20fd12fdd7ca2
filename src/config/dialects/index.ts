import { readFileSync, statSync } from 'node:fs'
import { usage } from '../../model/failure.ts'
import { checkedConfig } from '../checked.ts'
import type { Config } from '../schema.ts'
import type { Dialect, Plain } from './dialect.ts'
import { moonflower } from './moonflower.ts'
import { pgdumpS3 } from './pgdump-s3.ts'
import { rclone } from './rclone.ts'
import { sidecar } from './sidecar.ts'
import { cleaned, type Environment, type ReadText, Variables } from './variables.ts'

/** Every dialect there is. */
const dialects: readonly Dialect[] = [sidecar, rclone, moonflower, pgdumpS3]

/** What an environment means. */
export interface Translated {
  readonly dialect: string
  /** As it stands in a `cairn.yaml`. */
  readonly plain: Plain
  readonly config: Config
  /** What is odd and does no harm, for a person. */
  readonly warnings: readonly string[]
  /** Whether `--verbose` is meant. */
  readonly isVerbose: boolean
}

/**
 * The configuration that an environment of one of the replaced tools means. Pure but for the files of secrets, some of
 * which must be looked into. Throws a Failure with exit 2 that lists everything that is wrong, before anything was
 * touched. `args` are those that follow the name of the image.
 */
export function translate(
  env: Environment,
  args: readonly string[],
  read: ReadText = textOfFile,
): Translated {
  const { dialect, notes } = recognise(env, each => {
    const tried = new Variables(env, read)
    each.translate(tried, args)
    return tried.lacking
  })
  const variables = new Variables(env, read)
  if (args.length > 0 && !dialect.takesArguments)
    variables.warnings.push(`arguments mean nothing to the dialect ${dialect.name}: they are ignored`)
  // What is said to be ignored needs no second word.
  for (const { strong, weak } of notes.length > 0 ? dialects : [])
    variables.overlook([...strong, ...weak.flat()])
  const plain = dialect.translate(variables, args)
  variables.check(dialect)
  return {
    dialect: dialect.name,
    plain,
    config: checkedConfig(plain, `the environment (dialect ${dialect.name})`),
    warnings: [...notes, ...variables.warnings],
    isVerbose: variables.isVerbose,
  }
}

/** The webhooks that an environment names, also where the rest of it is wrong: as they stand in a `cairn.yaml`, one entry for each tool it may be of. */
export function webhooksIn(env: Environment, read: ReadText = textOfFile): Plain[] {
  const set = cleaned(env)
  const isMeant = (each: Dialect): boolean => isStrong(each, set) || isWeak(each, set)
  const said = dialects.find(({ name }) => name === set.CAIRN_DIALECT)
  const found = (said ? [said] : dialects.filter(isMeant)).map(
    each => each.webhooks?.(new Variables(env, read)) ?? null,
  )
  return found.filter(each => each !== null)
}

function textOfFile(path: string, look?: 'look'): string | null {
  try {
    const found = statSync(path)
    if (look && (found.isFIFO() || found.isCharacterDevice())) return 'not looked at'
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}

/** Whether the environment is the configuration. In this order: the file that the flag names, `CAIRN_DIALECT`, the file that is found, what the variables say. */
export function isDialectMeant(
  configFlag: string | undefined,
  found: string | null,
  env: Environment,
): boolean {
  if (configFlag !== undefined) return false
  const set = cleaned(env)
  return (
    set.CAIRN_DIALECT !== undefined ||
    (found === null && dialects.some(each => isStrong(each, set) || isWeak(each, set)))
  )
}

/** `CAIRN_DIALECT`, else what the variables say. Throws for two tools at once, and for none. */
function recognise(env: Environment, lacks: Lacks): { dialect: Dialect; notes: string[] } {
  const set = cleaned(env)
  if (set.CAIRN_DIALECT !== undefined) return { dialect: named(set.CAIRN_DIALECT), notes: [] }
  const strong = dialects.filter(each => isStrong(each, set))
  const weak = dialects.filter(each => !strong.includes(each) && isWeak(each, set))
  const meant = strong.length > 0 ? strong : weak
  const [only, other] = meant
  if (!only) throw nothing()
  const notes = strong.length > 0 ? weak.map(each => ignored(each, set)) : []
  if (!other) return { dialect: only, notes }
  const lacking = meant.map(each => ({ each, lack: lacks(each) }))
  const [whole, another] = lacking.filter(({ lack }) => lack.length === 0)
  if (!whole || another) throw severalTools(whole ? 'whole' : 'half', lacking, set)
  const rest = lacking.filter(({ each }) => each !== whole.each)
  const why = rest.map(({ each, lack }) => `${ignored(each, set)}: ${lack.join(', ')} ${isNot(lack)} set`)
  return { dialect: whole.each, notes: [...notes, ...why] }
}

/** The variables that are not set without which a dialect cannot work. */
type Lacks = (dialect: Dialect) => readonly string[]

function ignored(dialect: Dialect, set: Environment): string {
  return `${evidence(dialect, set)} is not taken for ${dialect.name}'s`
}

function isNot(names: readonly string[]): string {
  return names.length === 1 ? 'is not' : 'are not'
}

function severalTools(
  sets: 'whole' | 'half',
  lacking: readonly { readonly each: Dialect; readonly lack: readonly string[] }[],
  set: Environment,
): Error {
  const shown = lacking.filter(({ lack }) => sets === 'half' || lack.length === 0)
  const lines = shown.map(
    ({ each, lack }) =>
      `  ${each.name} by ${evidence(each, set)}${lack.length > 0 ? `; ${lack.join(', ')} ${isNot(lack)} set` : ''}`,
  )
  return usage(
    sets === 'whole'
      ? 'the environment is that of two tools'
      : 'the environment is of several tools, and whole for none',
    `${sets === 'whole' ? 'each of these is complete' : 'this is missing'}\n${lines.join('\n')}`,
    `set CAIRN_DIALECT to ${shown.map(({ each }) => each.name).join(' or ')}`,
  )
}

function isStrong({ strong }: Dialect, set: Environment): boolean {
  return strong.some(name => set[name] !== undefined)
}

function isWeak({ weak }: Dialect, set: Environment): boolean {
  return weak.some(all => all.every(name => set[name] !== undefined))
}

function evidence({ strong, weak }: Dialect, set: Environment): string {
  const names = strong.filter(name => set[name] !== undefined)
  const pair = weak.find(all => all.every(name => set[name] !== undefined)) ?? []
  return (names.length > 0 ? names : pair).join(' and ')
}

function named(name: string): Dialect {
  const found = dialects.find(each => each.name === name)
  if (found) return found
  throw usage(
    `CAIRN_DIALECT: there is no dialect "${name}"`,
    `there are ${dialects.map(each => each.name).join(', ')}`,
  )
}

function nothing(): Error {
  const table = dialects.map(({ name, needs }) => `  ${name.padEnd(10)} ${needs}`)
  return usage(
    'there is no configuration',
    `CAIRN_CONFIG is not set, there is no cairn.yaml, and no tool's variables are set:\n${table.join('\n')}`,
    'cairn init writes a cairn.yaml',
  )
}
