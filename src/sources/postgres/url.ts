import { usage } from '../../model/failure.ts'
import { Secret } from '../../model/secret.ts'

/** Where a database is, as far as somebody said so. */
export interface Place {
  readonly host?: string
  readonly port?: number
  readonly user?: string
  readonly password?: Secret
  readonly database?: string
  /** libpq's other parameters by their keywords: `sslmode`, `connect_timeout`. */
  readonly params: Readonly<Record<string, string>>
}

/** The parameters that we pass on, and the variables by which libpq takes them (PostgreSQL docs, "Environment Variables"). */
export const paramVariables: Readonly<Record<string, string>> = {
  sslmode: 'PGSSLMODE',
  sslrootcert: 'PGSSLROOTCERT',
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
  sslcrl: 'PGSSLCRL',
  channel_binding: 'PGCHANNELBINDING',
  connect_timeout: 'PGCONNECT_TIMEOUT',
  options: 'PGOPTIONS',
  passfile: 'PGPASSFILE',
  gssencmode: 'PGGSSENCMODE',
  target_session_attrs: 'PGTARGETSESSIONATTRS',
}

/** Parameters that change nothing for us, or that others write into every URL. */
const ignored = new Set(['application_name', 'fallback_application_name', 'client_encoding', 'schema'])

/**
 * Reads a connection URI as libpq does (PostgreSQL docs, "Connection URIs"): every part may be missing, parameters may
 * stand in for parts. Throws a usage Failure that never quotes the URL, which may hold a password.
 */
export function parseUrl(url: string): Place {
  const match =
    /^postgres(?:ql)?:\/\/(?:([^@/:]*)(?::([^@/]*))?@)?(\[[^\]]*\]|[^/?:@]*)(?::(\d*))?(?:\/([^?]*))?(?:\?(.*))?$/s.exec(
      url.trim(),
    )
  if (!match) {
    throw wrong(
      'it does not look like postgresql://user:password@host:port/database',
      'percent-encode special characters in it: @ is %40, / is %2F, % is %25',
    )
  }
  const [, user, password, host, port, database, query] = match
  if (host?.includes(',')) throw wrong('it names several hosts', 'name one host')
  const given = queryOf(query ?? '')
  const params: Record<string, string> = {}
  for (const [key, value] of Object.entries(given)) {
    if (key in paramVariables) params[key] = value
    else if (!['host', 'port', 'user', 'password', 'dbname'].includes(key) && !ignored.has(key))
      throw wrong(
        `the parameter "${key}" is not supported`,
        `supported: ${Object.keys(paramVariables).join(', ')}`,
      )
  }
  return place({
    host: given.host ?? decoded(host)?.replace(/^\[(.*)\]$/, '$1'),
    port: given.port ?? port,
    user: given.user ?? decoded(user),
    password: given.password ?? decoded(password),
    database: given.dbname ?? decoded(database),
    params,
  })
}

function queryOf(query: string): Record<string, string> {
  const given: Record<string, string> = {}
  for (const pair of query.split('&').filter(part => part !== '')) {
    const at = pair.indexOf('=')
    if (at < 1) throw wrong('a parameter has no value', 'write it as ?name=value')
    given[decoded(pair.slice(0, at)) ?? ''] = decoded(pair.slice(at + 1)) ?? ''
  }
  // The short form that JDBC's users know (PostgreSQL docs, "Connection URIs").
  if (given.ssl === 'true') given.sslmode ??= 'require'
  delete given.ssl
  return given
}

function decoded(text: string | undefined): string | undefined {
  try {
    return text === undefined ? undefined : decodeURIComponent(text)
  } catch {
    throw wrong('it holds a % that is not followed by two hexadecimal digits', 'write % as %25')
  }
}

/** Leaves out what is empty; checks the port. */
export function place(o: {
  readonly host?: string | undefined
  readonly port?: string | number | undefined
  readonly user?: string | undefined
  readonly password?: string | undefined
  readonly database?: string | undefined
  readonly params?: Readonly<Record<string, string>>
}): Place {
  const port = Number(o.port || Number.NaN)
  if (o.port && !(Number.isInteger(port) && port > 0 && port < 65_536))
    throw wrong(`the port "${o.port}" is not a number from 1 to 65535`, 'correct it')
  return {
    ...(o.host ? { host: o.host } : {}),
    ...(o.port ? { port } : {}),
    ...(o.user ? { user: o.user } : {}),
    ...(o.password ? { password: new Secret(o.password) } : {}),
    ...(o.database ? { database: o.database } : {}),
    params: o.params ?? {},
  }
}

function wrong(why: string, remedy: string) {
  return usage('cannot read the PostgreSQL URL', why, remedy)
}
