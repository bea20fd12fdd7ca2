import { existsSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join, resolve } from 'node:path'
import * as z from 'zod'
import { usage } from '../../model/failure.ts'
import { Secret } from '../../model/secret.ts'
import type { Program } from '../../model/step.ts'
import { homeFolder } from '../../platform/home.ts'
import { type SecretSource, secretOption } from '../../platform/secret-source.ts'
import { demandPasswordFile, type Found, passwordIn } from './password-file.ts'
import { placeOfService } from './service-file.ts'
import { type Place, paramVariables, parseUrl, place } from './url.ts'

/** Longer names are cut off by the server: it would be another database. */
export const databaseName = z
  .string()
  .min(1)
  .refine(name => Buffer.byteLength(name) <= 63 && !name.includes('\0'), {
    message: 'the name of a database has at most 63 bytes, and no NUL character',
  })

/** Where a server is and who we are there. What is missing comes from the service file and libpq's environment variables. */
export const connectionOptions = {
  url: secretOption
    .optional()
    .describe(
      'postgresql://user:password@host:port/database?sslmode=verify-full, or keywords: "host=db dbname=shop"; instead of the parts',
    ),
  service: z
    .string()
    .min(1)
    .optional()
    .describe('a section of ~/.pg_service.conf, or of the file that PGSERVICEFILE names'),
  host: z.string().min(1).optional().meta({
    description: 'the name or address of the server; several: a,b, of which the first that answers is taken',
    example: 'db.example',
  }),
  port: z.int().min(1).max(65_535).optional().describe('5432 unless set'),
  user: z
    .string()
    .min(1)
    .optional()
    .describe('the role to log in as; else PGUSER, else the name of the system user'),
  password: secretOption.optional().describe('else PGPASSWORD or ~/.pgpass'),
  passfile: z
    .string()
    .min(1)
    .optional()
    .describe('the password file, which must be there; else PGPASSFILE or ~/.pgpass'),
  socket: z
    .string()
    .regex(/^[/@]/)
    .optional()
    .meta({ description: 'the folder of the Unix socket, instead of host', example: '/var/run/postgresql' }),
  database: databaseName.optional().describe('the database; wins over the one in the URL'),
  sslmode: z
    .enum(['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'])
    .optional()
    .describe('whether TLS is used and what is checked, as in libpq; prefer unless set'),
  sslrootcert: z
    .string()
    .min(1)
    .optional()
    .describe('the file of the authority that the server must be known to'),
  sslcert: z
    .string()
    .min(1)
    .optional()
    .describe('the file of our own certificate, for servers that ask for one'),
  sslkey: z.string().min(1).optional().describe('the file of the key of our own certificate'),
}

export interface ConnectionOptions {
  readonly url?: SecretSource | undefined
  readonly service?: string | undefined
  readonly host?: string | undefined
  readonly port?: number | undefined
  readonly user?: string | undefined
  readonly password?: SecretSource | undefined
  readonly passfile?: string | undefined
  readonly socket?: string | undefined
  readonly database?: string | undefined
  readonly sslmode?: string | undefined
  readonly sslrootcert?: string | undefined
  readonly sslcert?: string | undefined
  readonly sslkey?: string | undefined
}

/** One of the places where a server may be. */
export interface HostPort {
  /** A host's name or address, or the folder of a Unix socket; `@name` for one without a file. */
  readonly host: string
  readonly port: number
  /** Where to connect to, instead of looking the host's name up (libpq's `hostaddr`). */
  readonly address?: string
}

/** Everything that is needed to log in. */
export interface Connection extends HostPort {
  /** More places, to be tried in this order. A connection that was made has none. */
  readonly others?: readonly HostPort[]
  readonly user: string
  /** Undefined: the password file, or a login that needs none. */
  readonly password: Secret | undefined
  readonly sslpassword?: Secret
  readonly database: string
  /** By libpq's keywords; files are absolute paths. */
  readonly params: Readonly<Record<string, string>>
}

/** Reads the secrets and fills the gaps. Throws a usage Failure for a URL that cannot be read or a secret that is not there. */
export async function resolveConnection(options: ConnectionOptions): Promise<Connection> {
  return connectionTo(await placeOf(options))
}

