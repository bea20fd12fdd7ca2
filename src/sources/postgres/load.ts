import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Context } from '../../model/context.ts'
import type { Framing, RestoreOptions } from '../../model/restore.ts'
import type { Bytes, Program, Step } from '../../model/step.ts'
import type { Archive } from './archive.ts'
import { type Clients, majorOf } from './clients.ts'
import { type Connection, loginOf, noticingItsEnd, withSetting } from './connection.ts'
import { putDefaultsBack, setAsideDefaults } from './default-privileges.ts'
import { judged } from './explain.ts'
import { asBlock } from './globals.ts'
import { ourTransaction } from './our-transaction.ts'
import { connectBeside } from './scratch.ts'
import { holdsSomething } from './server.ts'
import { withoutTimeouts } from './sql.ts'

/** What all programs of one restore share. */
export interface Loading {
  /** To the database that is written. */
  readonly connection: Connection
  readonly clients: Clients
  /** The target server's version: 150018. */
  readonly versionNum: number
  readonly options: RestoreOptions
  readonly noTablespaces: boolean
  /** How amounts of money are written in the dump; undefined: as the target does, or there are none. */
  readonly lcMonetary?: string | undefined
  /** Only these entries of the archive, as pg_restore lists them; undefined: all. */
  readonly list?: string | undefined
  /** The name of our programs' connections. */
  readonly name: string
}

/** What is done in the same transaction as the data. */
export interface Around {
  /** Drop what the archive holds before making it. */
  readonly clean: boolean
  /** Look again whether the target is empty, where nobody can come between. */
  readonly mustBeEmpty: boolean
  readonly before: readonly string[]
  readonly after: readonly string[]
}

/** Nothing but the data. */
export const alone: Around = { clean: false, mustBeEmpty: false, before: [], after: [] }

/** From 17 on pg_restore sets transaction_timeout, which older servers do not know. */
export function talksTo(clientMajor: number, versionNum: number): boolean {
  return clientMajor < 17 || majorOf(versionNum) >= 17
}

/** At most so many warnings of a program are reported. */
const mostWarnings = 20

/** Two restores into one database exclude each other by this advisory lock. */
const lockKey = 0x63_61_69_72_6e

/**
 * Lets pg_restore write into a database that nobody else knows. It commits as it goes, and may be done before the end
 * of the archive was judged: what it wrote counts only when this has resolved. Returns its warnings.
 */
export async function loadDirectly(o: Loading, archive: Archive, ctx: Context): Promise<string[]> {
  const warnings: string[] = []
  const { jobs } = o.options
  // A crash of the server loses the whole new database at the worst; its new name is flushed together with all before it.
  const hasty = withSetting(reading(o), 'synchronous_commit', 'off')
  const writing = withSetting(hasty, 'default_transaction_read_only', 'off')
  await archive.restore({
    program: o.clients.path('pg_restore'),
    args: [
      `--dbname=${o.connection.database}`,
      '--no-password',
      '--exit-on-error',
      ...(jobs === undefined ? [] : [`--jobs=${jobs}`]),
      ...restoreArgs(o, ctx),
    ],
    ...loginOf(writing, o.name),
    judge: judged('pg_restore'),
    onStderr: collecting(warnings),
  })
  return warnings
}

/** Values are read as they were written, whatever the target is set to. What else that takes, a dump says itself. */
function reading({
  connection,
  versionNum,
  lcMonetary,
}: Pick<Loading, 'connection' | 'versionNum' | 'lcMonetary'>): Connection {
  const lists = withSetting(noticingItsEnd(connection, versionNum), 'array_nulls', 'on')
  return lcMonetary === undefined ? lists : withSetting(lists, 'lc_monetary', lcMonetary)
}

function collecting(warnings: string[]) {
  return (line: string): void => {
    const warning = /WARNING: +(.*)/.exec(line)?.[1]
    if (warning && warnings.length < mostWarnings) warnings.push(warning)
  }
}

/**
 * Reads the archive through pg_restore into psql, in one transaction that we open and close ourselves: psql's input
 * ends, and COMMIT is written, only when everything before it was judged right. Not `psql -1`: it commits at the end of
 * its input, and the end of input is also what a death looks like. Returns psql's warnings.
 */
