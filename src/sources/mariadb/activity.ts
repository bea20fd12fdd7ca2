import type { Context } from '../../model/context.ts'
import { ask, type Server } from './ask.ts'

/**
 * Why a program of ours may be silent, in sentences: what of our user's connections waits for a lock. Others are only seen
 * with PROCESS. '' when nothing does.
 */
export async function whySilent(server: Server, ctx: Context): Promise<string> {
  const [rows = []] = await ask(
    server,
    [
      `SELECT ID, STATE, LEFT(IFNULL(INFO, ''), 80), TIME FROM information_schema.PROCESSLIST
        WHERE STATE LIKE 'Waiting for%' AND USER = SUBSTRING_INDEX(CURRENT_USER(), '@', 1) AND COMMAND = 'Query'`,
    ],
    ctx,
  )
  return rows
    .map(
      ([id, state = '', query, seconds]) =>
        `connection ${id} has been ${lower(state)} for ${seconds} s: ${query}`,
    )
    .join('; ')
}

function lower(state: string): string {
  return state.charAt(0).toLowerCase() + state.slice(1)
}
