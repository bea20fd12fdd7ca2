import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { type ExitCode, exitCode } from '../model/failure.ts'
import { parseDuration } from '../model/quantity.ts'
import { toolVersion } from '../model/version.ts'
import { beVerbose, fail, type Global } from './io.ts'

/** Runs the command line; never throws. Each command is loaded only when it is called, so that `--help` is quick. */
export async function run(argv: readonly string[]): Promise<ExitCode> {
  // A reader that has gone (`| head`) is told to whoever writes; it must not end a backup that only reports.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  let code: ExitCode = exitCode.ok
  const program = commandLine(result => {
    code = result
  })
  try {
    await program.parseAsync(withoutRun(argv, program), { from: 'user' })
    return code
  } catch (error) {
    // Commander has said already what it had to say; its own exit code for usage is 1, ours is 2.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.ok : exitCode.usage
    if (program.opts<Global>().verbose === true || argv.includes('--verbose')) beVerbose()
    return fail(error)
  }
}

/** `cairn run list …` is `cairn list …`: a container whose entry point is `cairn run` is told commands like that. */
function withoutRun(argv: readonly string[], program: Command): string[] {
  const [first, next] = argv
  const isCommand = program.commands.some(command => command.name() === next)
  return first === 'run' && isCommand ? argv.slice(1) : [...argv]
}

/** A variable that is not set must not turn one target into another. */
function notEmpty(text: string): string {
  if (text !== '') return text
  throw new InvalidArgumentError('It is empty.')
}

function atLeastOne(text: string): number {
  if (/^[1-9]\d?$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a number from 1 to 99.')
}

function duration(text: string): number {
  const ms = parseDuration(text)
  if (ms !== null) return ms
  throw new InvalidArgumentError('It must be a whole number and a unit: 10s.')
}

const storeOption = () =>
  new Option('--store <store>', 'a store by name or address (repeatable)')
    .argParser(collect)
    .default([] as string[])
const identityOption = () =>
  new Option(
    '--identity <file>',
    'a key file beside those of the configuration: age, SSH, gpg, a passphrase, aespipe',
  )

function collect(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value]
}

