import type { Context } from '../../model/context.ts'
import type { Warning } from '../../model/manifest.ts'
import { ask, type Server } from './ask.ts'
import { isOneOf, showName } from './sql.ts'

export interface Table {
  readonly database: string
  readonly name: string
  readonly kind: 'table' | 'view' | 'sequence'
  readonly engine: string
  readonly transactional: boolean
  readonly versioned: boolean
  readonly bytes: number
  /** When it was written to last, where the engine knows. */
  readonly updated: string
  /** A digest of its columns. */
  readonly columns: string
  /** Whether a list of values holds a question mark, which may stand for what the server cannot say. */
  readonly unsure: boolean
  /** Whether there is a column of type FLOAT. */
  readonly hasFloats: boolean
}

/** What databases hold. Each name has its database in front where there are several. */
export interface Inventory {
  readonly tables: readonly Table[]
  /** Routines, events and triggers (`trigger shop.stamp`) and the views, with something that changes with their definitions. */
  readonly definitions: ReadonlyMap<string, string>
  readonly names: (database: string, name: string) => string
}

/** Looks at databases. A column's digest is made by the server, so that a hundred thousand tables are one short row each. */
export async function takeInventory(
  server: Server,
  databases: readonly string[],
  ctx: Context,
): Promise<Inventory> {
  const among = (column: string): string => isOneOf(column, databases)
  const mysql = server.connection.flavour === 'mysql'
  const [, tables = [], columns = [], ...others] = await ask(
    server,
    [
      // MySQL remembers a table's times for a day.
      mysql ? 'SET SESSION information_schema_stats_expiry = 0' : 'DO 0',
      `SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, IFNULL(t.ENGINE, ''), IFNULL(e.TRANSACTIONS, ''),
              IFNULL(DATA_LENGTH, 0), IFNULL(UPDATE_TIME, '')
         FROM information_schema.TABLES t LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE
        WHERE ${among('TABLE_SCHEMA')} ORDER BY 1, 2`,
      `SELECT TABLE_SCHEMA, TABLE_NAME, MAX(DATA_TYPE IN ('enum', 'set') AND COLUMN_TYPE LIKE '%?%'), COUNT(*), SUM(CRC32(CONCAT_WS('|', COLUMN_NAME, ORDINAL_POSITION, COLUMN_TYPE,
              IS_NULLABLE, IFNULL(COLLATION_NAME, ''), EXTRA, IFNULL(COLUMN_DEFAULT, ''), IFNULL(GENERATION_EXPRESSION, '')))), MAX(DATA_TYPE = 'float')
         FROM information_schema.COLUMNS WHERE ${among('TABLE_SCHEMA')} GROUP BY CAST(TABLE_SCHEMA AS BINARY), CAST(TABLE_NAME AS BINARY)`,
      `SELECT TABLE_SCHEMA, TABLE_NAME, 'view', SHA2(VIEW_DEFINITION, 256) FROM information_schema.VIEWS WHERE ${among('TABLE_SCHEMA')} ORDER BY 1, 2`,
      `SELECT ROUTINE_SCHEMA, ROUTINE_NAME, LOWER(ROUTINE_TYPE), LAST_ALTERED FROM information_schema.ROUTINES WHERE ${among('ROUTINE_SCHEMA')} ORDER BY 1, 3, 2`,
      `SELECT EVENT_SCHEMA, EVENT_NAME, 'event', SHA2(EVENT_DEFINITION, 256) FROM information_schema.EVENTS WHERE ${among('EVENT_SCHEMA')} ORDER BY 1, 2`,
      `SELECT TRIGGER_SCHEMA, TRIGGER_NAME, 'trigger', SHA2(ACTION_STATEMENT, 256) FROM information_schema.TRIGGERS WHERE ${among('TRIGGER_SCHEMA')} ORDER BY 1, 2`,
    ],
    ctx,
  )
  const digests = new Map(
    columns.map(([database, name, unsure, count, sum, floats]) => [
      `${database}\0${name}`,
      { unsure: unsure === '1', text: `${count} ${sum}`, hasFloats: floats === '1' },
    ]),
  )
  const names = (database: string, name: string): string =>
    databases.length > 1 ? `${showName(database)}.${showName(name)}` : showName(name)
  return {
    names,
    tables: tables.map(
      ([database = '', name = '', type = '', engine = '', transactions = '', bytes = '0', updated = '']) => ({
        database,
        name,
        kind: /VIEW/.test(type) ? 'view' : type === 'SEQUENCE' ? 'sequence' : 'table',
        engine,
        transactional: transactions === 'YES',
        versioned: type === 'SYSTEM VERSIONED',
        bytes: Number(bytes),
        updated,
        columns: digests.get(`${database}\0${name}`)?.text ?? '',
        unsure: digests.get(`${database}\0${name}`)?.unsure === true,
        hasFloats: digests.get(`${database}\0${name}`)?.hasFloats === true,
      }),
    ),
    definitions: new Map(
      others
        .flat()
        .map(([database = '', name = '', kind = '', digest = '']) => [
          `${kind} ${names(database, name)}`,
          digest,
        ]),
    ),
  }
}

