import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import { applicationName, watch } from './activity.ts'
import { showTable, takeCensus } from './census.ts'
import { connect } from './connect.ts'
import type { Connection } from './connection.ts'
import type { Relation } from './pick.ts'

/** What a restore brought: tables and rows; null where they were not counted. */
export interface Counted {
  readonly objects: number | null
  readonly rows: number | null
}

/** Counts the rows of a database, or of some of its tables. The restore stands, whatever becomes of it: a failure is a warning. */
export async function counted(
  connection: Connection,
  only: readonly Relation[] | null,
  warnings: string[],
  ctx: Context,
): Promise<Counted> {
  try {
    const name = applicationName('census')
    await using db = await connect(connection, name, ctx)
    await using _watched = watch(connection, name, 'the count', ctx)
    await db.rows('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
    const names = only && new Set(only.map(showTable))
    const { objects } = await takeCensus(db, 'counts', ctx.alive, names)
    return { objects: objects.length, rows: objects.reduce((sum, { rows }) => sum + (rows ?? 0), 0) }
  } catch (error) {
    ctx.signal.throwIfAborted()
    warnings.push(`the rows were not counted: ${error instanceof Failure ? error.why : String(error)}`)
    return { objects: null, rows: null }
  }
}