/** The whole command line; `done` is told how a command ended. */
export function commandLine(done: (code: ExitCode) => void): Command {
  const program = new Command('cairn')
    .description('Backs up databases and files, proves that the backups restore, and restores them.')
    .version(`cairn ${toolVersion}`)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(`cairn: ${text}`) })
    .showSuggestionAfterError()
    .showHelpAfterError('(cairn --help, or cairn COMMAND --help)')
    .addHelpText('after', overview)
    .configureHelp({ showGlobalOptions: true })
    .option(
      '--config <file>',
      'the configuration (default: CAIRN_CONFIG, ./cairn.yaml, /etc/cairn/cairn.yaml)',
    )
    .option('--json', 'print the result as JSON')
    .option('--quiet', 'no progress')
    .option('--verbose', 'say each step, and show the causes of a failure')
    .addOption(new Option('--stall <duration>', 'nothing moves for this long: failed').hideHelp())

  /** Loads a command and runs it with these, its arguments, and all options: its own and those of `cairn` itself. */
  const act =
    (load: () => Promise<{ run(...args: never[]): Promise<ExitCode> }>, ...first: string[]) =>
    async (...args: unknown[]): Promise<void> => {
      const own = args.at(-1) as Command
      const run = (await load()).run as (...args: unknown[]) => Promise<ExitCode>
      done(await run(...first, ...args.slice(0, -2), own.optsWithGlobals()))
    }

  const command = (usage: string, description: string, example: string): Command =>
    program
      .command(usage)
      .description(description)
      .exitOverride()
      .addHelpText('after', `\nExample:\n${example.replaceAll(/^/gm, '  ')}`)

  command('init', 'write a commented cairn.yaml and, unless there is one, a key', 'cairn init --defaults')
    .option('--defaults', 'do not ask')
    .option('--force', 'replace a configuration that is there')
    .action(act(() => import('./init.ts')))
  command(
    'doctor [job...]',
    'check configuration, tools, sources, stores and keys',
    'cairn doctor shop',
  ).action(act(() => import('./doctor.ts')))
  command('backup [job...]', 'run the jobs once, now', 'cairn backup\ncairn backup shop --json')
    .option('--prune', 'then apply retention, as runs by schedule do')
    .action(act(() => import('./backup.ts')))
  command('serve', 'run the jobs by their schedules, and watch for alarms, until told to stop', 'cairn serve')
    .option('--listen <address>', 'answer GET /health there: 127.0.0.1:8080')
    .action(act(() => import('./serve.ts')))
  command(
    'status [job...]',
    'what has arrived in the stores, when; exit 1 when something is overdue',
    'cairn status',
  )
    .option('--watched', 'only whether `cairn serve` has raised an alarm; asks no store')
    .action(act(() => import('./status.ts')))
  command(
    'runs [job]',
    'the last runs on this host, newest first; given the id of one, its log',
    'cairn runs shop\ncairn runs 20261121T020000Z-k7f3q9x2',
  ).action(act(() => import('./runs.ts')))
  command(
    'list [job]',
    'backups, newest first',
    'cairn list shop\ncairn list --store s3://bucket/prefix --json',
  )
    .addOption(storeOption())
    .option('--deleted', 'also those whose deletion can still be taken back')
    .option('--hidden', 'only those that somebody has hidden by delete markers, in stores that keep versions')
    .action(act(() => import('./list.ts')))
  command('show <backup>', 'one backup, and how to restore it by hand', 'cairn show latest')
    .addOption(storeOption())
    .addOption(identityOption())
    .action(act(() => import('./show.ts')))
  command(
    'cat <backup> <artifact>',
    'write one artifact, decrypted and decompressed, to stdout',
    'cairn cat latest postgres/shop.dump | pg_restore -l',
  )
    .addOption(storeOption())
    .addOption(identityOption())
    .action(act(() => import('./cat.ts')))
  command(
    'copy <backup>',
    'give a store the whole copy it lacks, or what its copy has lost',
    'cairn copy latest --to offsite',
  )
    .addOption(storeOption())
    .requiredOption('--to <store>', 'the store that gets it')
    .action(act(() => import('./copy.ts')))
  command(
    'restore <backup>',
    'bring a backup back, whole or not at all',
    'cairn restore shop@latest --to postgresql://admin@db.example/shop_new\ncairn restore latest --to /tmp/out --store s3://bucket/prefix --identity key.txt',
  )
    .addOption(storeOption())
    .addOption(identityOption())
    .addOption(
      new Option(
        '--to <target>',
        'a database URL, a file or a folder; default: where it came from',
      ).argParser(notEmpty),
    )
    .option('--only <name...>', 'these only: artifacts; of PostgreSQL also tables, schemas, databases')
    .addOption(
      new Option(
        '--allow <consent...>',
        'what else is allowed: device files, setuid files, leaving owners out',
      )
        .choices(['devices', 'setuid', 'no-owner'])
        .default([]),
    )
    .option('--no-owner', 'PostgreSQL: everything belongs to who restores')
    .option('--no-privileges', 'PostgreSQL: without GRANTs; MongoDB: without users and roles')
    .option('--role <role>', 'PostgreSQL: restore as this role')
    .option('--create', 'PostgreSQL: a new database under the name it had')
    .addOption(
      new Option(
        '--jobs <n>',
        'PostgreSQL: so many connections write into a new database; needs room in CAIRN_SPOOL',
      ).argParser(atLeastOne),
    )
    .addOption(new Option('--schema-only', 'PostgreSQL: definitions without rows').conflicts('dataOnly'))
    .option('--data-only', 'PostgreSQL: rows added to tables that are there')
    .option('--dry-run', 'only say what would happen')
    .option('--yes', 'replace what is there')
    .addOption(
      new Option(
        '--delay <duration>',
        'leaves so much time to cancel: when the key was tried, and before anything is touched',
      ).argParser(duration),
    )
    .action(act(() => import('./restore.ts')))
  command(
    'verify [backup...]',
    'read every byte back from the stores and check it',
    'cairn verify\ncairn verify latest --store offsite',
  )
    .addOption(storeOption())
    .addOption(identityOption())
    .action(act(() => import('./verify.ts')))
  command(
    'run [args...]',
    "the entry point of containers: does what cairn.yaml or a replaced tool's environment says, by schedule or once; arguments go to the dump program",
    'cairn run\ncairn run -- --defaults-extra-file=/etc/my.cnf',
  )
    .allowUnknownOption()
    .option('--idle', 'where variables of the sidecar are missing, say so and stay up, as its image did')
    .action(act(() => import('./run.ts')))
  for (const [verb, description] of marks) {
    command(`${verb} <backup>`, description, `cairn ${verb} 20261121T020000Z-k7f3q9x2`)
      .addOption(storeOption())
      .action(act(() => import('./mark.ts'), verb))
  }
  command('prune [job...]', 'apply retention, and say why for every backup', 'cairn prune --dry-run')
    .option('--dry-run', 'only say what would happen')
    .action(act(() => import('./prune.ts')))
  command(
    'config',
    'show: the effective configuration, secrets masked; schema: its JSON Schema; from-env: what the environment of a replaced tool says, as a configuration; arguments are for its dump program',
    'cairn config show\ncairn config from-env > cairn.yaml\ncairn config from-env -- --no-owner > cairn.yaml',
  )
    .addArgument(new Argument('<what>').choices(['show', 'schema', 'from-env']))
    .argument('[args...]')
    .action(act(() => import('./config.ts')))
  command('demo', 'a complete round trip on this machine, with nothing to configure', 'cairn demo')
    .option('--keep', 'leave the folder of the demo in place')
    .action(act(() => import('./demo.ts')))
  command(
    'completion',
    'print what makes a shell complete the words of cairn',
    'cairn completion bash > /etc/bash_completion.d/cairn\ncairn completion zsh > ~/.zfunc/_cairn\ncairn completion fish > ~/.config/fish/completions/cairn.fish',
  )
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
    .action(act(() => import('./completion.ts')))
  program
    .command('complete', { hidden: true })
    .argument('[words...]')
    .exitOverride()
    .action(async words => done(await (await import('./complete.ts')).run(program, words)))
  return program
}

const marks = [
  ['hold', 'keep a backup from retention'],
  ['release', 'give a held backup back to retention'],
  ['undelete', 'take a deletion back while that is possible'],
] as const

const overview = `
BACKUP is an id, the beginning of one, "latest", "JOB@latest", or "JOB/UNIT@latest".

First backup and restore:
  cairn init --defaults
  cairn backup
  cairn list
  cairn restore latest --to /tmp/restored

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 partly failed, 10 no such backup,
11 another run holds the lock, 12 wrong key, 20 damage found, 130/143 interrupted.`