/** What the options themselves say. */
export async function placeOf(options: ConnectionOptions): Promise<Place> {
  const { url, password, passfile, socket, service, sslmode, sslrootcert, sslcert, sslkey, ...parts } =
    options
  if (passfile !== undefined) demandPasswordFile(passfile)
  const fromUrl = url ? parseUrl((await url.read()).reveal()) : undefined
  const explicit = place({ ...parts, host: socket ?? parts.host })
  const secret = password ? { password: await password.read() } : {}
  const params: Record<string, string> = { ...fromUrl?.params }
  for (const [key, value] of Object.entries({ passfile, service, sslmode, sslrootcert, sslcert, sslkey }))
    if (value) params[key] = value
  return { ...fromUrl, ...explicit, ...secret, params }
}

/** What would make a login safer than our own connection can promise. Saying nothing would be worse. */
const unsupported = ['PGREQUIREAUTH', 'PGREQUIREPEER']

/**
 * Fills the gaps of a place as libpq would: from its service, then from the environment, then from the defaults. Throws
 * a usage Failure for a service that is not there, and for variables that we cannot follow.
 */
export function connectionTo(said: Place, env: NodeJS.ProcessEnv = process.env): Connection {
  const variable = unsupported.find(name => env[name])
  if (variable)
    throw usage('cannot connect to PostgreSQL', `${variable} is set, and is not supported`, 'unset it')
  const name = said.params.service ?? env.PGSERVICE
  const service = name
    ? placeOfService(name, said.params.servicefile ?? (env.PGSERVICEFILE || undefined), env)
    : undefined
  const params = paramsOf({ ...service?.params, ...said.params }, env)
  const outside = place({
    host: env.PGHOST,
    port: env.PGPORT,
    user: env.PGUSER,
    password: env.PGPASSWORD,
    database: env.PGDATABASE,
  })
  const { host, port, hostaddr, ...rest } = { ...outside, ...service, ...said, hostaddr: params.hostaddr }
  const user = rest.user ?? systemUser()
  const database = rest.database ?? user
  for (const text of [host ?? '', user, database]) if (text.includes('\0')) throw holdsNul()
  const [first, ...others] = hostsOf(host, hostaddr, port)
  return {
    ...(first ?? { host: 'localhost', port: 5432 }),
    ...(others.length > 0 ? { others } : {}),
    ...(rest.sslpassword ? { sslpassword: rest.sslpassword } : {}),
    user,
    password: rest.password,
    database,
    params: without(params, ['hostaddr', 'service', 'servicefile']),
  }
}

/** One port may stand for all hosts; otherwise each list has as many members (PostgreSQL docs, "Specifying Multiple Hosts"). */
function hostsOf(host = '', hostaddr = '', port = ''): HostPort[] {
  const [hosts, addresses, ports] = [host, hostaddr, port].map(list => list.split(',')) as [
    string[],
    string[],
    string[],
  ]
  const count = host === '' ? addresses.length : hosts.length
  const fits = (list: readonly string[], text: string): boolean => text === '' || list.length === count
  if (!fits(addresses, hostaddr) || !(fits(ports, port) || ports.length === 1))
    throw usage(
      'cannot connect to PostgreSQL',
      'the lists of hosts, addresses and ports are not of one length',
      'name one port, or one for each host',
    )
  return Array.from({ length: count }, (_, index) => {
    const address = addresses[index] ?? ''
    return {
      host: hosts[index] || address || 'localhost',
      port: Number((ports.length === 1 ? ports[0] : ports[index]) || 5432),
      ...(address ? { address } : {}),
    }
  })
}

/** The connection at each of its places, in the order in which they are tried. */
export function placesOf({ others = [], ...rest }: Connection): Connection[] {
  const { address: _, ...login } = rest
  return [rest, ...others.map(other => ({ ...login, ...other }))]
}

/** The name of whom we run as; a container may run as a number that has none. */
function systemUser(): string {
  try {
    return userInfo().username
  } catch {
    throw usage(
      'cannot connect to PostgreSQL',
      `no user was given, and the user ${process.getuid?.()} of this system has no name`,
      'say user, or set PGUSER',
    )
  }
}

function holdsNul() {
  return usage('cannot connect to PostgreSQL', 'a name holds a NUL character', 'correct the options')
}

