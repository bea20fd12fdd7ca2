import type { Context } from '../../model/context.ts'
import { asFailure } from '../../model/failure.ts'
import type { Account } from './accounts.ts'
import { ask, type Row, type Server } from './ask.ts'
import type { Route } from './redirect.ts'
import { isOneOf, quoteName, quoteTable, quoteText } from './sql.ts'
import type { Goal } from './target.ts'

/** Where MariaDB (10.4 and newer) keeps its accounts; the first lists them. */
const [listTable, ...others] = [
  'global_priv',
  ...['db', 'tables_priv', 'columns_priv', 'procs_priv', 'proxies_priv', 'roles_mapping'],
] as const

/** Where routines are; mariadb-dump names them only when it is told to, and then leaves the rows of `event` out. */
const routineTable = 'proc'

const all: ReadonlySet<string> = new Set([listTable, ...others, routineTable])

/** Where they go, of all that a dump of everything holds of the server's own database. */
export function ownRoute(scratch: string): Route {
  return { scratch, target: scratch, tables: all }
}

export function holdsOwn(tables: ReadonlySet<string> | undefined): boolean {
  return tables !== undefined && tables.size > 0
}

/**
 * Copies the accounts that the server has not from the tables of another server, which lie in `scratch`, into its own, and
 * makes them valid. The list comes first: without it, what the others hold would wait for whoever makes an account of that
 * name. Gives those that were made. Throws a Failure.
 */
export async function copyAccounts(server: Server, scratch: string, ctx: Context): Promise<Account[]> {
  const chosen = quoteTable(scratch, 'cairn_missing')
  const [columns = [], , found = []] = await ask(
    server,
    [
      commonColumns(scratch),
      `CREATE TABLE ${chosen} AS SELECT User, Host, JSON_VALUE(Priv, '$.is_role') IS NOT NULL AS is_role FROM ${quoteTable(scratch, listTable)} g
        WHERE User <> 'mariadb.sys' AND NOT EXISTS (SELECT 1 FROM mysql.${listTable} m WHERE m.User = g.User AND m.Host = g.Host)`,
      `SELECT User, Host, is_role FROM ${chosen}`,
    ],
    ctx,
  )
  if (found.length === 0) return []
  const ofMissing = `(User, Host) IN (SELECT User, Host FROM ${chosen})`
  // Whoever may give a role to others may do so here, too: nobody else could.
  const ofRoles = `${ofMissing} OR Admin_option = 'Y' AND Role IN (SELECT User FROM ${chosen} WHERE is_role)`
  const copies = [listTable, ...others].flatMap(table => {
    const names = columns.filter(([of]) => of === table).map(([, name = '']) => quoteName(name))
    if (names.length === 0) return []
    const condition = table === 'roles_mapping' ? ofRoles : ofMissing
    const rows = `SELECT ${names} FROM ${quoteTable(scratch, table)} WHERE ${condition}`
    return [`INSERT IGNORE INTO mysql.${table} (${names}) ${rows}`]
  })
  await ask(server, [...copies, 'FLUSH PRIVILEGES'], ctx)
  return found.map(([user = '', host = '', role]) => ({
    ...{ user, host, role: role === '1' },
    create: user === 'PUBLIC' ? [] : ['copied'],
    grants: [],
  }))
}

/** A question: what tables of the two have in common. */
function commonColumns(scratch: string): string {
  return `SELECT a.TABLE_NAME, a.COLUMN_NAME, a.DATA_TYPE FROM information_schema.COLUMNS a JOIN information_schema.COLUMNS b USING (TABLE_NAME, COLUMN_NAME)
    WHERE ${isOneOf('a.TABLE_SCHEMA', [scratch])} AND b.TABLE_SCHEMA = 'mysql'`
}

/**
 * Copies the routines of these databases into the server's own table, before the views that use them are made. They go with
 * their database when it is dropped. Returns warnings; what the server refuses is one.
 */
export async function copyRoutines(
  server: Server,
  scratch: string,
  goals: readonly Pick<Goal, 'from' | 'target'>[],
  ctx: Context,
): Promise<string[]> {
  try {
    const [columns = []] = await ask(server, [commonColumns(scratch)], ctx)
    const parts = goals.map(goal => rowsOf(goal, scratch, columns))
    const rows = await ask(
      server,
      parts.map(({ question }) => question),
      ctx,
    )
    const copies = parts.flatMap(({ into }, index) => (rows[index] ?? []).map(([row]) => `${into} (${row})`))
    await ask(server, copies, ctx)
    return []
  } catch (error) {
    ctx.signal.throwIfAborted()
    return [`the routines of the dump are not restored: ${asFailure(error, '').why}`]
  }
}

/** The server reads and writes this table by itself only: what asks for the rows of a database, as values, and what takes one. */
function rowsOf(
  { from, target }: Pick<Goal, 'from' | 'target'>,
  scratch: string,
  columns: readonly Row[],
): { readonly question: string; readonly into: string } {
  const used = columns.filter(([of, name]) => of === routineTable && name !== 'db')
  const names = used.map(([, name = '']) => quoteName(name))
  const values = used.map(([, name = '', type = '']) =>
    type.endsWith('blob')
      ? `IFNULL(CONCAT('X''', HEX(${quoteName(name)}), ''''), 'NULL')`
      : `QUOTE(${quoteName(name)})`,
  )
  const all = [quoteText(quoteText(target)), ...values].join(', ')
  return {
    question: `SELECT CONCAT_WS(', ', ${all}) FROM ${quoteTable(scratch, routineTable)} WHERE ${isOneOf('db', [from])}`,
    into: `INSERT INTO mysql.${routineTable} (db, ${names}) VALUES`,
  }
}
