import { usage } from '../../model/failure.ts'
import { Secret } from '../../model/secret.ts'

/** Where a database is, as far as a URL says so. */
export interface Place {
  readonly host?: string
  readonly port?: number
  readonly socket?: string
  readonly user?: string
  readonly password?: Secret
  readonly database?: string
  readonly ssl?: Ssl
}

export const sslModes = ['disabled', 'preferred', 'required', 'verify-ca', 'verify-identity'] as const

/** How the connection is encrypted, in MySQL's words; files are paths. */
export interface Ssl {
  readonly mode?: (typeof sslModes)[number] | undefined
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: string | undefined
}

const parameters = ['socket', 'ssl-mode', 'ssl-ca', 'ssl-cert', 'ssl-key']

/**
 * Reads `mysql://user:password@host:port/database?ssl-mode=required`, or the same with `mariadb://`; every part may be
 * missing. Throws a usage Failure that never quotes the URL, which may hold a password.
 */
export function parseUrl(url: string): Place {
  // A second @ is one of a password: what follows the first would be shown as host and database.
  const match =
    /^(?:mysql|mariadb):\/\/(?:([^@/:]*)(?::([^@/]*))?@)?(\[[^\]]*\]|[^/?:@]*)(?::(\d+))?(?:\/([^?@]*))?(?:\?(.*))?$/s.exec(
      url.trim(),
    )
  if (!match)
    throw wrong(
      'it does not look like mysql://user:password@host:port/database',
      'percent-encode special characters in it: @ is %40, / is %2F, % is %25',
    )
  const [, user, password, host, port, database, query] = match
  const given = queryOf(query ?? '')
  const portNumber = port === undefined ? undefined : Number(port)
  if (portNumber !== undefined && !(portNumber > 0 && portNumber < 65_536))
    throw wrong(`the port "${port}" is not a number from 1 to 65535`, 'correct it')
  const ssl = sslOf(given)
  return {
    ...(host ? { host: decoded(host).replace(/^\[(.*)\]$/, '$1') } : {}),
    ...(portNumber === undefined ? {} : { port: portNumber }),
    ...(given.socket ? { socket: given.socket } : {}),
    ...(user ? { user: decoded(user) } : {}),
    ...(password ? { password: new Secret(decoded(password)) } : {}),
    ...(database ? { database: decoded(database) } : {}),
    ...(ssl ? { ssl } : {}),
  }
}

function queryOf(query: string): Record<string, string> {
  const given: Record<string, string> = {}
  for (const pair of query.split('&').filter(part => part !== '')) {
    const at = pair.indexOf('=')
    const name = at < 1 ? pair : decoded(pair.slice(0, at))
    if (at < 1 || !parameters.includes(name))
      throw wrong(`the parameter "${name}" is not supported`, `supported: ${parameters.join(', ')}`)
    given[name] = decoded(pair.slice(at + 1))
  }
  return given
}

function sslOf(given: Record<string, string>): Ssl | undefined {
  const said = given['ssl-mode']?.toLowerCase().replaceAll('_', '-')
  const mode = sslModes.find(each => each === said)
  if (said !== undefined && !mode) throw wrong('its ssl-mode is unknown', `there are ${sslModes.join(', ')}`)
  const files = { ca: given['ssl-ca'], cert: given['ssl-cert'], key: given['ssl-key'] }
  return mode || files.ca || files.cert || files.key ? { mode, ...files } : undefined
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw wrong('it holds a % that is not followed by two hexadecimal digits', 'write % as %25')
  }
}

function wrong(why: string, remedy: string) {
  return usage('cannot read the URL of the database', why, remedy)
}
