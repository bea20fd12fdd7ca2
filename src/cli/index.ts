import { Command, CommanderError, Option } from 'commander'
import { type ExitCode, exitCode } from '../model/failure.ts'
import { toolVersion } from '../model/version.ts'
import { fail, type Global } from './io.ts'

/** Runs the command line; never throws. Each command is loaded only when it is called, so that `--help` is quick. */
export async function run(argv: readonly string[]): Promise<ExitCode> {
  // A reader that has gone (`| head`) is told to whoever writes; it must not end a backup that only reports.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  let code: ExitCode = exitCode.ok
  const program = commandLine(result => {
    code = result
  })
  try {
    await program.parseAsync([...argv], { from: 'user' })
    return code
  } catch (error) {
    // Commander has said already what it had to say; its own exit code for usage is 1, ours is 2.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.ok : exitCode.usage
    return fail(error, program.opts<Global>().verbose === true || argv.includes('--verbose'))
  }
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

function commandLine(done: (code: ExitCode) => void): Command {
  const program = new Command('cairn')
    .description('Backs up databases and files, proves that the backups restore, and restores them.')
    .version(`cairn ${toolVersion}`)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(`cairn: ${text}`) })
    .showSuggestionAfterError()
    .showHelpAfterError('(cairn --help, or cairn COMMAND --help)')
    .addHelpText('after', overview)

  const command = (usage: string, description: string, example: string): Command =>
    program
      .command(usage)
      .description(description)
      .exitOverride()
      .option(
        '--config <file>',
        'the configuration (default: CAIRN_CONFIG, ./cairn.yaml, /etc/cairn/cairn.yaml)',
      )
      .option('--json', 'print the result as JSON')
      .option('--quiet', 'no progress')
      .option('--verbose', 'show the causes of a failure')
      .addOption(new Option('--stall <duration>', 'nothing moves for this long: failed').hideHelp())
      .addHelpText('after', `\nExample:\n${example.replaceAll(/^/gm, '  ')}`)

  command('init', 'write a commented cairn.yaml and, unless there is one, a key', 'cairn init --defaults')
    .option('--defaults', 'do not ask')
    .option('--force', 'replace a configuration that is there')
    .action(async options => done(await (await import('./init.ts')).run(options)))
  command(
    'doctor [job...]',
    'check configuration, tools, sources, stores and keys',
    'cairn doctor shop',
  ).action(async (jobs, options) => done(await (await import('./doctor.ts')).run(jobs, options)))
  command('backup [job...]', 'run the jobs once, now', 'cairn backup\ncairn backup shop --json').action(
    async (jobs, options) => done(await (await import('./backup.ts')).run(jobs, options)),
  )
  command(
    'list [job]',
    'backups, newest first',
    'cairn list shop\ncairn list --store s3://bucket/prefix --json',
  )
    .addOption(storeOption())
    .option('--deleted', 'also those whose deletion can still be taken back')
    .action(async (job, options) => done(await (await import('./list.ts')).run(job, options)))
  command('show <backup>', 'one backup, and how to restore it by hand', 'cairn show latest')
    .addOption(storeOption())
    .addOption(identityOption())
    .action(async (backup, options) => done(await (await import('./show.ts')).run(backup, options)))
  command(
    'cat <backup> <artifact>',
    'write one artifact, decrypted and decompressed, to stdout',
    'cairn cat latest postgres/shop.dump | pg_restore -l',
  )
    .addOption(storeOption())
    .addOption(identityOption())
    .action(async (backup, artifact, options) =>
      done(await (await import('./cat.ts')).run(backup, artifact, options)),
    )
  command('copy <backup>', 'give a store the whole copy it lacks', 'cairn copy latest --to offsite')
    .addOption(storeOption())
    .requiredOption('--to <store>', 'the store that gets it')
    .action(async (backup, options) => done(await (await import('./copy.ts')).run(backup, options)))
  command(
    'restore <backup>',
    'bring a backup back, whole or not at all',
    'cairn restore shop@latest --to postgresql://admin@db.example/shop_new\ncairn restore latest --to /tmp/out --store s3://bucket/prefix --identity key.txt',
  )
    .addOption(storeOption())
    .addOption(identityOption())
    .option('--to <target>', 'a database URL, a file or a folder; default: where it came from')
    .option('--only <artifact...>', 'these artifacts only')
    .addOption(
      new Option(
        '--allow <consent...>',
        'what else is allowed: device files, setuid files, leaving owners out',
      )
        .choices(['devices', 'setuid', 'no-owner'])
        .default([]),
    )
    .option('--dry-run', 'only say what would happen')
    .option('--yes', 'replace what is there')
    .action(async (backup, options) => done(await (await import('./restore.ts')).run(backup, options)))
  command(
    'verify [backup...]',
    'read every byte back from the stores and check it',
    'cairn verify\ncairn verify latest --store offsite',
  )
    .addOption(storeOption())
    .addOption(identityOption())
    .action(async (backups, options) => done(await (await import('./verify.ts')).run(backups, options)))
  for (const [verb, description] of marks) {
    command(`${verb} <backup>`, description, `cairn ${verb} 20261121T020000Z-k7f3q9x2`)
      .addOption(storeOption())
      .action(async (backup, options) => done(await (await import('./mark.ts')).run(verb, backup, options)))
  }
  command('prune [job...]', 'apply retention, and say why for every backup', 'cairn prune --dry-run')
    .option('--dry-run', 'only say what would happen')
    .action(async (jobs, options) => done(await (await import('./prune.ts')).run(jobs, options)))
  command(
    'config <what>',
    'show: the effective configuration, secrets masked; schema: its JSON Schema',
    'cairn config show',
  ).action(async (what, options) => done(await (await import('./config.ts')).run(what, options)))
  command('demo', 'a complete round trip on this machine, with nothing to configure', 'cairn demo')
    .option('--keep', 'leave the folder of the demo in place')
    .action(async options => done(await (await import('./demo.ts')).run(options)))
  return program
}

const marks = [
  ['hold', 'keep a backup from retention'],
  ['release', 'give a held backup back to retention'],
  ['undelete', 'take a deletion back while that is possible'],
] as const

const overview = `
BACKUP is an id, the beginning of one, "latest", or "JOB@latest".

First backup and restore:
  cairn init --defaults
  cairn backup
  cairn list
  cairn restore latest --to /tmp/restored

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 partly failed, 10 no such backup,
11 another run holds the lock, 12 wrong key, 20 damage found, 130/143 interrupted.`
