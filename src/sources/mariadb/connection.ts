import { resolve } from 'node:path'
import * as z from 'zod'
import { usage } from '../../model/failure.ts'
import { Secret } from '../../model/secret.ts'
import type { Program } from '../../model/step.ts'
import { homeFolder } from '../../platform/home.ts'
import { type SecretSource, secretOption } from '../../platform/secret-source.ts'
import { type Place, parseUrl, type Ssl, sslModes } from './url.ts'

/** The two products that speak this protocol; their programs and their SQL differ. */
export type Flavour = 'mariadb' | 'mysql'

export const flavourNames: Readonly<Record<Flavour, string>> = { mariadb: 'MariaDB', mysql: 'MySQL' }

const file = () => z.string().min(1).optional()

/** Where a server is and who we are there. What is missing comes from the programs' own option files. */
export const connectionOptions = {
  url: secretOption
    .optional()
    .describe('mysql://user:password@host:port/database?ssl-mode=required; instead of the parts'),
  host: z
    .string()
    .min(1)
    .optional()
    .meta({ description: 'name or address of the server', example: 'db.example' }),
  fallbackHost: z
    .string()
    .min(1)
    .optional()
    .describe('host where neither an option nor an option file names one'),
  port: z.int().min(1).max(65_535).optional().describe('TCP port; 3306 unless an option file says otherwise'),
  socket: z
    .string()
    .startsWith('/')
    .optional()
    .meta({ description: 'path of the Unix socket, instead of host', example: '/run/mysqld/mysqld.sock' }),
  user: z.string().min(1).optional().describe('user to log in as'),
  password: secretOption.optional().describe('absent: what an option file or MYSQL_PWD says'),
  ssl: z
    .strictObject({
      mode: z.enum(sslModes).optional().describe('as mysql --ssl-mode; verify-ca is for MySQL only'),
      ca: file().describe('file with the authority of the server certificate'),
      cert: file().describe('file with our certificate'),
      key: file().describe('file with the key of our certificate'),
    })
    .optional()
    .describe('TLS of the connection; without it, what the client programs do by default'),
  defaultsFile: file().describe('option file to read instead of all others (--defaults-file)'),
  defaultsExtraFile: file().describe('option file to read as well (--defaults-extra-file)'),
  defaultsGroupSuffix: file().describe('also read option groups with this suffix (--defaults-group-suffix)'),
}

export interface ConnectionOptions {
  readonly url?: SecretSource | undefined
  readonly host?: string | undefined
  readonly fallbackHost?: string | undefined
  readonly port?: number | undefined
  readonly socket?: string | undefined
  readonly user?: string | undefined
  readonly password?: SecretSource | undefined
  readonly ssl?: Ssl | undefined
  readonly defaultsFile?: string | undefined
  readonly defaultsExtraFile?: string | undefined
  readonly defaultsGroupSuffix?: string | undefined
}

/** Everything that the client programs are told to log in; what is undefined they find themselves. */
export interface Connection {
  readonly flavour: Flavour
  readonly host: string | undefined
  readonly fallbackHost: string | undefined
  readonly port: number | undefined
  readonly socket: string | undefined
  readonly user: string | undefined
  readonly password: Secret | undefined
  readonly ssl: Ssl | undefined
  /** The database that a URL named. */
  readonly database: string | undefined
  readonly defaultsFile: string | undefined
  readonly defaultsExtraFile: string | undefined
  readonly defaultsGroupSuffix: string | undefined
}

/** Reads the secrets. Throws a usage Failure for a URL that cannot be read or a secret that is not there. */
export async function resolveConnection(flavour: Flavour, options: ConnectionOptions): Promise<Connection> {
  const fromUrl: Place = options.url ? parseUrl((await options.url.read()).reveal()) : {}
  const password = options.password ? await options.password.read() : fromUrl.password
  const connection: Connection = {
    flavour,
    host: options.host ?? fromUrl.host,
    fallbackHost: options.fallbackHost,
    port: options.port ?? fromUrl.port,
    socket: options.socket ?? fromUrl.socket,
    user: options.user ?? fromUrl.user,
    password,
    ssl: options.ssl ?? fromUrl.ssl,
    database: fromUrl.database,
    defaultsFile: options.defaultsFile,
    defaultsExtraFile: options.defaultsExtraFile,
    defaultsGroupSuffix: options.defaultsGroupSuffix,
  }
  for (const text of [connection.host, connection.fallbackHost, connection.user, connection.database])
    if (text?.includes('\0'))
      throw usage('cannot connect', 'a name holds a NUL character', 'correct the options')
  return connection
}

