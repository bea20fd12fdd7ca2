import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { Program } from '../../model/step.ts'
import { flow } from '../../platform/flow.ts'
import type { Clients } from './clients.ts'
import { type Connection, login, showConnection } from './connection.ts'

/** With one of these the dump goes elsewhere, or cannot be restored. */
const breaking = [
  ...[
    'result-file',
    'tab',
    'dir',
    'xml',
    'compact',
    'compatible',
    'force',
    'skip-comments',
    'skip-quote-names',
  ],
  ...['databases', 'all-databases', 'tables'],
]

/** With one of these not everything comes into the dump. */
const partial = [
  ...['where', 'ignore-table', 'ignore-table-data', 'ignore-database', 'no-data', 'no-create-info'],
  ...['skip-opt', 'skip-create-options', 'skip-tz-utc'],
]

/** Of these options, those by which something is left out, as `--name`. */
export function leavingOut(options: readonly string[]): string[] {
  return isAmong(partial, options)
}

/**
 * What the option files tell the dumper beside our arguments, as its own list says. Throws a usage Failure for what would lead
 * the dump away from us, or break it.
 */
export async function toldByFiles(connection: Connection, clients: Clients, ctx: Context): Promise<string[]> {
  const { args, ...rest } = login(connection)
  const files = args.filter(arg => arg.startsWith('--defaults-'))
  const program: Program = { ...rest, program: clients.dumper, args: [...files, '--print-defaults'] }
  let said = ''
  for await (const chunk of flow(program, [], ctx)) said += Buffer.from(chunk)
  // The first line says that a list follows.
  const options = said.slice(said.indexOf('\n')).split(/\s+/)
  const [found] = isAmong(breaking, options)
  if (!found) return options
  throw usage(
    `cannot dump from ${showConnection(connection)}`,
    `an option file tells the dump program ${found}: the dump would go elsewhere, or could not be restored`,
    `take it out of the file, or name another one: defaultsFile (\`mariadb-dump --print-defaults\` shows what is read)`,
  )
}

/** The programs take any unambiguous beginning of a name, underscores for hyphens, and 0 for what is skipped. */
function isAmong(names: readonly string[], options: readonly string[]): string[] {
  return options.flatMap(option => {
    const [, name = '', value = ''] = /^--(?:loose[-_])?([A-Za-z0-9][\w-]+)(?:=(.*))?$/s.exec(option) ?? []
    const plain = name
      .toLowerCase()
      .replaceAll('_', '-')
      .replace(/^disable-/, 'skip-')
    const meant = /^(0|off|false)$/i.test(value) ? `skip-${plain}` : plain
    return name !== '' && names.some(each => each.startsWith(meant)) ? [`--${meant}`] : []
  })
}
