import { usage } from '../../model/failure.ts'
import type { Database } from './connect.ts'
import { type Connection, showConnection } from './connection.ts'

/** Questions to a server that both backing up and restoring ask. */

/**
 * True where a database holds something of a user's. Ids from 16384 on are given out after initdb (PostgreSQL source,
 * FirstNormalObjectId); what extensions brought along does not count, nor does a schema `public` that was made anew.
 */
export const holdsSomething = `(${[
  ownedBy(
    'pg_class',
    `o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND o.relnamespace NOT IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname ~ '^pg_(toast|temp)')`,
  ),
  ownedBy('pg_proc'),
  ownedBy('pg_type', `o.typtype IN ('e', 'd', 'r')`),
  ownedBy('pg_namespace', `o.nspname !~ '^pg_(toast|temp)' AND o.nspname <> 'public'`),
  ownedBy('pg_operator'),
  ownedBy('pg_ts_config'),
  ownedBy('pg_foreign_server'),
  ownedBy('pg_event_trigger'),
  'EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)',
].join(' OR ')})`

/** The SQL condition that a catalog holds something of a user's, called `o`. */
export function ownedBy(catalog: string, condition = 'true'): string {
  return `EXISTS (SELECT FROM pg_catalog.${catalog} o WHERE o.oid >= 16384 AND ${condition} AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d
     WHERE d.classid = 'pg_catalog.${catalog}'::regclass AND d.objid = o.oid AND d.deptype = 'e'))`
}

export async function isEmpty(db: Database): Promise<boolean> {
  return !(await db.one<{ holds: boolean }>(`SELECT ${holdsSomething} AS holds`)).holds
}

/** The oldest servers whose snapshots pg_dump can share. */
const oldestServer = 90_200

export interface ServerVersion {
  readonly num: number
  /** `15.18 (Debian 15.18-0+deb12u1)`. */
  readonly text: string
}

/** Throws a usage Failure for servers older than PostgreSQL 9.2. */
export async function serverVersion(db: Database): Promise<ServerVersion> {
  const { num, text } = await db.one<{ num: string; text: string }>(
    `SELECT current_setting('server_version_num') AS num, current_setting('server_version') AS text`,
  )
  if (Number(num) < oldestServer) {
    const what = `cannot back up ${showConnection(db.connection)}`
    throw usage(
      what,
      `the server is PostgreSQL ${text}, and 9.2 is the oldest that works`,
      'upgrade the server',
    )
  }
  return { num: Number(num), text }
}

/**
 * Which database this is, for good: the cluster's system identifier and the database's name. Where the identifier may
 * not be read (9.5 and older, some managed services), host and port stand in for it.
 */
export async function identityOf(db: Database, connection: Connection): Promise<string> {
  return identityIn(await clusterOf(db, connection), db.connection.database)
}

/** `pg:7301234567890123456`. The host is the first that was named, whichever answers today. */
export async function clusterOf(db: Database, { host, port }: Connection): Promise<string> {
  try {
    const { id } = await db.one<{ id: string }>(
      'SELECT system_identifier::text AS id FROM pg_control_system()',
    )
    return `pg:${id}`
  } catch {
    return `pg:${encodeURIComponent(host)}:${port}`
  }
}

export function identityIn(cluster: string, database: string): string {
  return `${cluster}/${encodeURIComponent(database)}`
}