/** Tables whose rows a dump holds. */
export function rowTables({ tables }: Inventory): Table[] {
  return tables.filter(table => table.kind === 'table')
}

/** At most so many names are listed in a warning. */
const mostNames = 20

/** Names for a warning. */
export function listed(names: readonly string[]): string {
  const more = names.length - mostNames
  return `${names.slice(0, mostNames).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

/** What of the tables a consistent snapshot does not cover. */
export function limits(inventory: Inventory): Warning[] {
  const warnings: Warning[] = []
  const show = (table: Table): string => `${inventory.names(table.database, table.name)} (${table.engine})`
  const loose = rowTables(inventory).filter(table => !table.transactional)
  if (loose.length > 0)
    warnings.push({
      what: `not transactional, so not of the same moment as the rest: ${listed(loose.map(show))}`,
    })
  const versioned = inventory.tables.filter(table => table.versioned)
  if (versioned.length > 0)
    warnings.push({
      what: `system-versioned tables are saved without their history (args: [--dump-history] keeps it): ${listed(versioned.map(show))}`,
    })
  const unsure = inventory.tables.filter(table => table.unsure)
  if (unsure.length > 0)
    warnings.push({
      what: `the server writes ? for characters beyond U+FFFF (emoji) in lists of enum and set, and so does the dump: rows with such values come back empty: ${listed(unsure.map(show))}`,
    })
  return warnings
}

/** Times are in seconds: within one, only the size may tell. */
function written(table: Table | undefined): string {
  return `${table?.updated} ${table?.bytes}`
}

/** What happened to the definitions between two looks. */
export interface Changes {
  /** Tables of which the dump may hold the one definition and the rows of the other. */
  readonly altered: readonly string[]
  readonly warnings: readonly Warning[]
}

export function changes(before: Inventory, after: Inventory): Changes {
  const key = (table: Table): string => `${table.database}\0${table.name}`
  const show = (table: Table): string => before.names(table.database, table.name)
  const then = new Map(before.tables.map(table => [key(table), table]))
  const now = new Map(after.tables.map(table => [key(table), table]))
  const kept = after.tables.filter(table => then.has(key(table)))
  const altered = kept.filter(
    table => table.kind === 'table' && then.get(key(table))?.columns !== table.columns,
  )
  const stale = kept.filter(
    table =>
      table.kind === 'table' && !table.transactional && written(then.get(key(table))) !== written(table),
  )
  const made = after.tables.filter(table => !then.has(key(table)))
  const gone = before.tables.filter(table => !now.has(key(table)))
  const redefined = [...new Set([...before.definitions.keys(), ...after.definitions.keys()])].filter(
    name => before.definitions.get(name) !== after.definitions.get(name),
  )
  const warnings = [
    ['these tables, which are not transactional, were written to while they were dumped', stale.map(show)],
    ['these were made while the dump ran, and may be missing from it', made.map(show)],
    ['these were dropped while the dump ran, and may be in it or not', gone.map(show)],
    ['these were redefined while the dump ran', redefined],
  ] as const
  return {
    altered: altered.map(show),
    warnings: warnings
      .filter(([, names]) => names.length > 0)
      .map(([what, names]) => ({ what: `${what}: ${listed(names)}` })),
  }
}
