import type { Context } from '../../model/context.ts'
import { asFailure } from '../../model/failure.ts'
import type { ArtifactRecord } from '../../model/manifest.ts'
import type { ArtifactReader } from '../../model/restore.ts'
import { type Account, parseAccounts } from './accounts.ts'
import { ask, askEach } from './ask.ts'
import type { Reached } from './server.ts'

/** The accounts of a backup that the server has not. Where its own may not be read there are none, and a warning. */
export async function missingAccounts(
  artifact: ArtifactRecord,
  server: Reached,
  read: ArtifactReader,
  ctx: Context,
): Promise<{ missing: Account[]; warnings: string[] }> {
  const chunks: Uint8Array[] = []
  for await (const chunk of read.open(artifact)) chunks.push(chunk)
  const accounts = parseAccounts(Buffer.concat(chunks).toString('utf8'))
  try {
    const [rows = []] = await ask(server, ['SELECT User, Host FROM mysql.user'], ctx)
    const there = new Set(rows.map(row => row.join('\0')))
    return { missing: accounts.filter(({ user, host }) => !there.has(`${user}\0${host}`)), warnings: [] }
  } catch (error) {
    ctx.signal.throwIfAborted()
    const { why } = asFailure(error, '')
    return { missing: [], warnings: [`no account is created: the target's may not be read (${why})`] }
  }
}

/** What the server refuses of them is a warning: the data stands. */
export async function createAccounts(
  server: Reached,
  missing: readonly Account[],
  ctx: Context,
): Promise<string[]> {
  if (missing.length === 0) return []
  const statements = [...missing.flatMap(each => each.create), ...missing.flatMap(each => each.grants)]
  const { errors } = await askEach(server, statements, ctx)
  return errors.map(error => `an account or a privilege was refused: ${error}`)
}
