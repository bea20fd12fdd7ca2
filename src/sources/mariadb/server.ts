import type { Context } from '../../model/context.ts'
import { Failure, usage } from '../../model/failure.ts'
import { ask, type Row, type Server } from './ask.ts'
import { type Clients, findClients, type Series, seriesOf } from './clients.ts'
import { type Connection, type Flavour, flavourNames, showConnection } from './connection.ts'
import { placed } from './option-files.ts'
import { isOneOf } from './sql.ts'

/** Databases that belong to the server itself. */
export const systemDatabases = ['information_schema', 'performance_schema', 'sys', 'mysql']

/** What a server says of itself. */
export interface ServerFacts {
  /** `11.8.6-MariaDB-0+deb13u1`. */
  readonly version: string
  readonly series: Series
  /** Which server this is, for good: its own id, else where it is. */
  readonly identity: string
  readonly maxAllowedPacket: number
  /** Whether `Shop` and `shop` are one database (lower_case_table_names). */
  readonly foldsCase: boolean
  /** Databases with their character set and collation, without the server's own. */
  readonly databases: ReadonlyMap<string, DatabaseFacts>
  /** How many rows a SELECT gives, unless it says otherwise (sql_select_limit). */
  readonly selectLimit: bigint
  /** Whether names are quoted in the definitions that the server writes (sql_quote_show_create). */
  readonly quotesNames: boolean
  /** The character set that sessions speak in the end: init_connect may say another than the client. */
  readonly charset: string
  /** Whether tables without a primary key get one (sql_generate_invisible_primary_key). */
  readonly makesKeys: boolean
  /** The lines of SHOW GRANTS for whom we are. */
  readonly grants: readonly string[]
}

export interface DatabaseFacts {
  readonly charset: string
  readonly collation: string
}

/** A server that answered, and the programs that are there for it. */
export interface Reached extends Server {
  readonly found: readonly Clients[]
  readonly facts: ServerFacts
  /** What the databases take that were named, in bytes. */
  readonly namedBytes: number
}

/** Logs in and looks around, also how large the databases of these names are. Throws a Failure with what to do: no programs, no login, the wrong product. */
export async function reach(
  wanted: Connection,
  folder: string | undefined,
  ctx: Context,
  named: readonly string[] = [],
): Promise<Reached> {
  const found = await findClients(wanted.flavour, folder, ctx)
  const connection = await placed(wanted, found[0], ctx)
  const server = { connection, clients: found[0] }
  const [version = [], variables = [], databases = [], grants = [], cipher = [], limit = [], size = []] =
    await ask(
      server,
      [
        'SELECT VERSION()',
        `SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_uid', 'max_allowed_packet', 'lower_case_table_names', 'sql_generate_invisible_primary_key')`,
        'SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA',
        'SHOW GRANTS',
        `SHOW SESSION STATUS LIKE 'Ssl_cipher'`,
        'SELECT @cairn_select_limit, @@SESSION.sql_quote_show_create, @cairn_charset',
        sizeOf(named),
      ],
      ctx,
    )
  demandEncrypted(connection, cipher[0]?.[1] ?? '')
  const text = version[0]?.[0] ?? ''
  demandFlavour(connection, /mariadb/i.test(text) ? 'mariadb' : 'mysql')
  const set = new Map(variables.map(([name = '', value = '']) => [name, value]))
  const id = set.get('server_uuid') || set.get('server_uid')
  const { host = 'localhost', port = 3306, socket } = connection
  return {
    ...server,
    found,
    namedBytes: Number(size[0]?.[0] ?? 0),
    facts: {
      version: text,
      series: seriesOf(text),
      identity: `${connection.flavour}:${encodeURIComponent(id || (socket ?? `${host}:${port}`))}`,
      maxAllowedPacket: Number(set.get('max_allowed_packet') ?? 0),
      foldsCase: (set.get('lower_case_table_names') ?? '0') !== '0',
      databases: databasesOf(databases),
      selectLimit: BigInt(limit[0]?.[0] ?? 0),
      quotesNames: limit[0]?.[1] !== '0',
      charset: limit[0]?.[2] ?? '',
      makesKeys: set.get('sql_generate_invisible_primary_key') === 'ON',
      grants: grants.map(([grant = '']) => grant),
    },
  }
}

/** A question; of a server with very many tables it takes a while. */
export function sizeOf(databases: readonly string[]): string {
  if (databases.length === 0) return 'SELECT 0'
  return `SELECT IFNULL(SUM(DATA_LENGTH), 0) FROM information_schema.TABLES WHERE ${isOneOf('TABLE_SCHEMA', databases)}`
}

