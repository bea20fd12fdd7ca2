import type { Context } from '../../model/context.ts'
import type { Connection } from './connection.ts'
import { codeOf } from './explain.ts'
import { connectBeside } from './scratch.ts'
import { nameOf, statements } from './sql.ts'

interface Money {
  /** What sessions that restore are set to; undefined: nothing. */
  readonly lcMonetary: string | undefined
  readonly warnings: readonly string[]
}

/**
 * Whether a server can read amounts of money as they are written under this lc_monetary; as another they would be other
 * amounts (PostgreSQL docs, "Monetary Types").
 */
export async function moneyAt(
  connection: Connection,
  lcMonetary: string | undefined,
  ctx: Context,
): Promise<Money> {
  if (lcMonetary === undefined) return { lcMonetary, warnings: [] }
  await using db = await connectBeside(connection, ctx)
  try {
    await db.rows(`SELECT set_config('lc_monetary', $1, false)`, [lcMonetary])
    return { lcMonetary, warnings: [] }
  } catch (error) {
    if (codeOf(error) !== '22023') throw error
    const warning = `the server has not got lc_monetary ${lcMonetary}, as which amounts of money are written: look whether they came back right`
    return { lcMonetary: undefined, warnings: [warning] }
  }
}

/** What statements set a database's lc_monetary to. */
export function lcMonetaryIn(sql: string): string | undefined {
  const set = [...statements(sql)].find(
    tokens =>
      tokens[1]?.value === 'DATABASE' && tokens[3]?.value === 'SET' && nameOf(tokens[4]) === 'lc_monetary',
  )
  return set?.[6]?.text.slice(1, -1).replaceAll("''", "'")
}
