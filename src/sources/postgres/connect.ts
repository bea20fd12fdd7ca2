import { readFile } from 'node:fs/promises'
import { isIP, Socket } from 'node:net'
import { getCACertificates, type SecureVersion, type ConnectionOptions as Tls } from 'node:tls'
import type pg from 'pg'
import type { Context } from '../../model/context.ts'
import { asFailure, Failure, usage } from '../../model/failure.ts'
import { type Connection, passwordOf, placesOf, showConnection } from './connection.ts'
import { codeOf, explainConnect, explainQuery } from './explain.ts'
import { mustBeAlone } from './pooler.ts'
import { withoutTimeouts } from './sql.ts'

/** A connection of our own, for questions; the data goes through PostgreSQL's programs. */
export interface Database extends AsyncDisposable {
  readonly connection: Connection
  /** Throws a Failure with the server's words, or the abort's reason. */
  rows<Row extends object>(sql: string, values?: readonly unknown[]): Promise<Row[]>
  /** The first row; throws when there is none. */
  one<Row extends object>(sql: string, values?: readonly unknown[]): Promise<Row>
  /** Why the connection is no longer there, else null. */
  lost(): Error | null
  /** Ends it, a running query included; may be called again, never throws. */
  close(): Promise<void>
}

const goodbyeMs = 2_000
/** A pool may have no second connection for us. */
const probeMs = 4_000

/**
 * Logs in. Throws a Failure that says what is wrong and what to do (`explainConnect`), leaving nothing open. Without an
 * sslmode it does as libpq: TLS where the server has it. Of several places the first is taken that can be reached and has
 * the `target_session_attrs`; `Database.connection` is then the connection to that one. An abort of the context ends it.
 */
export async function connect(
  connection: Connection,
  applicationName: string,
  ctx: Context,
  timeoutMs = timeoutOf(connection),
): Promise<Database> {
  const { target_session_attrs: wanted = 'any', ...params } = connection.params
  const places = placesOf({ ...connection, params })
  let first: unknown
  for (const attrs of wanted === 'prefer-standby' ? ['standby', 'any'] : [wanted]) {
    for (const place of places) {
      try {
        return await fitting(await connectOne(place, applicationName, ctx, timeoutMs), attrs)
      } catch (error) {
        ctx.signal.throwIfAborted()
        first ??= error
        if (isRefusal(error)) throw error
      }
    }
  }
  throw first
}

/** As libpq: a server that is there and says no is the answer, unless it is only starting up. */
function isRefusal(error: unknown): boolean {
  const cause = error instanceof Failure ? error.cause : error
  return cause instanceof Error && 'severity' in cause && codeOf(error) !== '57P03'
}

/** The database, if its server is of the kind wanted (PostgreSQL docs, `target_session_attrs`); else it is closed. */
async function fitting(db: Database, wanted: string): Promise<Database> {
  if (wanted === 'any') return db
  try {
    const { standby, readOnly } = await db.one<{ standby: boolean; readOnly: boolean }>(
      `SELECT pg_is_in_recovery() AS standby, current_setting('transaction_read_only') = 'on' AS "readOnly"`,
    )
    const is: Readonly<Record<string, boolean>> = {
      'read-write': !readOnly,
      'read-only': readOnly,
      primary: !standby,
      standby,
    }
    if (is[wanted]) return db
    throw usage(
      `cannot use ${showConnection(db.connection)}`,
      `the server is not what target_session_attrs=${wanted} asks for`,
      'name another host, or another target_session_attrs',
    )
  } catch (error) {
    await db.close()
    throw error
  }
}

/** libpq waits for two seconds at least; 0 is for ever. */
function timeoutOf({ params }: Connection): number {
  const seconds = Number.parseInt(params.connect_timeout ?? '15', 10)
  return seconds > 0 ? Math.max(2, seconds) * 1000 : 0
}

async function connectOne(
  connection: Connection,
  applicationName: string,
  ctx: Context,
  timeoutMs: number,
): Promise<Database> {
  ctx.signal.throwIfAborted()
  const modes = await tlsModes(connection)
  let first: unknown
  for (const tls of modes) {
    try {
      return await logIn(connection, applicationName, tls, ctx, timeoutMs)
    } catch (error) {
      ctx.signal.throwIfAborted()
      // What the second attempt says is less telling, unless the first one only lacked TLS.
      if (first === undefined || isNoTls(first)) first = error
      if (!isNoTls(error) && !isRefusedByHba(error) && !isTlsFault(error)) break
    }
  }
  if (first instanceof Failure) throw first
  throw withPasswordFile(explainConnect(first, connection), connection)
}

