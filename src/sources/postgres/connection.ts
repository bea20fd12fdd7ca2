import { existsSync } from 'node:fs'
import { homedir, userInfo } from 'node:os'
import { join } from 'node:path'
import * as z from 'zod'
import { usage } from '../../model/failure.ts'
import type { Secret } from '../../model/secret.ts'
import { type SecretSource, secretOption } from '../../platform/secret-source.ts'
import { type Place, paramVariables, parseUrl, place } from './url.ts'

/** Where a server is and who we are there. What is missing comes from libpq's environment variables. */
export const connectionOptions = {
  url: secretOption
    .optional()
    .describe('postgresql://user:password@host:port/database?sslmode=verify-full; instead of the parts'),
  host: z.string().min(1).optional(),
  port: z.int().min(1).max(65_535).optional(),
  user: z.string().min(1).optional(),
  password: secretOption.optional(),
  socket: z.string().startsWith('/').optional().describe('the folder of the Unix socket, instead of host'),
  database: z.string().min(1).optional().describe('wins over the one in the URL'),
}

export interface ConnectionOptions {
  readonly url?: SecretSource | undefined
  readonly host?: string | undefined
  readonly port?: number | undefined
  readonly user?: string | undefined
  readonly password?: SecretSource | undefined
  readonly socket?: string | undefined
  readonly database?: string | undefined
}

/** Everything that is needed to log in. */
export interface Connection {
  /** A host's name or address, or the folder of a Unix socket. */
  readonly host: string
  readonly port: number
  readonly user: string
  /** Undefined: the password file, or a login that needs none. */
  readonly password: Secret | undefined
  readonly database: string
  readonly params: Readonly<Record<string, string>>
}

/** Reads the secrets and fills the gaps. Throws a usage Failure for a URL that cannot be read or a secret that is not there. */
export async function resolveConnection(options: ConnectionOptions): Promise<Connection> {
  return connectionTo(await placeOf(options))
}

/** What the options themselves say. */
export async function placeOf(options: ConnectionOptions): Promise<Place> {
  const { url, password, socket, ...parts } = options
  const fromUrl = url ? parseUrl((await url.read()).reveal()) : undefined
  const explicit = place({ ...parts, host: socket ?? parts.host })
  const secret = password ? { password: await password.read() } : {}
  return { ...fromUrl, ...explicit, ...secret, params: fromUrl?.params ?? {} }
}

/** Fills the gaps of a place from the environment, as libpq would, and from its defaults. */
export function connectionTo(said: Place, env: NodeJS.ProcessEnv = process.env): Connection {
  const outside = place({
    host: env.PGHOST,
    port: env.PGPORT,
    user: env.PGUSER,
    password: env.PGPASSWORD,
    database: env.PGDATABASE,
  })
  const { host = 'localhost', port = 5432, ...rest } = { ...outside, ...said }
  const user = rest.user ?? userInfo().username
  const database = rest.database ?? user
  for (const text of [host, user, database]) if (text.includes('\0')) throw holdsNul()
  return { host, port, user, password: rest.password, database, params: paramsOf(said, env) }
}

function holdsNul() {
  return usage('cannot connect to PostgreSQL', 'a name holds a NUL character', 'correct the options')
}

function paramsOf(said: Place, env: NodeJS.ProcessEnv): Record<string, string> {
  const params: Record<string, string> = {}
  for (const [key, variable] of Object.entries(paramVariables)) {
    const value = said.params[key] ?? (env[variable] || homeFile(key))
    if (value) params[key] = value
  }
  return params
}

/** Files that libpq finds in the home folder: children have a private HOME, so they are told where the real one's are. */
function homeFile(param: string): string | undefined {
  const names: Readonly<Record<string, string>> = {
    passfile: '.pgpass',
    sslrootcert: '.postgresql/root.crt',
    sslcert: '.postgresql/postgresql.crt',
    sslkey: '.postgresql/postgresql.key',
  }
  const name = names[param]
  const path = name && join(homedir(), name)
  return path && existsSync(path) ? path : undefined
}

/** The same login, to another database. */
export function onDatabase(connection: Connection, database: string): Connection {
  return { ...connection, database }
}

/**
 * The environment of a client program. The database stands in PGDATABASE and nowhere else: as an argument, a name
 * such as `host=evil` or `postgresql://x` would be taken for a connection string (PostgreSQL docs, PQconnectdbParams).
 */
export function childEnv(connection: Connection, applicationName: string): Record<string, string | Secret> {
  const env: Record<string, string | Secret> = {
    PGHOST: connection.host,
    PGPORT: String(connection.port),
    PGUSER: connection.user,
    PGDATABASE: connection.database,
    PGAPPNAME: applicationName,
  }
  for (const [key, value] of Object.entries(connection.params)) {
    const variable = paramVariables[key]
    if (variable) env[variable] = value
  }
  env.PGCONNECT_TIMEOUT ??= '30'
  if (connection.password) env.PGPASSWORD = connection.password
  return env
}

/**
 * The connection, on which the server looks every few seconds whether its client is still there (PostgreSQL docs,
 * `client_connection_check_interval`, 14 and newer): a session that waits for a lock, or makes an index, would otherwise
 * go on and hold its snapshot after our program was killed.
 */
export function noticingItsEnd(connection: Connection, serverVersionNum: number): Connection {
  if (serverVersionNum < 140_000) return connection
  const given = connection.params.options
  const options = `${given ? `${given} ` : ''}-c client_connection_check_interval=3s`
  return { ...connection, params: { ...connection.params, options } }
}

/** For messages: `postgresql://db.example:5432/shop`; no user, no secret. */
export function showConnection({ host, port, database }: Connection): string {
  const place = host.startsWith('/') ? encodeURIComponent(host) : host.includes(':') ? `[${host}]` : host
  return `postgresql://${place}:${port}/${encodeURIComponent(database)}`
}
