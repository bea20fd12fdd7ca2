import { randomBytes } from 'node:crypto'
import type { Context } from '../../model/context.ts'
import { Failure, usage } from '../../model/failure.ts'
import { cleanupContext } from '../../platform/run-context.ts'
import { connect, type Database } from './connect.ts'
import { type Connection, onDatabase } from './connection.ts'
import { codeOf } from './explain.ts'
import { quoteName, quoteText } from './sql.ts'

/**
 * Databases that are restored under names of their own and get their true ones in the end, all in one transaction
 * (`ALTER DATABASE … RENAME` may stand in one). Until then nobody sees them under a name that means something.
 *
 * Who restores holds an advisory lock on each name: databases of these names that nobody holds and nobody is
 * connected to were left by a process that was killed.
 */
export interface Scratch extends AsyncDisposable {
  /** Creates a database, as the first of these ways that the server takes; `way` says which. */
  create(goal: ScratchGoal): Promise<{ readonly connection: Connection; readonly way: number }>
  /**
   * Gives all databases their names and carries out the statements, in one transaction. What had one of these names and
   * may be replaced is dropped then. Throws leaving all names as they were. A statement that cannot be carried out (a role
   * that is missing, a setting for superusers only) is left out; returns the reasons.
   */
  publish(statements: readonly string[]): Promise<string[]>
}

interface ScratchGoal {
  /** The name it will get. */
  readonly name: string
  /** Whether a database that has this name may be replaced. */
  readonly replace: boolean
  /** What stands after `CREATE DATABASE name`. */
  readonly ways: readonly string[]
  /** Whose it is at first; undefined: ours. */
  readonly owner?: string | undefined
}

const ours = /^cairn_(restoring|replaced)_[0-9a-f]{12}$/

const cleanupMs = 20_000

/** Opens nothing but a connection to some other database of the server; disposing drops what was not published. */
export async function openScratch(target: Connection, ctx: Context): Promise<Scratch> {
  const beside = await connectBeside(target, ctx)
  const made = new Map<string, ScratchGoal>()
  let published = false
  return {
    async create(goal) {
      const scratch = `cairn_restoring_${randomBytes(6).toString('hex')}`
      await beside.rows('SELECT pg_catalog.pg_advisory_lock($1)', [lockOf(scratch)])
      made.set(scratch, goal)
      const way = await createAs(beside, scratch, goal)
      return { connection: onDatabase(beside.connection, scratch), way }
    },
    async publish(statements) {
      const { replaced, refused } = await rename(beside, made, statements)
      published = true
      for (const name of replaced) await dropLater(beside, name, ctx)
      return refused
    },
    async [Symbol.asyncDispose]() {
      await beside.close()
      if (!published && made.size > 0) await dropAll(target, [...made.keys()], ctx)
    },
  }
}

/**
 * A connection to some other database of the server, to create and drop databases from, which writes also where that must be
 * said (`default_transaction_read_only`).
 */
export async function connectBeside(connection: Connection, ctx: Context): Promise<Database> {
  let first: unknown
  for (const database of ['postgres', 'template1', connection.user]) {
    if (database === connection.database) continue
    try {
      const db = await connect(onDatabase(connection, database), 'cairn', ctx)
      await db.rows('SET default_transaction_read_only = off')
      return db
    } catch (error) {
      first ??= error
    }
  }
  throw first
}

function lockOf(name: string): string {
  return BigInt(`0x${name.slice(-12)}`).toString()
}

/** Another locale is tried where the server lacks one; all else is thrown. */
async function createAs(db: Database, name: string, { ways, owner }: ScratchGoal): Promise<number> {
  const whose = owner === undefined ? '' : ` OWNER ${quoteName(owner)}`
  for (const [index, way] of ways.entries()) {
    try {
      await db.rows(`CREATE DATABASE ${quoteName(name)} ${way}${whose}`)
      return index
    } catch (error) {
      const wrongLocale = ['22023', '42809', '42704', '0A000'].includes(codeOf(error))
      if (!wrongLocale || index === ways.length - 1) throw error
    }
  }
  throw new Error('unreachable: the last way was returned or thrown')
}