/** A password file that was not used is the likeliest reason why there is no password. */
function withPasswordFile(failure: Failure, connection: Connection): Failure {
  const { ignored } = passwordOf(connection)
  if (!ignored || !/wants a password/.test(failure.why)) return failure
  const { what, why, exit, cause } = failure
  return new Failure({ what, why: `${why}: ${ignored}`, remedy: 'chmod 600 the file', exit, cause })
}

function isNoTls(error: unknown): boolean {
  return error instanceof Error && /does not support SSL/.test(error.message)
}

function isRefusedByHba(error: unknown): boolean {
  return error instanceof Error && /pg_hba\.conf/.test(error.message)
}

/** The TLS itself failed, before the server knew who we are. */
function isTlsFault(error: unknown): boolean {
  return (
    error instanceof Error &&
    !('severity' in error) &&
    /SSL|TLS|CERT|SIGN/.test(`${codeOf(error)} ${error.message}`)
  )
}

/**
 * Undoes what a server, a role or a database may be set to and what would change our questions. First of all whose functions
 * and operators they mean: the owner of a database could let a superuser carry out his own. Then how dates and numbers are written, and
 * time limits, those that the server knows: they end a backup half-way.
 */
const settled = `
  SELECT pg_catalog.set_config('search_path', 'pg_catalog', false), pg_catalog.set_config('DateStyle', 'ISO', false),
         pg_catalog.set_config('standard_conforming_strings', 'on', false),
         pg_catalog.set_config('extra_float_digits', '1', false);
  ${withoutTimeouts}`

/** Settles the session, once it is sure that it is ours. */
async function settle(
  client: pg.Client,
  connection: Connection,
  another: () => Promise<pg.Client>,
): Promise<void> {
  const { rows } = await client.query<{ pid: number }>('SELECT pg_catalog.pg_backend_pid() AS pid')
  // A pooler gives its clients numbers of its own.
  const { processID } = client as { processID?: number }
  if (rows[0]?.pid !== processID) await mustBeAlone(client, connection, another)
  await client.query(settled)
}

async function logIn(
  connection: Connection,
  applicationName: string,
  ssl: false | Tls,
  ctx: Context,
  timeoutMs: number,
): Promise<Database> {
  let lost: Error | null = null
  const { client, close } = await dial(connection, applicationName, ssl, ctx, timeoutMs)
  client.on('error', error => {
    lost ??= error
  })
  try {
    await client.connect()
    await using others = new AsyncDisposableStack()
    await settle(client, connection, async () => {
      const other = await dial(connection, applicationName, ssl, ctx, probeMs)
      others.defer(other.close)
      other.client.on('error', () => {})
      await other.client.connect()
      return other.client
    })
    return database(client, connection, () => lost, close, ctx)
  } catch (error) {
    await close()
    throw error
  }
}

/** A client that has not connected yet. */
async function dial(
  connection: Connection,
  applicationName: string,
  ssl: false | Tls,
  ctx: Context,
  timeoutMs: number,
): Promise<{ client: pg.Client; close: () => Promise<void> }> {
  // Loaded here: no other command needs it.
  const { default: postgres } = await import('pg')
  const socket = socketTo(connection)
  const client = new postgres.Client({
    host: connection.host,
    port: connection.port,
    user: connection.user,
    password: () => passwordFor(connection),
    database: connection.database,
    application_name: applicationName,
    ssl,
    ...(connection.params.sslnegotiation === 'direct' ? { sslNegotiation: 'direct' as const } : {}),
    keepAlive: true,
    connectionTimeoutMillis: timeoutMs,
    ...(connection.params.options ? { options: connection.params.options } : {}),
    stream: () => socket,
  })
  return { client, close: closing(client, socket, ctx) }
}

/** Is asked only when the server wants one. */
function passwordFor(connection: Connection): string {
  const { password } = passwordOf(connection)
  if (!password) throw new Error('there is no password')
  return password.reveal()
}

