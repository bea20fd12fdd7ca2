import { Failure } from '../../model/failure.ts'
import type { Exit, Program, Verdict } from '../../model/step.ts'
import { describeExit } from '../../platform/program.ts'
import { type Connection, showConnection } from './connection.ts'

/** The number of the first error that a client program reports (`ERROR 1045 (28000)`, `Got error: 1045`, `Error 1412:`, `(1044)`); 0 for none. */
function errorNumber(text: string): number {
  return Number(/\berror:? ?(\d{4})\b/i.exec(text)?.[1] ?? /\((\d{4})\)\s*$/m.exec(text)?.[1] ?? 0)
}

/** What the server or the network said, by its number (MariaDB and MySQL docs, "Error Codes"), and what to do. */
const remedies: Readonly<Record<number, string>> = {
  1045: 'check user and password, and from which hosts this user may come',
  1698: 'this user logs in by the Unix socket only: use another, or run as that user of the machine',
  1044: 'GRANT this user what it lacks on that database',
  1142: 'GRANT this user what it lacks on that table',
  1143: 'GRANT this user what it lacks on that table',
  1227: 'GRANT this user the privilege that is named, or use an administrator',
  1370: 'GRANT this user what it lacks on that routine',
  1049: 'check its name; case may matter',
  1129: 'run FLUSH HOSTS at the server: this host was refused after many failures',
  1130: 'CREATE USER for this host too: the server lets this host not in',
  1040: 'raise max_connections, or close some',
  1153: 'raise max_allowed_packet at the server that is restored to, above its largest row',
  1205: 'try again when nobody else works on these tables',
  1213: 'try again when nobody else works on these tables',
  1290: 'the server runs with an option that forbids it: turn off read_only, or restore to its primary',
  1356: 'a view uses a table, a column or a function that is gone, or that its definer may not use: repair or drop the view',
  1412: 'a table was altered or truncated while it was dumped: run again when no migration runs',
  1419: 'SET GLOBAL log_bin_trust_function_creators = 1 at the server, or restore as an administrator',
  1449: 'create the account that the definition names, or change its definer',
  1146: 'a backup: run again when no migration drops or renames tables; a restore of some tables: name what they use, too (--only)',
  2002: 'check that the server runs, and its host, port or socket',
  2003: 'check that the server runs, and its host, port and firewalls',
  2005: 'check the name of the host; in a container, the network it is in',
  2006: 'see the log of the server: it ended the connection; a row larger than max_allowed_packet does that too',
  2013: 'see the log of the server: it ended the connection',
  2026: 'check the ssl options and the certificate of the server',
  2059: 'use the client programs of the server: is it the product that was said (type: mariadb or type: mysql)?',
  3948: 'turn off what loads local files',
}

const patterns: readonly (readonly [RegExp, string])[] = [
  [
    /insufficient privileges to SHOW CREATE/i,
    'GRANT the user SHOW_ROUTINE (MySQL), or SHOW CREATE ROUTINE or SELECT ON mysql.proc (MariaDB)',
  ],
  [/ssl|tls|certificate/i, 'check the ssl options and the certificate of the server'],
  [/world-writable|could not open required defaults file/i, 'check the option file and its permissions'],
  [/unknown (option|variable)/i, 'correct the option file or "args"'],
  [/No space left|disk full/i, 'free some space at the server'],
]

function remedyFor(text: string): string {
  const byNumber = remedies[errorNumber(text)]
  return byNumber ?? patterns.find(([pattern]) => pattern.test(text))?.[1] ?? ''
}

/** The verdict on a client program: exit code 0, or a Failure with a remedy where one is known. */
export function judged(what: string): NonNullable<Program['judge']> {
  return (exit: Exit, stderrTail: string): Verdict => {
    if (exit.code === 0) return null
    const said = withoutNoise(stderrTail)
    return new Failure({
      what: `${what} failed`,
      why: describeExit(exit, said),
      remedy: remedyFor(said),
      cause: new ServerError(errorNumber(said), said),
    })
  }
}

/** The verdict on a question of ours: says whether the login failed or the question. */
export function judgedQuestion(connection: Connection): NonNullable<Program['judge']> {
  return (exit, stderrTail) => {
    if (exit.code === 0) return null
    const said = withoutNoise(stderrTail)
    const number = errorNumber(said)
    const isLogin = [1040, 1045, 1129, 1130, 1698].includes(number) || number >= 2000
    const where = showConnection(connection, connection.database)
    return new Failure({
      what: isLogin ? `cannot connect to ${where}` : `the server at ${where} refused`,
      why: describeExit(exit, said),
      remedy: remedyFor(said),
      cause: new ServerError(number, said),
    })
  }
}

/** What a program says itself, without notes about names that will go, and without the statement, which holds rows. */
function withoutNoise(stderr: string): string {
  const lines = stderr
    .split('\n')
    .filter(line => !/deprecated|\[Warning\]|^WARNING: option|^\s*$/i.test(line))
  const own = lines.filter(line => /^(ERROR \d|(.*\/)?(mysql|mariadb)[\w-]*: )/.test(line))
  return (own.length > 0 ? own : lines).join('\n')
}

/** The number that the server gave to what went wrong. */
class ServerError extends Error {
  readonly number: number

  constructor(number: number, message: string) {
    super(message)
    this.number = number
  }
}

/** The server's number behind a Failure of ours; 0 where there is none. */
export function numberOf(error: unknown): number {
  const cause = error instanceof Failure ? error.cause : error
  return cause instanceof ServerError ? cause.number : 0
}