export async function loadInTransaction(
  o: Loading & Around,
  archive: Archive,
  ctx: Context,
): Promise<string[]> {
  const warnings: string[] = []
  const { program, framing } = psql(o, warnings)
  const restore: Program = {
    program: o.clients.path('pg_restore'),
    args: [
      '--file=-',
      // Without it, pg_restore wraps large objects in transactions of their own, and their COMMIT would be ours.
      '--single-transaction',
      ...(o.clean ? ['--clean', '--if-exists'] : []),
      ...restoreArgs(o, ctx),
    ],
    writesSmallBlocks: true,
    judge: judged('pg_restore'),
  }
  // The script passes through us, for the sake of its transaction.
  const steps: Step[] = [ourTransaction(majorOf(o.versionNum))]
  await archive.script(restore, steps, program, framing)
  return warnings
}

/** psql, and what makes all that it reads one transaction. */
export function psql(
  o: Omit<Loading, 'noTablespaces' | 'list'> & Around,
  warnings: string[],
): { program: Program; framing: Framing } {
  const login = loginOf(reading(o), o.name)
  const program: Program = {
    program: o.clients.path('psql'),
    args: ['-X', '-q', '-v', 'ON_ERROR_STOP=1', '--no-password', '-f', '-'],
    ...login,
    // Our own statements are UTF-8; the archive says what its are.
    env: { ...login.env, PGCLIENTENCODING: 'UTF8' },
    judge: judged('psql'),
    onStderr: collecting(warnings),
  }
  return { program, framing: { prologue: prologue(o), epilogue: epilogue(o) } }
}

function restoreArgs({ options: o, noTablespaces, list }: Loading, ctx: Context): string[] {
  return [
    ...(o.noOwner ? ['--no-owner'] : []),
    ...(o.noPrivileges ? ['--no-privileges'] : []),
    ...(o.role === undefined ? [] : [`--role=${o.role}`]),
    ...(o.schemaOnly ? ['--schema-only'] : []),
    ...(o.dataOnly ? ['--data-only'] : []),
    ...(noTablespaces ? ['--no-tablespaces'] : []),
    ...(list === undefined ? [] : [`--use-list=${listFile(list, ctx)}`]),
  ]
}

/** In the private folder, which goes when the work ends. */
function listFile(list: string, ctx: Context): string {
  const path = join(ctx.dir, `${randomUUID()}.list`)
  writeFileSync(path, list, { mode: 0o600 })
  return path
}

/**
 * The plan's finding is checked again where nobody can come between: inside the transaction. What the target is set to
 * (`search_path`, `default_transaction_read_only`, time limits) does not get between us and a restore that was asked for;
 * the path is that of the target again before the archive's first line.
 */
async function* prologue(o: Around & Pick<Loading, 'options' | 'versionNum'>): Bytes {
  const check = `IF ${holdsSomething} THEN RAISE EXCEPTION 'the target is not empty any more'; END IF`
  const lines = [
    `SET search_path = pg_catalog;`,
    withoutTimeouts,
    'BEGIN READ WRITE;',
    `SELECT pg_catalog.pg_advisory_xact_lock(${lockKey});`,
    o.mustBeEmpty ? `DO $cairn$ BEGIN ${check}; END $cairn$;` : '',
    o.before.length > 0 ? asBlock(o.before) : '',
    bringsPrivileges(o) ? setAsideDefaults(o.options.role) : '',
    'RESET search_path;',
  ]
  yield Buffer.from(`${lines.join('\n')}\n`)
}

function epilogue(o: Around & Pick<Loading, 'options' | 'versionNum'>): Uint8Array {
  const { options, after } = o
  const reset = options.role === undefined ? '' : 'RESET ROLE;\n'
  const last = after.length > 0 ? asBlock(after) : ''
  const defaults = bringsPrivileges(o) ? putDefaultsBack : ''
  return Buffer.from(`\nSET client_encoding = 'UTF8';\n${reset}${defaults}${last}COMMIT;\n`)
}

/** Whoever wants none of the backup's gets those that the target gives by default. */
function bringsPrivileges({ options, versionNum }: Pick<Loading, 'options' | 'versionNum'>): boolean {
  return !options.noPrivileges && !options.dataOnly && versionNum >= 90_500
}

/** Only the roles: all of them, or none. */
export async function createRoles(
  connection: Connection,
  statements: readonly string[],
  ctx: Context,
): Promise<void> {
  if (statements.length === 0) return
  await using db = await connectBeside(connection, ctx)
  await db.rows('BEGIN')
  for (const statement of statements) await db.rows(statement)
  await db.rows('COMMIT')
}