const files = new Set(['passfile', 'sslrootcert', 'sslcert', 'sslkey', 'sslcrl'])

function paramsOf(said: Place['params'], env: NodeJS.ProcessEnv): Record<string, string> {
  const params: Record<string, string> = {}
  for (const [key, variable] of Object.entries(paramVariables)) {
    const value = said[key] ?? (env[variable] || homeFile(key))
    // Children run in another folder.
    if (value) params[key] = files.has(key) && value !== 'system' ? resolve(value) : value
  }
  // As libpq has it: whoever trusts all of the machine's authorities must at least check the name.
  if (params.sslrootcert === 'system') params.sslmode ??= 'verify-full'
  return params
}

function without(params: Record<string, string>, keys: readonly string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(params).filter(([key]) => !keys.includes(key)))
}

/** Files that libpq finds in the home folder: children have a private HOME, so they are told where the real one's are. */
function homeFile(param: string): string | undefined {
  const names: Readonly<Record<string, string>> = {
    passfile: '.pgpass',
    sslrootcert: '.postgresql/root.crt',
    sslcert: '.postgresql/postgresql.crt',
    sslkey: '.postgresql/postgresql.key',
    sslcrl: '.postgresql/root.crl',
  }
  const name = names[param]
  const path = name && join(homeFolder(), name)
  return path && existsSync(path) ? path : undefined
}

/**
 * The password for a place and database: the one that was said, else what the password file has for it. Our own
 * connections and the client programs are told the same.
 */
export function passwordOf(connection: Connection): Found {
  const { password, params } = connection
  if (password) return { password }
  return params.passfile ? passwordIn(params.passfile, connection) : {}
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
  const places = placesOf(connection)
  const env: Record<string, string | Secret> = {
    PGHOST: places.map(each => each.host).join(','),
    PGPORT: places.map(each => each.port).join(','),
    PGUSER: connection.user,
    PGDATABASE: connection.database,
    PGAPPNAME: applicationName,
  }
  if (places.some(each => each.address)) env.PGHOSTADDR = places.map(each => each.address ?? '').join(',')
  for (const [key, value] of Object.entries(connection.params)) {
    const variable = paramVariables[key]
    if (variable) env[variable] = value
  }
  env.PGCONNECT_TIMEOUT ??= '30'
  // Each of several places may have a password of its own in the file.
  const { password } = connection.others ? connection : passwordOf(connection)
  if (password) env.PGPASSWORD = password
  return env
}

/**
 * How a client program logs in: its environment and, for the one secret that libpq takes from no variable, a service
 * file without a name.
 */
export function loginOf(
  connection: Connection,
  applicationName: string,
): Required<Pick<Program, 'env'>> & Pick<Program, 'secretFds'> {
  const env = childEnv(connection, applicationName)
  if (!connection.sslpassword) return { env }
  const file = new Secret(`[cairn]\nsslpassword=${connection.sslpassword.reveal()}\n`)
  return { env: { ...env, PGSERVICE: 'cairn', PGSERVICEFILE: '/dev/fd/3' }, secretFds: [file] }
}

/**
 * The connection, on which the server looks every few seconds whether its client is still there (PostgreSQL docs,
 * `client_connection_check_interval`, 14 and newer): a session that waits for a lock, or makes an index, would otherwise
 * go on and hold its snapshot after our program was killed.
 */
export function noticingItsEnd(connection: Connection, serverVersionNum: number): Connection {
  return serverVersionNum < 140_000
    ? connection
    : withSetting(connection, 'client_connection_check_interval', '3s')
}

/** The connection, with a setting of its sessions, which wins over what the server, the database and the role are set to. */
export function withSetting(connection: Connection, name: string, value: string): Connection {
  const given = connection.params.options
  const options = `${given ? `${given} ` : ''}-c ${name}=${value.replace(/[\\\s]/g, '\\$&')}`
  return { ...connection, params: { ...connection.params, options } }
}

/** For messages: `postgresql://db.example:5432/shop`; no user, no secret. */
export function showConnection({ host, port, database }: Connection): string {
  const place = /^[/@]/.test(host) ? encodeURIComponent(host) : host.includes(':') ? `[${host}]` : host
  return `postgresql://${place}:${port}/${encodeURIComponent(database)}`
}
