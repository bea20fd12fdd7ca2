import type { Context } from '../../model/context.ts'
import { cleanupContext } from '../../platform/run-context.ts'
import type { Connection } from './connection.ts'
import { connectBeside } from './scratch.ts'
import { quoteName } from './sql.ts'

const cleanupMs = 10_000

/** Takes back roles that a restore made which then failed; works after an abort too, and never throws. */
export async function dropRoles(
  connection: Connection,
  names: readonly string[],
  outer: Context,
): Promise<void> {
  if (names.length === 0) return
  const ctx = cleanupContext(outer, cleanupMs)
  try {
    await using db = await connectBeside(connection, ctx)
    for (const name of names) await db.rows(`DROP ROLE IF EXISTS ${quoteName(name)}`)
  } catch (error) {
    outer.emit({
      type: 'warning',
      what: `of the roles ${names.join(', ')}, which the restore made, some stay`,
      why: (error as Error).message,
      remedy: 'they own nothing: drop them, or leave them for the next restore',
    })
  }
}
