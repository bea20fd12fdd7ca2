import type { Program } from '../../model/step.ts'
import type { Clients, Series } from './clients.ts'
import { type Connection, login } from './connection.ts'
import { judged } from './explain.ts'

/** What of a server a dump is of. */
export interface Scope {
  readonly databases: readonly string[]
  /** True: with CREATE DATABASE and USE, as a dump of several databases is. */
  readonly named: boolean
}

/** The dumper, whose output is one consistent moment of all transactional tables. */
export function dumpProgram(
  connection: Connection,
  clients: Clients,
  server: Series,
  scope: Scope,
  extra: readonly string[],
): Program {
  const { args, ...rest } = login(connection)
  return {
    ...rest,
    program: clients.dumper,
    args: [...args, ...dumpOptions(clients, server), ...extra, ...databaseArgs(scope)],
    writesSmallBlocks: true,
    judge: judged(clients.flavour === 'mariadb' ? 'mariadb-dump' : 'mysqldump'),
  }
}

function databaseArgs({ databases, named }: Scope): string[] {
  return [...(named ? ['--databases'] : []), '--', ...databases]
}

function dumpOptions(clients: Pick<Clients, 'flavour'>, server: Series): string[] {
  return [
    '--single-transaction',
    '--quick',
    '--routines',
    '--events',
    '--triggers',
    // What is no text stays what it is, whatever character sets lie on the way.
    '--hex-blob',
    '--default-character-set=utf8mb4',
    '--max-allowed-packet=1G',
    // Needs PROCESS, and restores nothing that we would want.
    '--no-tablespaces',
    ...(clients.flavour === 'mysql' ? ['--set-gtid-purged=OFF'] : []),
    // MySQL 8's dumper asks for statistics that older servers have not got.
    ...(clients.flavour === 'mysql' && server[0] < 8 ? ['--column-statistics=0'] : []),
  ]
}

/** Options that are not a user's, and why. The programs take any unambiguous beginning of a name, so beginnings count. */
const refused: readonly (readonly [why: string, names: readonly string[]])[] = [
  [
    'it would stand in the list of processes: say "password"',
    ['password', 'password1', 'password2', 'password3'],
  ],
  ['the dump goes where the stores are', ['result-file', 'tab', 'log-error', 'dir']],
  [
    'it has an option of its own: host, port, socket, user, ssl, databases, exclude, defaultsFile',
    ['host', 'port', 'socket', 'user', 'protocol', 'databases', 'all-databases', 'tables', 'defaults-file'],
  ],
  [
    'it only works as the first argument: say defaultsFile or defaultsExtraFile',
    ['defaults-extra-file', 'no-defaults'],
  ],
  [
    'the dump could not be restored, or not be known to be whole',
    ['force', 'compact', 'skip-comments', 'comments', 'skip-quote-names', 'quote-names', 'xml', 'compatible'],
  ],
  [
    'the dump would not be of one moment',
    ['skip-single-transaction', 'single-transaction', 'lock-tables', 'lock-all-tables'],
  ],
  ['it prints no dump', ['help', 'version', 'print-defaults', 'debug-info', 'debug']],
]

/** What is wrong with the first argument that would give away a password, lead the dump elsewhere, or break it; null: none would. */
export function refusedArgument(args: readonly string[]): string | null {
  for (const arg of args) {
    const [, name = ''] = /^--(?:loose[-_])?([A-Za-z0-9][\w-]+)(?:=|$)/s.exec(arg) ?? []
    // The argument may hold a secret: only its name is repeated.
    const shown = /^(--[\w-]*|-\w?)/.exec(arg)?.[0] || 'an argument'
    if (name === '')
      return `${shown} is not a long option: write --name or --name=value; databases and tables are not given here`
    const plain = name.toLowerCase().replaceAll('_', '-')
    const found = refused.find(([, names]) => names.some(each => each.startsWith(plain)))
    if (found) return `--${plain} cannot be given: ${found[0]}`
  }
  return null
}
