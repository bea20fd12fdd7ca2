import { readFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import type { ConnectionOptions as Tls } from 'node:tls'
import type pg from 'pg'
import type { Context } from '../../model/context.ts'
import { asFailure } from '../../model/failure.ts'
import { type Connection, showConnection } from './connection.ts'
import { explainConnect, explainQuery } from './explain.ts'

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

/**
 * Logs in. Throws a Failure that says what is wrong and what to do (`explainConnect`), leaving nothing open. Without an
 * sslmode it does as libpq: TLS where the server has it. An abort of the context ends the connection.
 */
export async function connect(
  connection: Connection,
  applicationName: string,
  ctx: Context,
  timeoutMs = 15_000,
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
      if (!isNoTls(error) && !isRefusedByHba(error)) break
    }
  }
  throw explainConnect(first, connection)
}

function isNoTls(error: unknown): boolean {
  return error instanceof Error && /does not support SSL/.test(error.message)
}

function isRefusedByHba(error: unknown): boolean {
  return error instanceof Error && /pg_hba\.conf/.test(error.message)
}

async function logIn(
  connection: Connection,
  applicationName: string,
  ssl: false | Tls,
  ctx: Context,
  timeoutMs: number,
): Promise<Database> {
  // Loaded here: no other command needs it.
  const { default: postgres } = await import('pg')
  const socket = new Socket()
  const client = new postgres.Client({
    host: connection.host,
    port: connection.port,
    user: connection.user,
    password: connection.password?.reveal(),
    database: connection.database,
    application_name: applicationName,
    ssl,
    keepAlive: true,
    connectionTimeoutMillis: timeoutMs,
    ...(connection.params.options ? { options: connection.params.options } : {}),
    stream: () => socket,
  })
  let lost: Error | null = null
  client.on('error', error => {
    lost ??= error
  })
  const close = closing(client, socket, ctx)
  try {
    await client.connect()
    return database(client, connection, () => lost, close, ctx)
  } catch (error) {
    await close()
    throw error
  }
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
 * The ways to try, in order, for an sslmode (PostgreSQL docs, "SSL Mode Descriptions"). As in libpq, `require` with a
 * root certificate at hand checks it.
 */
async function tlsModes({ host, params }: Connection): Promise<(false | Tls)[]> {
  const mode = params.sslmode ?? 'prefer'
  if (mode === 'disable' || host.startsWith('/')) return [false]
  const tls = await tlsOptions(params, host)
  const checked = { ...tls, rejectUnauthorized: true }
  if (mode === 'verify-full') return [checked]
  const chainOnly = { ...checked, checkServerIdentity: () => undefined }
  if (mode === 'verify-ca' || (mode === 'require' && tls.ca)) return [chainOnly]
  const unchecked = { ...tls, rejectUnauthorized: false }
  if (mode === 'require') return [unchecked]
  return mode === 'allow' ? [false, unchecked] : [unchecked, false]
}

async function tlsOptions(params: Connection['params'], host: string): Promise<Tls> {
  const file = (param: string): Promise<Buffer> | undefined => {
    const path = params[param]
    if (!path || path === 'system') return undefined
    return readFile(path).catch(error => {
      throw asFailure(error, `cannot read the file of ${param}`, 'check the path and its permissions')
    })
  }
  const [ca, cert, key] = await Promise.all([file('sslrootcert'), file('sslcert'), file('sslkey')])
  return {
    servername: /^[\d.]+$|:/.test(host) ? '' : host,
    ...(ca ? { ca } : {}),
    ...(cert ? { cert } : {}),
    ...(key ? { key } : {}),
  }
}