/** Returns the names that what was replaced has now, and why statements were left out. */
async function rename(
  db: Database,
  made: ReadonlyMap<string, ScratchGoal>,
  statements: readonly string[],
): Promise<{ replaced: string[]; refused: string[] }> {
  const replaced: string[] = []
  await db.rows('BEGIN')
  try {
    for (const [scratch, { name, replace }] of made) {
      const [old] = await db.rows<{ template: boolean }>(
        'SELECT datistemplate AS template FROM pg_catalog.pg_database WHERE datname = $1',
        [name],
      )
      if (old && !replace)
        throw usage(
          `cannot restore as ${JSON.stringify(name)}`,
          'somebody has made a database of that name since',
        )
      if (old) {
        const aside = scratch.replace('restoring', 'replaced')
        replaced.push(aside)
        await db.rows(`ALTER DATABASE ${quoteName(name)} RENAME TO ${quoteName(aside)}`)
        if (old.template) await db.rows(`ALTER DATABASE ${quoteName(aside)} WITH IS_TEMPLATE false`)
      }
      await db.rows(`ALTER DATABASE ${quoteName(scratch)} RENAME TO ${quoteName(name)}`)
      if (old?.template) await db.rows(`ALTER DATABASE ${quoteName(name)} WITH IS_TEMPLATE true`)
    }
    const refused: string[] = []
    for (const statement of statements) refused.push(...(await tried(db, statement)))
    await db.rows('COMMIT')
    return { replaced, refused }
  } catch (error) {
    await db.rows('ROLLBACK').catch(() => {})
    throw error
  }
}

async function tried(db: Database, statement: string): Promise<string[]> {
  await db.rows('SAVEPOINT tried')
  try {
    await db.rows(statement)
    return []
  } catch (error) {
    await db.rows('ROLLBACK TO SAVEPOINT tried')
    return [error instanceof Failure ? error.why : String(error)]
  }
}

/** The new one has its name already: that the old one stays is a matter of room only. */
async function dropLater(db: Database, name: string, ctx: Context): Promise<void> {
  try {
    await dropPatiently(db, name)
  } catch (error) {
    ctx.emit({
      type: 'warning',
      what: `what was replaced stays as the database ${name}`,
      why: (error as Error).message,
      remedy: 'drop it',
    })
  }
}

/** Works after an abort too, and never throws. */
async function dropAll(target: Connection, names: readonly string[], outer: Context): Promise<void> {
  const ctx = cleanupContext(outer, cleanupMs)
  for (const name of names) {
    try {
      await using db = await connectBeside(target, ctx)
      await disconnect(db, name)
      await dropPatiently(db, name)
    } catch (error) {
      outer.emit({
        type: 'warning',
        what: `the database ${name}, which the restore began, stays`,
        why: (error as Error).message,
        remedy: 'the next restore clears it, or drop it',
      })
    }
  }
}

/** Ends our own programs' sessions there, which may linger. */
async function disconnect(db: Database, name: string): Promise<void> {
  await db.rows(
    `SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
      WHERE datname = $1 AND usename = current_user AND pid <> pg_backend_pid()`,
    [name],
  )
}

/** Connections that were just closed are known to the server for a moment longer (55006: object in use). */
async function dropPatiently(db: Database, name: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await db.rows(`DROP DATABASE IF EXISTS ${quoteName(name)}`)
      return
    } catch (error) {
      if (codeOf(error) !== '55006' || attempt === 20) throw error
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
}

/** The databases of such names, whether somebody is at work on them or not. */
export async function scratchDatabases(db: Database): Promise<string[]> {
  const rows = await db.rows<{ name: string }>(
    `SELECT datname::text AS name FROM pg_catalog.pg_database WHERE datname ~ ${quoteText(ours.source)}`,
  )
  return rows.map(({ name }) => name)
}

/** Drops what killed restores left. What somebody holds, is connected to, or that is not ours to drop, stays. */
export async function clearScratch(target: Connection, ctx: Context): Promise<void> {
  await using db = await connectBeside(target, ctx)
  for (const name of await scratchDatabases(db)) {
    // Not pg_try_advisory_lock: such locks belong to one database, and the other restore may look from another one.
    const { held } = await db.one<{ held: boolean }>(
      `SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND objsubid = 1
                        AND (classid::int8 << 32 | objid::int8) = $1::int8) AS held`,
      [lockOf(name)],
    )
    if (held) continue
    await disconnect(db, name)
    await dropPatiently(db, name).catch(() => ctx.signal.throwIfAborted())
  }
}