function databasesOf(rows: readonly Row[]): Map<string, DatabaseFacts> {
  return new Map(
    rows
      .filter(([name = '']) => !systemDatabases.includes(name.toLowerCase()))
      .map(([name = '', charset = '', collation = '']) => [name, { charset, collation }]),
  )
}

/** MariaDB's older programs take --ssl for a wish, and go on in clear text. */
function demandEncrypted(connection: Connection, cipher: string): void {
  const mode = connection.ssl?.mode
  if (cipher !== '' || mode === undefined || mode === 'disabled' || mode === 'preferred') return
  throw new Failure({
    what: `cannot connect to ${showConnection(connection)}`,
    why: `the connection is not encrypted, and ssl mode ${mode} was asked for`,
    remedy: 'turn on TLS at the server, or change the ssl options if the network may be trusted',
  })
}

/**
 * The dumper reads each table by one SELECT, and does not say when that was cut short; definitions it takes as the server
 * quotes them. Throws a Failure.
 */
export function demandWholeDump({ connection, facts }: Reached): void {
  if (!facts.quotesNames)
    throw new Failure({
      what: `cannot back up ${showConnection(connection)}`,
      why: 'sql_quote_show_create is off for this user: the dump could not be restored',
      remedy: 'SET GLOBAL sql_quote_show_create = 1 at the server, or take it out of init_connect',
    })
  if (facts.selectLimit >= noLimit) return
  throw new Failure({
    what: `cannot back up ${showConnection(connection)}`,
    why: `sql_select_limit is ${facts.selectLimit} for this user: the dump would hold no more rows of any table`,
    remedy:
      'SET GLOBAL sql_select_limit = 18446744073709551615 at the server, or take it out of init_connect',
  })
}

/** The dumper writes names in the character set of its session, and in UTF-8 in definitions. Throws a Failure. */
export function demandNames({ connection, facts }: Reached, names: readonly string[]): void {
  if (/^(utf8|binary)/.test(facts.charset)) return
  const name = names.find(each => Buffer.byteLength(each) > each.length)
  if (name === undefined) return
  throw new Failure({
    what: `cannot back up ${showConnection(connection)}`,
    why: `this user's sessions are set to ${facts.charset}: the dump would call ${name} by two names, and could not be restored`,
    remedy: 'take SET NAMES out of init_connect, or SET NAMES utf8mb4 there',
  })
}

const noLimit = 2n ** 63n

function demandFlavour(connection: Connection, flavour: Flavour): void {
  if (connection.flavour === flavour) return
  throw usage(
    `cannot work with ${showConnection(connection)}`,
    `the server is ${flavourNames[flavour]}, not ${flavourNames[connection.flavour]}`,
    `say type: ${flavour}, or ${flavour}:// in the URL; a backup of ${flavourNames[connection.flavour]} is restored to ${flavourNames[connection.flavour]}`,
  )
}

/** What a whole dump takes. Without TRIGGER the triggers would be missing from it, and nobody would say so. */
const needed = ['SELECT', 'SHOW VIEW', 'TRIGGER', 'EVENT']

/** The privileges that whoever has these grants lacks to dump a database whole. */
export function lackingPrivileges(grants: readonly string[], database: string): string[] {
  const having = grants
    .map(grant => /^GRANT (.*?) ON (?:TABLE )?(.*?) TO /s.exec(grant))
    .filter(match => match !== null && covers(match[2] ?? '', database))
    .flatMap(match => (match?.[1] ?? '').split(/, ?/).map(each => each.toUpperCase()))
  if (having.some(each => each === 'ALL PRIVILEGES' || each === 'ALL')) return []
  return needed.filter(each => !having.includes(each))
}

/** Whether `*.*` or `` `sho_`.* `` is about a database: _ and % are wildcards there, unless escaped. */
function covers(scope: string, database: string): boolean {
  if (scope === '*.*') return true
  const name = /^[`"](.*)[`"]\.\*$/s.exec(scope)?.[1]?.replaceAll('``', '`')
  if (name === undefined) return false
  const pattern = name.replace(/\\([_%\\])|([_%])|[.*+?^${}()|[\]\\]/g, (all, escaped, wild) =>
    escaped ? `\\${escaped}` : wild ? (wild === '_' ? '.' : '.*') : `\\${all}`,
  )
  return new RegExp(`^${pattern}$`, 's').test(database)
}
