import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import type { Inspection } from '../../model/source.ts'
import { connect, type Database } from './connect.ts'
import { type Connection, onDatabase, showConnection } from './connection.ts'
import { clusterOf, identityIn, serverVersion } from './server.ts'

/** Which databases of a server: those named, or all but those excluded. */
export type Wanted = { readonly names: readonly string[] } | { readonly exclude: readonly string[] }

interface Row {
  readonly name: string
  readonly template: boolean
  readonly connectable: boolean
  readonly bytes: number
}

/** -2 marks what an interrupted DROP DATABASE left (PostgreSQL source, DATCONNLIMIT_INVALID_DB). */
const question = `
  SELECT datname::text AS name, datistemplate AS template, datallowconn AND datconnlimit <> -2 AS connectable,
         CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) ELSE 0 END::float8 AS bytes
    FROM pg_catalog.pg_database ORDER BY datname COLLATE "C"`

/**
 * Several databases as units of their own. Those that are named are units whether they are there or not: one that is
 * missing fails when it is opened, alone. What `all` leaves out is said as a warning.
 */
export async function inspectDatabases(
  connection: Connection,
  wanted: Wanted,
  ctx: Context,
): Promise<Inspection> {
  const named = 'names' in wanted ? wanted.names : []
  await using db = await connectSomewhere(connection, named, ctx)
  const version = await serverVersion(db)
  const cluster = await clusterOf(db, connection)
  const there = await db.rows<Row>(question)
  const chosen =
    'names' in wanted ? there.filter(row => named.includes(row.name)) : allOf(there, wanted.exclude, ctx)
  const names = 'names' in wanted ? named : chosen.map(row => row.name)
  for (const name of names.filter(each => !there.some(row => row.name === each)))
    warn(name, 'the server has no such database', ctx, 'correct the name, or take it out')
  return {
    identity: cluster,
    version: version.text,
    units: names.map(name => ({ name, identity: identityIn(cluster, name) })),
    estimate: chosen.reduce((sum, row) => sum + row.bytes, 0),
  }
}

function allOf(there: readonly Row[], exclude: readonly string[], ctx: Context): Row[] {
  const patterns = exclude.map(asPattern)
  return there.filter(row => {
    if (patterns.some(pattern => pattern.test(row.name)) || /^template[01]$/.test(row.name)) return false
    if (row.connectable && !row.template) return true
    warn(row.name, row.template ? 'it is a template' : 'it allows no connections', ctx)
    return false
  })
}

function warn(name: string, why: string, ctx: Context, remedy = 'name it in "exclude"'): void {
  ctx.emit({ type: 'warning', what: `the database ${JSON.stringify(name)} is not backed up`, why, remedy })
}

/** `test_*`: any characters; `?`: one. A name that holds these characters fits itself, too. */
function asPattern(text: string): RegExp {
  const source = text
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${source}$`, 'su')
}

/** A connection to some database of the server: the one that was said, else one of those that every server has, or of those named. */
export async function connectSomewhere(
  connection: Connection,
  named: readonly string[],
  ctx: Context,
): Promise<Database> {
  let first: unknown
  for (const database of new Set([connection.database, 'postgres', 'template1', ...named])) {
    try {
      return await connect(onDatabase(connection, database), 'cairn', ctx)
    } catch (error) {
      ctx.signal.throwIfAborted()
      // That nobody is there, or the password is wrong, is no matter of the database.
      if (!isAboutDatabase(error)) throw error
      first ??= error
    }
  }
  throw first
}

/** No such database; no right to connect; refused by pg_hba.conf; no connections allowed. */
function isAboutDatabase(error: unknown): boolean {
  const cause = error instanceof Failure ? error.cause : undefined
  const code = (cause as { code?: unknown } | undefined)?.code
  return ['3D000', '42501', '28000', '55000', '53300'].includes(String(code))
}

/** What pg_dumpall dumps, templates too, and what it leaves out without a word: databases that allow no connections. */
export async function connectableDatabases(
  db: Database,
): Promise<{ names: string[]; closed: string[]; bytes: number }> {
  const rows = await db.rows<Row>(question)
  const open = rows.filter(row => row.connectable)
  return {
    names: open.map(row => row.name),
    closed: rows.filter(row => !row.connectable && row.name !== 'template0').map(row => row.name),
    bytes: open.reduce((sum, row) => sum + row.bytes, 0),
  }
}

/** Where a server is, without a database. */
export function showServer(connection: Connection): string {
  return showConnection(connection).replace(/\/[^/]*$/, '')
}
