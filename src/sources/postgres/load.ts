import type { Context } from '../../model/context.ts'
import type { ArtifactRecord } from '../../model/manifest.ts'
import type { ArtifactReader } from '../../model/restore.ts'
import type { Bytes, Program, Step } from '../../model/step.ts'
import { type Clients, majorOf } from './clients.ts'
import { type Connection, childEnv, noticingItsEnd } from './connection.ts'
import { judged } from './explain.ts'
import { asBlock } from './globals.ts'
import { ourTransaction } from './our-transaction.ts'
import { holdsSomething } from './server.ts'
import { quoteName } from './sql.ts'
import { connectBeside, type Survey } from './target.ts'

export interface Load {
  readonly connection: Connection
  readonly data: ArtifactRecord
  readonly clients: Clients
  readonly found: Survey
  /** Drop what the archive holds before making it. */
  readonly clean: boolean
  readonly noOwner: boolean
  readonly noTablespaces: boolean
  readonly owner: string | undefined
  /** SQL that sets what belongs to the database; '' for nothing. */
  readonly settings: string
  /** The statements that make the missing roles. */
  readonly roles: readonly string[]
  /** The name of psql's connection. */
  readonly name: string
}

/** At most so many of psql's warnings are reported. */
const mostWarnings = 20

/** Two restores into one database exclude each other by this advisory lock. */
const lockKey = 0x63_61_69_72_6e

/**
 * Reads the archive through pg_restore into psql, in one transaction that we open and close ourselves: psql's input
 * ends, and COMMIT is written, only when everything before it was judged right. Not `psql -1`: it commits at the end of
 * its input, and the end of input is also what a death looks like. Returns psql's warnings.
 */
export async function load(o: Load, read: ArtifactReader): Promise<string[]> {
  const warnings: string[] = []
  await read.into(o.data, psql(o, warnings), { prologue: prologue(o), epilogue: epilogue(o) }, through(o))
  return warnings
}

function psql(o: Load, warnings: string[]): Program {
  return {
    program: o.clients.path('psql'),
    args: ['-X', '-q', '-v', 'ON_ERROR_STOP=1', '--no-password', '-f', '-'],
    // Our own statements are UTF-8; the archive says what its are.
    env: { ...childEnv(noticingItsEnd(o.connection, o.found.versionNum), o.name), PGCLIENTENCODING: 'UTF8' },
    judge: judged('psql'),
    onStderr(line) {
      const warning = /WARNING: +(.*)/.exec(line)?.[1]
      if (warning && warnings.length < mostWarnings) warnings.push(warning)
    },
  }
}

/**
 * The script passes through us, for the sake of its transaction: measured at a tenth more time than with both programs
 * joined by the kernel.
 */
function through(o: Load): Step[] {
  const restore: Program = {
    program: o.clients.path('pg_restore'),
    endsEarly: true,
    args: [
      '--file=-',
      // Without it, pg_restore wraps large objects in transactions of their own, and their COMMIT would be ours.
      '--single-transaction',
      ...(o.clean ? ['--clean', '--if-exists'] : []),
      ...(o.noOwner ? ['--no-owner', '--no-privileges'] : []),
      ...(o.noTablespaces ? ['--no-tablespaces'] : []),
    ],
    judge: judged('pg_restore'),
  }
  return [restore, ourTransaction(majorOf(o.found.versionNum))]
}

/** The plan's finding is checked again where nobody can come between: inside the transaction. */
async function* prologue(o: Load): Bytes {
  const check = `IF ${holdsSomething} THEN RAISE EXCEPTION 'the target is not empty any more'; END IF`
  const lines = [
    'BEGIN;',
    `SELECT pg_catalog.pg_advisory_xact_lock(${lockKey});`,
    o.clean ? '' : `DO $cairn$ BEGIN ${check}; END $cairn$;`,
    o.roles.length > 0 ? asBlock(o.roles) : '',
  ]
  yield Buffer.from(`${lines.join('\n')}\n`)
}

function epilogue(o: Load): Uint8Array {
  const database = quoteName(o.connection.database)
  const owner = o.owner ? `ALTER DATABASE ${database} OWNER TO ${quoteName(o.owner)};\n` : ''
  return Buffer.from(`\nSET client_encoding = 'UTF8';\n${owner}${o.settings}COMMIT;\n`)
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
