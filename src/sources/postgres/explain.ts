import { Failure } from '../../model/failure.ts'
import type { Exit, Program, Verdict } from '../../model/step.ts'
import { describeExit } from '../../platform/program.ts'
import { type Connection, showConnection } from './connection.ts'

/** The SQLSTATE or the system's code behind an error of ours or of `pg`; '' when there is none. */
export function codeOf(error: unknown): string {
  const from = error instanceof Failure ? error.cause : error
  const code = (from as { code?: unknown } | null | undefined)?.code
  return typeof code === 'string' ? code : ''
}

/** The server has no database of that name. */
export const noSuchDatabase = '3D000'

/** Why a login failed, and what to do. Codes: PostgreSQL docs, "PostgreSQL Error Codes", and Node's. */
export function explainConnect(error: unknown, connection: Connection): Failure {
  const message = error instanceof Error ? error.message : String(error)
  const [why, remedy] = causeOf(codeOf(error), message, connection)
  return new Failure({ what: `cannot connect to ${showConnection(connection)}`, why, remedy, cause: error })
}

function causeOf(code: string, message: string, connection: Connection): readonly [string, string] {
  const { host, user } = connection
  if (/does not support SSL/.test(message))
    return [message, 'turn on TLS at the server, or say sslmode=disable if the network may be trusted']
  if (/SSL|TLS|CERT|self.signed/i.test(`${code} ${message}`) && !/pg_hba/.test(message))
    return [message, 'give the authority with ?sslrootcert=FILE in the URL, or choose another sslmode']
  if (/must be a string|no password/.test(message))
    return [
      `the server wants a password for user ${user}, and there is none`,
      'give one: password, the URL, PGPASSWORD, or ~/.pgpass (mode 0600)',
    ]
  if (refusedByPooler.test(message)) return [message, aroundPooler]
  // A server says so with another code.
  if (code === '08P01' && /does not exist/.test(message))
    return [message, 'make the database first, or connect to the server itself: a pooler lies between']
  if (/timeout expired/.test(message) || code === 'ETIMEDOUT')
    return [`${host} did not answer in time`, 'check that host and port are right and reachable from here']
  return causes(message, connection)[code] ?? [message, 'check the address, the user and the password']
}

/** pgbouncer takes no `options`, unless it is told to pass over them (`ignore_startup_parameters`). */
const refusedByPooler = /unsupported startup parameter/i
const aroundPooler =
  'connect to the server itself: a pooler lies between, which takes no settings (pgbouncer: ignore_startup_parameters)'

function causes(
  message: string,
  { host, port, user, database }: Connection,
): Readonly<Record<string, readonly [string, string]>> {
  return {
    ENOTFOUND: [`there is no host ${host}`, 'check the name; in a container, the network it is in'],
    EAI_AGAIN: [`the name ${host} cannot be looked up now`, 'check the DNS of this machine'],
    ECONNREFUSED: [`nothing listens on ${host} port ${port}`, 'check that the server runs, and its port'],
    EHOSTUNREACH: [`there is no route to ${host}`, 'check the network and firewalls'],
    ENETUNREACH: [`there is no route to ${host}`, 'check the network and firewalls'],
    ECONNRESET: ['the server closed the connection', 'see its log; it may be starting or shutting down'],
    ENOENT: [`there is no socket ${host}/.s.PGSQL.${port}`, 'check the folder and the port, or use host'],
    EACCES: [`the socket in ${host} may not be used`, 'check its permissions'],
    '28P01': [`the password for user ${user} is wrong`, 'check user and password'],
    '28000': [message, 'allow this user, database and address in pg_hba.conf, and check the user'],
    [noSuchDatabase]: [`there is no database ${JSON.stringify(database)}`, 'check its name; case matters'],
    '42501': [message, `GRANT CONNECT ON DATABASE ... TO ${user}`],
    '53300': ['the server has no connection left', 'raise max_connections, or close some'],
    '57P03': [message, 'wait until the server has started'],
  }
}

