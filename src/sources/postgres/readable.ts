import { usage } from '../../model/failure.ts'
import { tables } from './census.ts'
import type { Database } from './connect.ts'
import { showConnection } from './connection.ts'
import { quoteName } from './sql.ts'

/** More names than these are not told. */
const mostNames = 20

const relations = `
  SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname !~ '^(pg_(catalog|toast|temp)|information_schema$)'
     AND NOT (CASE WHEN has_schema_privilege(n.oid, 'USAGE') THEN
                CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                     ELSE has_table_privilege(c.oid, 'SELECT') END
              ELSE false END)
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
   ORDER BY 1`

/**
 * Throws a usage Failure that names what the role may not read: pg_dump would find the first of it only after it
 * has begun, or wait for locks before. Tables that were dropped meanwhile are pg_dump's to complain of.
 */
export async function mustReadAll(db: Database): Promise<void> {
  const what = `cannot back up ${showConnection(db.connection)}`
  const unreadable = await db.rows<{ name: string }>(relations)
  if (unreadable.length > 0)
    throw usage(
      what,
      `permission denied: the role ${db.connection.user} may not read ${listed(unreadable.map(({ name }) => name))}`,
      `GRANT pg_read_all_data TO ${quoteName(db.connection.user)} (PostgreSQL 14 and later), or SELECT on all of it and USAGE on its schemas`,
    )
  const filtered = (await tables(db)).filter(table => table.readable === false)
  if (filtered.length > 0)
    throw usage(
      what,
      `row-level security hides rows from the role ${db.connection.user} in ${listed(filtered.map(({ schema, name }) => `${quoteName(schema)}.${quoteName(name)}`))}`,
      'use a role with BYPASSRLS, or the owner of the tables: a filtered dump would not be whole',
    )
}

function listed(names: readonly string[]): string {
  const more = names.length - mostNames
  return names.slice(0, mostNames).join(', ') + (more > 0 ? ` and ${more} more` : '')
}

/** The condition under which PostgreSQL shows the options of a user mapping (its view pg_user_mappings). */
const mappings = `
  SELECT 'user mapping for ' || CASE WHEN m.umuser = 0 THEN 'public' ELSE quote_ident(m.usename) END
         || ' on server ' || quote_ident(m.srvname) AS name
    FROM pg_catalog.pg_user_mappings m JOIN pg_catalog.pg_foreign_server s ON s.oid = m.srvid
   WHERE NOT (
     m.umuser <> 0 AND m.usename = current_user
       AND (pg_has_role(s.srvowner, 'USAGE') OR has_server_privilege(s.oid, 'USAGE'))
     OR m.umuser = 0 AND pg_has_role(s.srvowner, 'USAGE')
     OR (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user))
   ORDER BY 1`

const subscriptions = `
  SELECT 'subscription ' || quote_ident(subname) AS name FROM pg_catalog.pg_subscription
   WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
     AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
   ORDER BY 1`

/**
 * What pg_dump leaves out without an error, because this role may not see it: the options of others' user mappings,
 * which hold passwords, and subscriptions.
 */
export async function unseenBy(db: Database, serverVersionNum: number): Promise<string[]> {
  const found = await db.rows<{ name: string }>(mappings)
  if (serverVersionNum >= 100_000) found.push(...(await db.rows<{ name: string }>(subscriptions)))
  return found.map(({ name }) => name)
}
