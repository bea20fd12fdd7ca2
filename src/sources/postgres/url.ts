import { usage } from '../../model/failure.ts'
import { Secret } from '../../model/secret.ts'

/** Where a database is, as far as somebody said so. Host and port may be lists, `a,b`, as libpq has them. */
export interface Place {
  readonly host?: string
  readonly port?: string
  readonly user?: string
  readonly password?: Secret
  readonly database?: string
  /** What opens an encrypted `sslkey`. */
  readonly sslpassword?: Secret
  /** libpq's other parameters by their keywords: `sslmode`, `connect_timeout`. */
  readonly params: Readonly<Record<string, string>>
}

/** The parameters that we pass on, and the variables by which libpq takes them (PostgreSQL docs, "Environment Variables"). */
export const paramVariables: Readonly<Record<string, string>> = {
  hostaddr: 'PGHOSTADDR',
  service: 'PGSERVICE',
  servicefile: 'PGSERVICEFILE',
  sslmode: 'PGSSLMODE',
  sslnegotiation: 'PGSSLNEGOTIATION',
  sslrootcert: 'PGSSLROOTCERT',
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
  sslcrl: 'PGSSLCRL',
  ssl_min_protocol_version: 'PGSSLMINPROTOCOLVERSION',
  ssl_max_protocol_version: 'PGSSLMAXPROTOCOLVERSION',
  channel_binding: 'PGCHANNELBINDING',
  connect_timeout: 'PGCONNECT_TIMEOUT',
  options: 'PGOPTIONS',
  passfile: 'PGPASSFILE',
  gssencmode: 'PGGSSENCMODE',
  target_session_attrs: 'PGTARGETSESSIONATTRS',
}

/** Parameters that change nothing for us, or that others write into every URL. */
const ignored = new Set(['application_name', 'fallback_application_name', 'client_encoding', 'schema'])

const parts = new Set(['host', 'port', 'user', 'password', 'dbname', 'sslpassword'])

/**
 * Reads a connection string as libpq does (PostgreSQL docs, "Connection Strings"): a URI, or keywords and values
 * (`host=db dbname=shop`). Every part may be missing. Throws a usage Failure that never quotes it: it may hold a password.
 */
export function parseUrl(text: string): Place {
  const isKeywords = !/^\s*postgres(ql)?:/.test(text) && /^\s*\w+\s*=/.test(text)
  return placeFrom(isKeywords ? keywords(text) : parseUri(text))
}

/** A second @ is one of a password: what follows the first would be shown as host and database. */
function parseUri(url: string): Record<string, string> {
  const match =
    /^postgres(?:ql)?:\/\/(?:([^@/:]*)(?::([^@/]*))?@)?([^/?@]*)(?:\/([^?@]*))?(?:\?(.*))?$/s.exec(url.trim())
  const places = match?.[3]?.split(',').map(each => /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(each))
  if (!match || !places || places.includes(null)) {
    throw wrong(
      'it does not look like postgresql://user:password@host:port/database',
      'percent-encode special characters in it: @ is %40, / is %2F, % is %25',
    )
  }
  const [, user, password, , database, query] = match
  const hosts = places.map(place => decoded(place?.[1] ?? '').replace(/^\[(.*)\]$/, '$1'))
  const ports = places.map(place => place?.[2] ?? '')
  const said = {
    host: hosts.join(','),
    port: ports.every(port => port === '') ? '' : ports.join(','),
    user: decoded(user ?? ''),
    password: decoded(password ?? ''),
    dbname: decoded(database ?? ''),
  }
  const filled = Object.entries(said).filter(([, value]) => value !== '')
  return { ...Object.fromEntries(filled), ...queryOf(query ?? '') }
}

function queryOf(query: string): Record<string, string> {
  const given: Record<string, string> = {}
  for (const pair of query.split('&').filter(part => part !== '')) {
    const at = pair.indexOf('=')
    if (at < 1) throw wrong('a parameter has no value', 'write it as ?name=value')
    given[decoded(pair.slice(0, at))] = decoded(pair.slice(at + 1))
  }
  // The short form that JDBC's users know (PostgreSQL docs, "Connection URIs").
  if (given.ssl === 'true') given.sslmode ??= 'require'
  delete given.ssl
  return given
}

/** `host=db password='it''s'`: a backslash takes the next character as it is (PostgreSQL docs, "Keyword/Value Connection Strings"). */
function keywords(text: string): Record<string, string> {
  const given: Record<string, string> = {}
  const pattern = /\s*(\w+)\s*=\s*(?:'((?:\\.|[^'\\])*)'(?=\s|$)|((?:\\.|[^\s'\\])*)(?=\s|$))\s*/suy
  while (pattern.lastIndex < text.length) {
    const match = pattern.exec(text)
    if (!match)
      throw wrong(
        'it is not a list of keyword=value',
        "put values with spaces in '...', and write \\' and \\\\ in them",
      )
    given[match[1] ?? ''] = (match[2] ?? match[3] ?? '').replace(/\\(.)/gsu, '$1')
  }
  return given
}

/** A place of libpq's keywords. Throws a usage Failure for one that we do not know; values are not quoted. */
export function placeFrom(given: Readonly<Record<string, string>>): Place {
  const params: Record<string, string> = {}
  for (const [key, value] of Object.entries(given)) {
    if (key in paramVariables) params[key] = value
    else if (!parts.has(key) && !ignored.has(key))
      throw wrong(
        `the parameter "${key}" is not supported`,
        `supported: ${[...parts, ...Object.keys(paramVariables)].join(', ')}`,
      )
  }
  const { dbname, ...rest } = given
  return place({ ...rest, database: dbname, params })
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw wrong('it holds a % that is not followed by two hexadecimal digits', 'write % as %25')
  }
}

/** Leaves out what is empty; checks the ports. */
export function place(o: {
  readonly host?: string | undefined
  readonly port?: string | number | undefined
  readonly user?: string | undefined
  readonly password?: string | undefined
  readonly database?: string | undefined
  readonly sslpassword?: string | undefined
  readonly params?: Readonly<Record<string, string>>
}): Place {
  const bad = portsOf(String(o.port ?? '')).find(port => !(Number(port) > 0 && Number(port) < 65_536))
  if (bad !== undefined) throw wrong(`the port "${bad}" is not a number from 1 to 65535`, 'correct it')
  return {
    ...(o.host ? { host: o.host } : {}),
    ...(o.port ? { port: String(o.port) } : {}),
    ...(o.user ? { user: o.user } : {}),
    ...(o.password ? { password: new Secret(o.password) } : {}),
    ...(o.database ? { database: o.database } : {}),
    ...(o.sslpassword ? { sslpassword: new Secret(o.sslpassword) } : {}),
    params: o.params ?? {},
  }
}

function portsOf(list: string): string[] {
  return list.split(',').filter(port => port !== '')
}

function wrong(why: string, remedy: string) {
  return usage('cannot read how to connect to PostgreSQL', why, remedy)
}
