import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import { showTable, tables } from './census.ts'
import { connect, type Database } from './connect.ts'
import type { Connection } from './connection.ts'
import { codeOf, noSuchDatabase } from './explain.ts'
import type { RestoreFacts } from './facts.ts'
import type { Existing } from './globals.ts'
import { connectBeside, scratchDatabases } from './scratch.ts'
import { isEmpty, serverVersion } from './server.ts'
import { quoteName, quoteText } from './sql.ts'

/** The state of a restore's target. */
export interface Survey extends Existing {
  readonly state: 'absent' | 'empty' | 'used'
  readonly tables: readonly string[]
  readonly versionNum: number
  readonly mayCreateDatabase: boolean
  readonly mayCreateRole: boolean
  /** The tablespaces in which this role may make something. */
  readonly usableSpaces: ReadonlySet<string>
  /** The extensions that could be made there. */
  readonly extensions: ReadonlySet<string>
  readonly schemas: ReadonlySet<string>
  /** The target, at the very server that answered. */
  readonly connection: Connection
  /** Databases that restores are making, or have left. */
  readonly scratch: readonly string[]
}

const question = `
  SELECT r.rolsuper AS superuser, r.rolcreatedb AS "createDatabase", r.rolcreaterole AS "createRole",
         ARRAY(SELECT rolname::text FROM pg_catalog.pg_roles) AS roles,
         ARRAY(SELECT spcname::text FROM pg_catalog.pg_tablespace) AS tablespaces,
         ARRAY(SELECT spcname::text FROM pg_catalog.pg_tablespace WHERE has_tablespace_privilege(oid, 'CREATE')) AS "usableSpaces",
         ARRAY(SELECT name::text FROM pg_catalog.pg_available_extensions
               UNION SELECT extname::text FROM pg_catalog.pg_extension) AS extensions,
         ARRAY(SELECT nspname::text FROM pg_catalog.pg_namespace) AS schemas
    FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`

interface Row {
  readonly superuser: boolean
  readonly createDatabase: boolean
  readonly createRole: boolean
  readonly roles: string[]
  readonly tablespaces: string[]
  readonly usableSpaces: string[]
  readonly extensions: string[]
  readonly schemas: string[]
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
    usableSpaces: new Set(row.usableSpaces),
    extensions: new Set(row.extensions),
    // Of another database: what every new one has.
    schemas: new Set(own === null ? ['public'] : row.schemas),
    connection: { ...db.connection, database: connection.database },
    scratch: await scratchDatabases(db),
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

/**
 * How to create a database as the source was, the best way first: encoding, and locale as far as this server has it; in
 * `tablespace`, undefined being that of the server.
 * template0 holds nothing of its own, and may be had in any encoding (PostgreSQL docs, "Template Databases").
 */
export function waysToCreate(facts: RestoreFacts, tablespace: string | undefined): string[] {
  const encoding = facts.encoding
    ? `TEMPLATE template0 ENCODING ${quoteText(facts.encoding)}`
    : 'TEMPLATE template0'
  const libc =
    facts.collate && facts.ctype
      ? ` LC_COLLATE ${quoteText(facts.collate)} LC_CTYPE ${quoteText(facts.ctype)}`
      : ''
  const place = tablespace === undefined ? '' : ` TABLESPACE ${quoteName(tablespace)}`
  return [libc + providerOf(facts), libc, ` LC_COLLATE 'C' LC_CTYPE 'C'`].map(way => encoding + way + place)
}

function providerOf({ provider, locale }: RestoreFacts): string {
  if (!locale) return ''
  if (provider === 'i') return ` LOCALE_PROVIDER icu ICU_LOCALE ${quoteText(locale)}`
  return provider === 'b' ? ` LOCALE_PROVIDER builtin BUILTIN_LOCALE ${quoteText(locale)}` : ''
}

export function showLocale(facts: RestoreFacts): string {
  return [facts.locale ?? facts.collate, facts.provider === 'i' ? 'ICU' : ''].filter(Boolean).join(' ')
}