/** The server's words about a query, and what to do. */
export function explainQuery(error: unknown, connection: Connection): Failure {
  const why = error instanceof Error ? error.message : String(error)
  const remedies: Readonly<Record<string, string>> = {
    '25006': 'the server is a standby: use its primary',
    '22021': 'a name in this SQL_ASCII database is not UTF-8: rename what has it',
    '42501': 'use a role that may do this',
    '55006': 'close the applications that use the database, and try again',
    '53200': 'raise max_locks_per_transaction at the server',
    '57P01': 'see the log of the server: it was shut down, or the connection was ended by an administrator',
  }
  const what = `PostgreSQL at ${showConnection(connection)} refused`
  return new Failure({ what, why, remedy: remedies[codeOf(error)] ?? '', cause: error })
}

/** What PostgreSQL's programs say on stderr, and what to do about it. The first that fits. */
const remedies: readonly (readonly [RegExp, string])[] = [
  [
    /row-level security|row security/i,
    'use a role with BYPASSRLS, or the owner of the tables: a filtered dump would not be whole',
  ],
  [
    /permission denied for (table|sequence|schema|materialized view|large object|relation|view)/i,
    'GRANT pg_read_all_data TO the backup role (PostgreSQL 14 and later), or SELECT on all of it and USAGE on its schemas',
  ],
  [
    /must be superuser to create|permission denied to create (extension|event trigger|foreign-data wrapper)|must be owner of extension/i,
    'only a superuser may make this: restore as one; or only what needs none, by its schemas: --only SCHEMA..., with --no-owner',
  ],
  [
    /must be owner|must be superuser|must be a member|must be able to SET ROLE|permission denied to/i,
    'restore as a superuser or the owner, or allow "no-owner": everything then belongs to the restoring role',
  ],
  [/role .* does not exist/i, 'restore the globals too, or allow "no-owner"'],
  [/server version mismatch/i, 'install the PostgreSQL client programs of the server'],
  [refusedByPooler, aroundPooler],
  [
    /conflict with recovery/i,
    'the standby follows its primary too soon: set hot_standby_feedback = on there, or a longer max_standby_streaming_delay',
  ],
  [
    /invalid memory alloc request size|cannot enlarge string buffer|string buffer exceeds maximum/i,
    'a row is longer than 1 GB as text, which PostgreSQL cannot write (bytea takes twice its size): split it, or leave its table out by args: --exclude-table-data',
  ],
  [
    /server closed the connection|server terminated|connection to server was lost|terminating connection/i,
    'see the log of the server, and try again: it was stopped, or ended the connection',
  ],
  [
    /snapshot/i,
    'connect to the server directly: a pooler, or a server that ends idle transactions, loses snapshots',
  ],
  [/max_locks_per_transaction|out of shared memory/i, 'raise max_locks_per_transaction at the server'],
  [
    /relation .* does not exist[\s\S]*LOCK TABLE|could not open relation with OID|cache lookup failed/i,
    'tables were dropped while the dump began: try again, or leave them out by args: --exclude-table',
  ],
  [
    /tablespace .* does not exist/i,
    'create the tablespace in the target first, or restore the whole database anew',
  ],
  [
    /cannot drop .* because other objects depend/i,
    'restore into another database, or drop what depends on it first',
  ],
  [/invalid command \\+(un)?restrict/i, 'update psql: it must be of the same minor version as pg_restore'],
  [/No space left|could not extend/i, 'free some space at the server'],
  [/during recovery|in a read-only transaction/i, 'the server is a standby: restore to its primary'],
  [/deadlock|lock timeout/i, 'try again when nobody else works on these tables'],
]

/** The verdict on a client program: exit code 0, or a Failure with a remedy where one is known. */
export function judged(name: string): NonNullable<Program['judge']> {
  return (exit: Exit, stderrTail: string): Verdict => {
    if (exit.code === 0) return null
    const remedy = remedies.find(([pattern]) => pattern.test(stderrTail))?.[1] ?? ''
    return new Failure({ what: `${name} failed`, why: describeExit(exit, stderrTail), remedy })
  }
}
