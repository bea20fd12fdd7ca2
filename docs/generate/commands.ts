import type { Argument, Command, Option } from 'commander'
import { commandLine } from '../../src/cli/index.ts'
import { escaped } from './markdown.ts'

/** The page of all commands: usage, what each does, its own options, examples. */
export function commandsPage(): string {
  const program = commandLine(() => {})
  const commands = program.createHelp().visibleCommands(program)
  return [
    '# Commands',
    '',
    'Generated from the program (`npm run docs`). Exit codes and the shape of output: [output.md](output.md).',
    '',
    'Every command takes these, before or after its name:',
    '',
    ...optionTable(program.options),
    '',
    ...commands.filter(command => command.name() !== 'help').flatMap(section),
  ].join('\n')
}

function section(command: Command): string[] {
  const places = command.registeredArguments.map(shown).join(' ')
  const options = command.options.filter(option => !option.hidden)
  return [
    `## cairn ${command.name()}`,
    '',
    `\`cairn ${[command.name(), places].filter(Boolean).join(' ')}\`: ${command.description()}`,
    '',
    ...(options.length > 0 ? [...optionTable(options), ''] : []),
    '```sh',
    ...exampleOf(command),
    '```',
    '',
  ]
}

function shown(argument: Argument): string {
  if (argument.argChoices) return argument.argChoices.join('|')
  const name = `${argument.name().toUpperCase()}${argument.variadic ? '...' : ''}`
  return argument.required ? name : `[${name}]`
}

function optionTable(options: readonly Option[]): string[] {
  const visible = options.filter(option => !option.hidden)
  const choices = ({ argChoices }: Option): string => (argChoices ? ` (${argChoices.join(', ')})` : '')
  return [
    '| option | does |',
    '| --- | --- |',
    ...visible.map(option => `| \`${option.flags}\` | ${escaped(option.description + choices(option))} |`),
  ]
}

/** What follows "Example:" in the help of a command. */
function exampleOf(command: Command): string[] {
  let help = ''
  command.configureOutput({
    writeOut: text => {
      help += text
    },
  })
  command.outputHelp()
  const lines = help.slice(help.indexOf('Example:\n')).trimEnd().split('\n').slice(1)
  return lines.map(line => line.replace(/^ {2}/, ''))
}
