import type { Census, CensusLevel } from '../../model/source.ts'
import type { Database } from './connect.ts'
import { quoteName } from './sql.ts'

/** A table that holds rows of its own. */
interface Table {
  readonly schema: string
  readonly name: string
  /** Null: it was dropped after the moment that this transaction sees. */
  readonly readable: boolean | null
}

/** As many are counted by one query. */
const batchSize = 50

/**
 * Which tables a census looks at: plain tables and partitions. Left out is what holds no data that a dump would carry:
 * partitioned parents, views, materialized views (they are filled anew on restore, a stale one differently), foreign
 * tables, temporary tables, and tables that belong to an extension.
 *
 * A table counts as unreadable also where row security would silently hide rows from us.
 */
const tablesQuery = `
  SELECT n.nspname AS schema, c.relname AS name,
         has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AND NOT ROWSECURITY AS readable
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
     AND n.nspname !~ '^pg_(toast|temp)' AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
   ORDER BY 1, 2`

/** The tables with user data, in the order of their names. */
export async function tables(db: Database): Promise<Table[]> {
  const { known } = await db.one<{ known: boolean }>(
    `SELECT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proname = 'row_security_active') AS known`,
  )
  return await db.rows(tablesQuery.replace('ROWSECURITY', known ? 'row_security_active(c.oid)' : 'false'))
}

/**
 * The census, by a connection that is in a transaction. Counting is exact, with count(*): it reads every table once.
 * `progress` is called after each batch. `only`: nothing but these tables, named as `showTable` does.
 */
export async function takeCensus(
  db: Database,
  level: CensusLevel,
  progress: (what: string) => void = () => {},
  only: ReadonlySet<string> | null = null,
): Promise<Census> {
  if (level === 'none') return { level, at: 'snapshot', objects: [], unseen: [] }
  const all = (await tables(db)).filter(table => only === null || only.has(showTable(table)))
  const seen = all.filter(table => table.readable)
  const counts = level === 'counts' ? await countRows(db, seen, progress) : []
  return {
    level,
    at: 'snapshot',
    objects: seen.map((table, index) => ({ name: showTable(table), rows: counts[index] ?? null })),
    unseen: all.filter(table => !table.readable).map(showTable),
  }
}

/** The rows of each table, in their order. */
async function countRows(
  db: Database,
  seen: readonly Table[],
  progress: (what: string) => void,
): Promise<number[]> {
  // Parallel workers would take the server's processors away from those whose server it is; compiling costs more than it saves.
  await db.rows(
    `SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ('max_parallel_workers_per_gather', 'jit')`,
  )
  const counts: number[] = []
  for (let from = 0; from < seen.length; from += batchSize) {
    const batch = seen.slice(from, from + batchSize)
    // Rolling back frees the batch's locks: the server's lock table need not hold all tables twice, for pg_dump and us.
    await db.rows('SAVEPOINT batch')
    const { rows } = await db.one<{ rows: string[] }>(countQuery(batch))
    await db.rows('ROLLBACK TO SAVEPOINT batch')
    counts.push(...rows.map(Number))
    progress(`${counts.length} of ${seen.length} tables are counted`)
  }
  return counts
}

/** ONLY: what inherits from a table is counted as a table of its own. */
function countQuery(batch: readonly Table[]): string {
  const each = batch.map(
    ({ schema, name }) => `(SELECT count(*) FROM ONLY ${quoteName(schema)}.${quoteName(name)})`,
  )
  return `SELECT ARRAY[${each.join(', ')}]::text[] AS rows`
}

/** `public.orders`, quoted where SQL wants it. */
export function showTable({ schema, name }: { readonly schema: string; readonly name: string }): string {
  return [schema, name].map(part => (/^[a-z_][a-z0-9_]*$/.test(part) ? part : quoteName(part))).join('.')
}
