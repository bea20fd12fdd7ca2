import type { Argument, Command, Option } from 'commander'
import { findConfig, readConfig } from '../config/read.ts'
import { Config } from '../config/schema.ts'
import { type ExitCode, exitCode } from '../model/failure.ts'
import { out } from './io.ts'

/** One thing that could stand next, and what it is. */
interface Candidate {
  readonly word: string
  readonly about: string
}

/** Stands alone: the shell completes file names by itself. */
const files = ':files'

/** `cairn complete -- WORDS…`, for the scripts of `cairn completion`: the last word is the one that is being typed. */
export async function run(program: Command, words: readonly string[]): Promise<ExitCode> {
  const found = candidates(program, words, configOf(words))
  const lines = found === files ? [files] : found.map(({ word, about }) => `${word}\t${about}`)
  if (lines.length > 0) await out(lines.join('\n'))
  return exitCode.ok
}

/** What may follow, whether it begins as the last word does or not: the shell chooses. */
export function candidates(
  program: Command,
  words: readonly string[],
  config: Config,
): Candidate[] | typeof files {
  const done = words.slice(0, -1)
  const current = words.at(-1) ?? ''
  const { command, places } = walk(program, done)
  const options = command === program ? program.options : [...command.options, ...program.options]
  const open = options.find(option => option.required && isOpen(option, done, options))
  if (open) return valuesOf(open.argChoices ?? [], valueName(open), config)
  if (current.startsWith('-')) {
    return options
      .filter(({ hidden, long }) => !hidden && long)
      .map(({ long, description }) => ({ word: long ?? '', about: description }))
  }
  if (command === program) {
    const visible = program.createHelp().visibleCommands(program)
    return visible.map(each => ({ word: each.name(), about: each.description() }))
  }
  const argument = argumentAt(command, places)
  return argument ? valuesOf(argument.argChoices ?? [], argument.name(), config) : []
}

/** The command that the words name, and how many of its arguments are there. */
function walk(program: Command, words: readonly string[]): { command: Command; places: number } {
  let command = program
  let places = 0
  for (const [index, word] of words.entries()) {
    const options = [...command.options, ...program.options]
    if (
      word.startsWith('-') ||
      options.some(option => option.required && isOpen(option, words.slice(0, index), options))
    )
      continue
    const named = command === program ? program.commands.find(each => each.name() === word) : undefined
    if (named) command = named
    else places++
  }
  return { command, places }
}

/** Whether the words end where this option's value is expected; a value that may be repeated stays open. */
function isOpen(option: Option, words: readonly string[], options: readonly Option[]): boolean {
  const known = new Set(options.map(({ long }) => long))
  const at = words.findLastIndex(word => known.has(word))
  if (at < 0 || words[at] !== option.long) return false
  return option.variadic || at === words.length - 1
}

function argumentAt(command: Command, place: number): Argument | undefined {
  const last = command.registeredArguments.at(-1)
  return command.registeredArguments[place] ?? (last?.variadic ? last : undefined)
}

/** `store` for `--store <store>`, and for `--to <store>`. */
function valueName(option: Option): string {
  return /<([^.>]+)/.exec(option.flags)?.[1] ?? ''
}

function valuesOf(choices: readonly string[], name: string, config: Config): Candidate[] | typeof files {
  if (choices.length > 0) return choices.map(word => ({ word, about: '' }))
  const jobs = Object.keys(config.jobs)
  if (name === 'job') return jobs.map(word => ({ word, about: 'job' }))
  if (name === 'store')
    return Object.entries(config.stores).map(([word, { type }]) => ({ word, about: `${type} store` }))
  if (name === 'backup') {
    const latest = jobs.map(job => ({ word: `${job}@latest`, about: `the newest backup of ${job}` }))
    return [{ word: 'latest', about: 'the newest backup' }, ...latest]
  }
  return name === 'file' || name === 'target' ? files : []
}

/** Nobody wants to read about a faulty configuration while typing. */
function configOf(words: readonly string[]): Config {
  try {
    const named = words[words.indexOf('--config') + 1]
    const path = findConfig(words.includes('--config') ? named : undefined)
    return path === null ? Config.parse({}) : readConfig(path)
  } catch {
    return Config.parse({})
  }
}
