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
