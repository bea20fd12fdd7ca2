import type { Context } from '../../model/context.ts'
import type { Warning } from '../../model/manifest.ts'
import { ask, type Server } from './ask.ts'
import { type Inventory, listed, rowTables, type Table } from './inventory.ts'
import { isOneOf, quoteName, quoteTable } from './sql.ts'

/**
 * Warns of columns of type FLOAT: servers write their values with six digits, for whoever asks, the dump program too, and
 * 16777213 comes back as 16777200 (MySQL docs, "Problems with Floating-Point Values"). Only of tables that have such rows, which
 * are read until the first of them. Rejects only when it is aborted.
 */
export async function roundedFloats(server: Server, inventory: Inventory, ctx: Context): Promise<Warning[]> {
  const tables = withFloats(inventory)
  if (tables.length === 0) return []
  const rounded = await roundedIn(server, tables, ctx)
  return rounded === null ? maybeRounded(inventory) : warning(inventory, rounded, 'have')
}

/** The same without a look at the rows. */
export function maybeRounded(inventory: Inventory): Warning[] {
  return warning(inventory, withFloats(inventory), 'may have')
}

function withFloats(inventory: Inventory): Table[] {
  return rowTables(inventory).filter(table => table.hasFloats)
}

function warning({ names }: Inventory, tables: readonly Table[], have: string): Warning[] {
  if (tables.length === 0) return []
  const shown = listed(tables.map(({ database, name }) => names(database, name)))
  return [
    {
      what: `the dump holds FLOAT values with six digits, and rows of these tables ${have} more (DOUBLE keeps them): ${shown}`,
    },
  ]
}

/** Null where the server cannot tell: older ones know no CAST to FLOAT. */
async function roundedIn(server: Server, tables: readonly Table[], ctx: Context): Promise<Table[] | null> {
  try {
    const columns = await ask(server, tables.map(columnsOf), ctx)
    const found = await ask(
      server,
      tables.map((table, index) => isRounded(table, columns[index]?.flat() ?? [])),
      ctx,
    )
    return tables.filter((_, index) => found[index]?.[0]?.[0] === '1')
  } catch {
    ctx.signal.throwIfAborted()
    return null
  }
}

function columnsOf({ database, name }: Table): string {
  return `SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE DATA_TYPE = 'float' AND EXTRA NOT LIKE '%GENERATED%'
    AND ${isOneOf('TABLE_SCHEMA', [database])} AND ${isOneOf('TABLE_NAME', [name])}`
}

function isRounded({ database, name }: Table, columns: readonly string[]): string {
  const rounded = columns.map(quoteName).map(column => `NOT (${column} <=> CAST(CONCAT(${column}) AS FLOAT))`)
  return `SELECT EXISTS (SELECT 1 FROM ${quoteTable(database, name)} WHERE ${['FALSE', ...rounded].join(' OR ')})`
}
