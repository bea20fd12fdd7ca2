import * as z from 'zod'
import type { Warning } from '../../model/manifest.ts'
import type { Database } from './connect.ts'
import { ownedBy } from './server.ts'

/** More names than these are not written down: a manifest is small. */
const mostNames = 200

/**
 * What a restore has to know before it reads an artifact; the `options` in a manifest. No secrets: a manifest is not
 * encrypted. Everything may be missing in backups that others made.
 */
export const RestoreFacts = z.looseObject({
  serverVersionNum: z.int().optional().catch(undefined),
  clientMajor: z.number().optional().catch(undefined),
  encoding: z.string().optional().catch(undefined),
  collate: z.string().optional().catch(undefined),
  ctype: z.string().optional().catch(undefined),
  /** `c`, `i` (ICU) or `b` (builtin): pg_database.datlocprovider. */
  provider: z.string().optional().catch(undefined),
  locale: z.string().optional().catch(undefined),
  owner: z.string().optional().catch(undefined),
  /** Where the database lies; undefined: `pg_default`. */
  tablespace: z.string().optional().catch(undefined),
  /** Every role of the server, and those of them without which this database's objects cannot be made. */
  roles: z.array(z.string()).optional().catch(undefined),
  neededRoles: z.array(z.string()).default([]).catch([]),
  extensions: z.array(z.string()).default([]).catch([]),
  /** Of each extension the version that was installed: `{ "postgis": "3.4.2" }`. */
  extensionVersions: z.record(z.string(), z.string()).default({}).catch({}),
  tablespaces: z.array(z.string()).default([]).catch([]),
  /** Where there are columns of type money: how their values are written. */
  lcMonetary: z.string().optional().catch(undefined),
})
export type RestoreFacts = z.infer<typeof RestoreFacts>

/** What is known of a database before it is dumped. */
export interface DatabaseFacts {
  readonly bytes: number
  readonly standby: boolean
  /** Whether the hashes of the roles' passwords may be read. */
  readonly rolePasswords: boolean
  readonly options: Readonly<Record<string, unknown>>
  readonly warnings: readonly Warning[]
}

interface Row {
  readonly bytes: number
  readonly standby: boolean
  readonly rolePasswords: boolean
  readonly encoding: string
  readonly owner: string
  readonly tablespace: string | null
  /** The row of pg_database, whose columns differ between versions. */
  readonly row: Readonly<Record<string, unknown>>
  readonly roles: string[]
  readonly neededRoles: string[]
  readonly extensions: { readonly name: string; readonly version: string }[]
  readonly tablespaces: string[]
  readonly lcMonetary: string | null
}

/** Who owns things or is named in privileges; the bootstrap role stands in no dependency (PostgreSQL docs, pg_shdepend). */
const neededRoles = `
  SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_' AND (
    r.oid IN (SELECT refobjid FROM pg_catalog.pg_shdepend
               WHERE dbid = d.oid AND refclassid = 'pg_catalog.pg_authid'::regclass)
    OR r.oid = 10 AND (${ownedBy('pg_class', 'o.relowner = 10')} OR ${ownedBy('pg_proc', 'o.proowner = 10')}
                       OR ${ownedBy('pg_namespace', 'o.nspowner = 10')} OR ${ownedBy('pg_type', 'o.typowner = 10')}))
  ORDER BY 1`

const isMoney = (type: string): string => `${type} IN ('money'::regtype, 'money[]'::regtype)`

const question = `
  SELECT pg_database_size(d.oid)::float8 AS bytes, pg_is_in_recovery() AS standby,
         has_table_privilege('pg_catalog.pg_authid', 'SELECT') AS "rolePasswords",
         pg_encoding_to_char(d.encoding)::text AS encoding, pg_get_userbyid(d.datdba)::text AS owner,
         (SELECT spcname::text FROM pg_catalog.pg_tablespace WHERE oid = d.dattablespace AND spcname <> 'pg_default') AS tablespace,
         row_to_json(d) AS row,
         ARRAY(SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_' ORDER BY 1) AS roles,
         ARRAY(${neededRoles}) AS "neededRoles",
         coalesce((SELECT json_agg(json_build_object('name', extname, 'version', extversion) ORDER BY extname)
                     FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql'), '[]') AS extensions,
         ARRAY(SELECT DISTINCT t.spcname::text FROM pg_catalog.pg_class c
                 JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
                WHERE t.spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1) AS tablespaces,
         CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid >= 16384 AND ${isMoney('atttypid')})
                OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE oid >= 16384 AND ${isMoney('typbasetype')})
              THEN current_setting('lc_monetary') END AS "lcMonetary"
    FROM pg_catalog.pg_database d WHERE d.datname = current_database()`

export async function databaseFacts(db: Database, serverVersionNum: number): Promise<DatabaseFacts> {
  const found = await db.one<Row>(question)
  const warnings: Warning[] = []
  if (!found.rolePasswords)
    warnings.push({ what: 'the roles are saved without their passwords: pg_authid may not be read' })
  if (found.standby)
    warnings.push({ what: 'unlogged tables are saved without rows: the server is a standby' })
  const { row } = found
  const extensions = found.extensions.slice(0, mostNames)
  return {
    bytes: found.bytes,
    standby: found.standby,
    rolePasswords: found.rolePasswords,
    options: {
      serverVersionNum,
      encoding: found.encoding,
      collate: row.datcollate,
      ctype: row.datctype,
      provider: row.datlocprovider,
      locale: row.datlocale ?? row.daticulocale ?? undefined,
      owner: found.owner,
      tablespace: found.tablespace ?? undefined,
      globals: found.rolePasswords ? 'full' : 'no passwords',
      roles: found.roles.length > mostNames ? undefined : found.roles,
      neededRoles: found.neededRoles.slice(0, mostNames),
      extensions: extensions.map(({ name }) => name),
      extensionVersions: Object.fromEntries(extensions.map(({ name, version }) => [name, version])),
      tablespaces: found.tablespaces.slice(0, mostNames),
      lcMonetary: found.lcMonetary ?? undefined,
    },
    warnings,
  }
}