/**
 * How a client program is told where to log in: option files first, because they only count there. The password
 * stands in an option file without a name; beside a file of the user's own, of which there can be one, in MYSQL_PWD.
 */
export function login(connection: Connection): Pick<Program, 'args' | 'env' | 'secretFds'> {
  const { defaultsFile, defaultsExtraFile, defaultsGroupSuffix, password } = connection
  const own = defaultsFile ?? defaultsExtraFile
  const args: string[] = []
  if (defaultsFile) args.push(`--defaults-file=${resolve(defaultsFile)}`)
  else if (defaultsExtraFile) args.push(`--defaults-extra-file=${resolve(defaultsExtraFile)}`)
  else if (password) args.push('--defaults-extra-file=/dev/fd/3')
  if (defaultsGroupSuffix) args.push(`--defaults-group-suffix=${defaultsGroupSuffix}`)
  return {
    args: [...args, ...placeArgs(connection), ...sslArgs(connection)],
    env: {
      ...outside(),
      // ~/.my.cnf is read last: its password would win over the one that was given.
      ...(password ? {} : { HOME: homeFolder() }),
      ...(password && own ? { MYSQL_PWD: password } : {}),
    },
    secretFds: password && !own ? [optionFile(password)] : [],
  }
}

function placeArgs({ host, port, socket, user }: Connection): string[] {
  return [
    ...(host === undefined ? [] : [`--host=${host}`]),
    ...(port === undefined ? [] : [`--port=${port}`]),
    // MySQL's programs take "localhost" for the socket even when a port is given.
    ...(port !== undefined && socket === undefined ? ['--protocol=TCP'] : []),
    ...(socket === undefined ? [] : [`--socket=${socket}`, '--protocol=SOCKET']),
    ...(user === undefined ? [] : [`--user=${user}`]),
  ]
}

/** The two products name the same wishes differently. Throws a usage Failure for one that MariaDB has not got. */
function sslArgs({ flavour, ssl }: Connection): string[] {
  if (!ssl) return []
  const files = [
    ...(ssl.ca ? [`--ssl-ca=${resolve(ssl.ca)}`] : []),
    ...(ssl.cert ? [`--ssl-cert=${resolve(ssl.cert)}`] : []),
    ...(ssl.key ? [`--ssl-key=${resolve(ssl.key)}`] : []),
  ]
  if (flavour === 'mysql')
    return [...(ssl.mode ? [`--ssl-mode=${ssl.mode.toUpperCase().replace('-', '_')}`] : []), ...files]
  switch (ssl.mode) {
    case 'disabled':
      return ['--skip-ssl']
    case 'required':
      return ['--ssl', '--skip-ssl-verify-server-cert', ...files]
    case 'verify-identity':
      return ['--ssl', '--ssl-verify-server-cert', ...files]
    case 'preferred':
      return ['--skip-ssl-verify-server-cert', ...files]
    case 'verify-ca':
      throw usage('cannot connect', "MariaDB's programs have no verify-ca", 'say verify-identity')
    default:
      return files
  }
}

/** What the programs themselves take from the environment. */
function outside(): Record<string, string> {
  const names = ['MYSQL_TCP_PORT', 'MYSQL_UNIX_PORT', 'MYSQL_HOST', 'MYSQL_PWD']
  return Object.fromEntries(
    names.flatMap(name => (process.env[name] ? [[name, process.env[name]]] : [])),
  ) as Record<string, string>
}

/** An option file's escapes (MySQL docs, "Using Option Files"); quotes are escaped because a # would end it after one. */
function optionFile(password: Secret): Secret {
  const escapes: Readonly<Record<string, string>> = {
    '\\': '\\\\',
    '"': '\\"',
    "'": "\\'",
    '\n': '\\n',
    '\r': '\\r',
    '\t': '\\t',
    '\b': '\\b',
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: \b has an escape in option files
  const value = password.reveal().replace(/[\\"'\n\r\t\u0008]/g, character => escapes[character] ?? character)
  return new Secret(`[client]\npassword="${value}"\n`)
}

/** For messages: `mysql://db.example:3306/shop`; no user, no secret. */
export function showConnection({ flavour, host, port, socket }: Connection, database?: string): string {
  const name = host?.includes(':') ? `[${host}]` : (host ?? 'localhost')
  const place = socket ? encodeURIComponent(socket) : port === undefined ? name : `${name}:${port}`
  return `${flavour}://${place}/${database === undefined ? '' : encodeURIComponent(database)}`
}
