import { basename, isAbsolute } from 'node:path'
import * as z from 'zod'
import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { Source } from '../../model/source.ts'
import { countTables } from './check.ts'
import { connect } from './connect.ts'
import { look } from './look.ts'
import { openSession, sqliteVersion } from './session.ts'

export const SqliteOptions = z.strictObject({
  path: z
    .string()
    .refine(path => isAbsolute(path) && !path.includes('\0'), 'must be an absolute path')
    .meta({ description: 'the database file', example: '/srv/wiki/wiki.db' }),
  allowEmpty: z
    .boolean()
    .default(false)
    .describe('back up a database without tables too, instead of failing'),
})
export type SqliteOptions = z.infer<typeof SqliteOptions>

/**
 * One SQLite database, read through SQLite while others write to it. A file copy would miss what its -wal file
 * holds. A database in rollback mode keeps its writers waiting until it is copied; one in WAL mode does not.
 */
export function sqliteSource(options: SqliteOptions): Source {
  const { path } = options
  return {
    engine: 'sqlite',
    async inspect(ctx) {
      const seen = await look(path, ctx)
      if (!options.allowEmpty && (await isEmpty(path, ctx))) {
        throw usage(
          `cannot back up ${path}`,
          'it is an empty database, without a single table',
          'check the path; set "allowEmpty: true" if it is meant to be empty',
        )
      }
      return {
        identity: `sqlite:${path}`,
        version: await sqliteVersion(),
        local: true,
        units: [{ name: basename(path) }],
        estimate: seen.bytes + seen.walBytes,
      }
    },
    open: (_unit, _parent, level, ctx) => openSession(path, level, ctx),
  }
}

async function isEmpty(path: string, ctx: Context): Promise<boolean> {
  const seen = await look(path, ctx)
  if (seen.bytes + seen.walBytes === 0) return true
  // Only a whole copy could be looked into: leave that to the backup.
  if (seen.wal && !seen.shm && seen.walBytes > 0) return false
  using connection = await connect(seen, ctx)
  return countTables(connection.db, false).next().done === true
}