/** A socket that goes where libpq would: to the address instead of the host's name, or to a socket without a file. */
function socketTo({ host, port, address }: Connection): Socket {
  const socket = new Socket()
  const path = isSocket(host) ? `${host.replace(/^@/, '\0')}/.s.PGSQL.${port}` : null
  const dial = socket.connect.bind(socket) as (target: object) => Socket
  const goal = path === null ? { port, host: address ?? host } : { path }
  return Object.assign(socket, { connect: () => dial(goal) })
}

function isSocket(host: string): boolean {
  return /^[/@]/.test(host)
}

/** A server that does not answer any more must not keep us from ending. */
function closing(client: pg.Client, socket: Socket, ctx: Context): () => Promise<void> {
  let closed: Promise<void> | undefined
  const close = (): Promise<void> => {
    ctx.signal.removeEventListener('abort', close)
    closed ??= Promise.race([client.end(), later(goodbyeMs)])
      .catch(() => {})
      .then(() => {
        socket.destroy()
      })
    return closed
  }
  ctx.signal.addEventListener('abort', close, { once: true })
  return close
}

function later(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms).unref())
}

function database(
  client: pg.Client,
  connection: Connection,
  lost: () => Error | null,
  close: () => Promise<void>,
  ctx: Context,
): Database {
  const rows = async <Row extends object>(sql: string, values: readonly unknown[] = []): Promise<Row[]> => {
    try {
      return (await client.query<Row>(sql, [...values])).rows
    } catch (error) {
      ctx.signal.throwIfAborted()
      throw explainQuery(error, connection)
    }
  }
  return {
    connection,
    rows,
    async one<Row extends object>(sql: string, values: readonly unknown[] = []) {
      const [row] = await rows<Row>(sql, values)
      if (!row)
        throw asFailure(new Error('the server gave no answer'), `cannot ask ${showConnection(connection)}`)
      return row
    },
    lost,
    close,
    [Symbol.asyncDispose]: close,
  }
}

/**
 * The ways to try, in order, for an sslmode (PostgreSQL docs, "SSL Mode Descriptions"). As in libpq, any mode with a
 * root certificate at hand checks the server's against it.
 */
async function tlsModes(connection: Connection): Promise<(false | Tls)[]> {
  const { host, params } = connection
  const mode = params.sslmode ?? 'prefer'
  if (mode === 'disable' || isSocket(host)) return [false]
  if (!params.sslrootcert && mode.startsWith('verify'))
    throw usage(
      `cannot connect to ${showConnection(connection)}`,
      `sslmode is ${mode}, and there is no root certificate to check against`,
      'name its file as sslrootcert (or "system"), or put it into ~/.postgresql/root.crt',
    )
  const tls = await tlsOptions(connection)
  if (mode === 'verify-full') return [tls]
  const lax = tls.ca
    ? { ...tls, checkServerIdentity: () => undefined }
    : { ...tls, rejectUnauthorized: false }
  if (mode === 'require' || mode === 'verify-ca') return [lax]
  return mode === 'allow' ? [false, lax] : [lax, false]
}

async function tlsOptions({ host, params, sslpassword }: Connection): Promise<Tls> {
  const file = (param: string): Promise<Buffer> | undefined => {
    const path = params[param]
    if (!path || path === 'system') return undefined
    return readFile(path).catch(error => {
      throw asFailure(error, `cannot read the file of ${param}`, 'check the path and its permissions')
    })
  }
  const [ca, cert, key, crl] = await Promise.all([
    file('sslrootcert') ?? (params.sslrootcert ? getCACertificates('system') : undefined),
    file('sslcert'),
    file('sslkey'),
    file('sslcrl'),
  ])
  return {
    rejectUnauthorized: true,
    servername: isIP(host) === 0 ? host : '',
    ...(ca ? { ca } : {}),
    ...(cert ? { cert } : {}),
    ...(key ? { key } : {}),
    ...(crl ? { crl } : {}),
    ...(sslpassword ? { passphrase: sslpassword.reveal() } : {}),
    ...(params.ssl_min_protocol_version
      ? { minVersion: params.ssl_min_protocol_version as SecureVersion }
      : {}),
    ...(params.ssl_max_protocol_version
      ? { maxVersion: params.ssl_max_protocol_version as SecureVersion }
      : {}),
  }
}
