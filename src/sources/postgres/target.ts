import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import { cleanupContext } from '../../platform/run-context.ts'
import { showTable, tables } from './census.ts'
import { connect, type Database } from './connect.ts'
import { type Connection, onDatabase, showConnection } from './connection.ts'
import { codeOf, noSuchDatabase } from './explain.ts'
import type { RestoreFacts } from './facts.ts'
import type { Existing } from './globals.ts'
import { isEmpty, serverVersion } from './server.ts'
import { quoteName, quoteText } from './sql.ts'

/** The state of a restore's target. */
export interface Survey extends Existing {
  readonly state: 'absent' | 'empty' | 'used'
  readonly tables: readonly string[]
  readonly versionNum: number
  readonly mayCreateDatabase: boolean
  readonly mayCreateRole: boolean
  /** The extensions that could be made there. */
  readonly extensions: ReadonlySet<string>
}

const question = `
  SELECT r.rolsuper AS superuser, r.rolcreatedb AS "createDatabase", r.rolcreaterole AS "createRole",
         ARRAY(SELECT rolname::text FROM pg_catalog.pg_roles) AS roles,
         ARRAY(SELECT spcname::text FROM pg_catalog.pg_tablespace) AS tablespaces,
         ARRAY(SELECT name::text FROM pg_catalog.pg_available_extensions
               UNION SELECT extname::text FROM pg_catalog.pg_extension) AS extensions
    FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`

interface Row {
  readonly superuser: boolean
  readonly createDatabase: boolean
  readonly createRole: boolean
  readonly roles: string[]
  readonly tablespaces: string[]
  readonly extensions: string[]
}

/** Looks at the target; changes nothing. Throws a Failure when it cannot be reached. */
export async function survey(connection: Connection, ctx: Context): Promise<Survey> {
  // Longer names are cut off by the server: it would be another database.
  if (Buffer.byteLength(connection.database) > 63)
    throw usage('cannot restore', 'the name of the target database is longer than 63 bytes', 'shorten it')
  const own = await connectIfThere(connection, ctx)
  await using db = own ?? (await connectBeside(connection, ctx))
  const version = await serverVersion(db)
  const row = await db.one<Row>(question)
  const state = own === null ? 'absent' : (await isEmpty(own)) ? 'empty' : 'used'
  return {
    state,
    tables: state === 'used' ? (await tables(db)).map(showTable) : [],
    versionNum: version.num,
    superuser: row.superuser,
    mayCreateDatabase: row.superuser || row.createDatabase,
    mayCreateRole: row.superuser || row.createRole,
    roles: new Set(row.roles),
    tablespaces: new Set(row.tablespaces),
    extensions: new Set(row.extensions),
  }
}

async function connectIfThere(connection: Connection, ctx: Context): Promise<Database | null> {
  try {
    return await connect(connection, 'cairn', ctx)
  } catch (error) {
    if (codeOf(error) === noSuchDatabase) return null
    throw error
  }
}

/** A connection to some other database of the server, to create and drop the target from. */
export async function connectBeside(connection: Connection, ctx: Context): Promise<Database> {
  let first: unknown
  for (const database of ['postgres', 'template1', connection.user]) {
    try {
      return await connect(onDatabase(connection, database), 'cairn', ctx)
    } catch (error) {
      first ??= error
    }
  }
  throw first
}

/**
 * Creates the target as the source was: encoding, and locale as far as this server has it. Returns what differs.
 * template0 holds nothing of its own, and may be had in any encoding (PostgreSQL docs, "Template Databases").
 */
export async function createDatabase(
  connection: Connection,
  facts: RestoreFacts,
  ctx: Context,
): Promise<string[]> {
  await using db = await connectBeside(connection, ctx)
  const create = `CREATE DATABASE ${quoteName(connection.database)} TEMPLATE template0`
  const encoding = facts.encoding ? ` ENCODING ${quoteText(facts.encoding)}` : ''
  const libc =
    facts.collate && facts.ctype
      ? ` LC_COLLATE ${quoteText(facts.collate)} LC_CTYPE ${quoteText(facts.ctype)}`
      : ''
  const attempts = [
    encoding + libc + providerOf(facts),
    encoding + libc,
    `${encoding} LC_COLLATE 'C' LC_CTYPE 'C'`,
  ]
  for (const [index, attempt] of attempts.entries()) {
    try {
      await db.rows(create + attempt)
      if (index === 0) return []
      return [`the locale of the source (${showLocale(facts)}) is not there: the order of texts may differ`]
    } catch (error) {
      const wrongLocale = ['22023', '42809', '42704', '0A000'].includes(codeOf(error))
      if (!wrongLocale || index === attempts.length - 1) throw error
    }
  }
  return []
}

function providerOf({ provider, locale }: RestoreFacts): string {
  if (!locale) return ''
  if (provider === 'i') return ` LOCALE_PROVIDER icu ICU_LOCALE ${quoteText(locale)}`
  return provider === 'b' ? ` LOCALE_PROVIDER builtin BUILTIN_LOCALE ${quoteText(locale)}` : ''
}

export function showLocale(facts: RestoreFacts): string {
  return [facts.locale ?? facts.collate, facts.provider === 'i' ? 'ICU' : ''].filter(Boolean).join(' ')
}

const cleanupMs = 20_000

/**
 * Takes back a database that this restore created; works after an abort too, and never throws. One that somebody put
 * something into, or is connected to, stays. `ours` names our own program's connections, which may linger.
 */
export async function dropCreated(connection: Connection, ours: string, outer: Context): Promise<void> {
  const ctx = cleanupContext(outer, cleanupMs)
  try {
    await using db = await connectBeside(connection, ctx)
    await db.rows(
      'SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE application_name = $1',
      [ours],
    )
    if (!(await isStillEmpty(connection, ctx))) return
    await dropPatiently(db, connection.database)
  } catch (error) {
    outer.emit({
      type: 'warning',
      what: `the new database ${showConnection(connection)} stays`,
      why: (error as Error).message,
      remedy: 'it is empty: drop it',
    })
  }
}

async function isStillEmpty(connection: Connection, ctx: Context): Promise<boolean> {
  await using db = await connect(connection, 'cairn', ctx)
  return await isEmpty(db)
}

/** Connections that were just closed are known to the server for a moment longer (55006: object in use). */
async function dropPatiently(db: Database, name: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await db.rows(`DROP DATABASE ${quoteName(name)}`)
      return
    } catch (error) {
      if (codeOf(error) !== '55006' || attempt === 20) throw error
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
}
