import type { Context } from '../../model/context.ts'
import type { Census, CensusLevel } from '../../model/source.ts'
import { ask, type Server } from './ask.ts'
import { type Inventory, rowTables } from './inventory.ts'
import { quoteTable } from './sql.ts'

/**
 * What the databases hold: exact counts of all tables in one consistent snapshot, which begins when this is called: near
 * the dump's own, which cannot be shared. Sequences, views, routines, events and triggers are named without a count.
 */
export async function takeCensus(
  server: Server,
  inventory: Inventory,
  level: CensusLevel,
  ctx: Context,
): Promise<Census> {
  if (level === 'none') return { level, at: 'near', objects: [], unseen: [] }
  const tables = rowTables(inventory)
  const counts = level === 'counts' ? await countRows(server, tables, ctx) : []
  return {
    level,
    at: 'near',
    objects: [
      ...tables.map(({ database, name }, index) => ({
        name: inventory.names(database, name),
        rows: counts[index] ?? null,
      })),
      ...inventory.tables
        .filter(({ kind }) => kind === 'sequence')
        .map(({ database, name }) => ({ name: `sequence ${inventory.names(database, name)}`, rows: null })),
      ...[...inventory.definitions.keys()].map(name => ({ name, rows: null })),
    ],
    unseen: [],
  }
}

/** The rows of each table, in their order. */
async function countRows(
  server: Server,
  tables: readonly { readonly database: string; readonly name: string }[],
  ctx: Context,
): Promise<number[]> {
  const questions = tables.map(({ database, name }) => `SELECT COUNT(*) FROM ${quoteTable(database, name)}`)
  const [, ...counts] = await ask(server, ['START TRANSACTION WITH CONSISTENT SNAPSHOT', ...questions], ctx)
  return counts.map(rows => Number(rows[0]?.[0]))
}
