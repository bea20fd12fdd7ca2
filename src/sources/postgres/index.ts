import type { Restorer } from '../../model/restore.ts'
import type { Source } from '../../model/source.ts'
import { restorerWhenNeeded, sourceWhenNeeded } from '../../platform/when-needed.ts'
import type { PostgresOptions } from './options.ts'
import type { RestorerOptions } from './prepare.ts'

export { PostgresOptions } from './options.ts'

/**
 * Databases of a PostgreSQL server and the server's globals, dumped by PostgreSQL's own programs. `isPart`: of an archive, which
 * people unpack and restore by hand.
 */
export function postgresSource(options: PostgresOptions, isPart = false): Source {
  return sourceWhenNeeded('postgres', async () => (await import('./source.ts')).sourceOf(options, isPart))
}

export function postgresRestorer(options: RestorerOptions): Restorer {
  return restorerWhenNeeded(
    {
      options: ['noOwner', 'noPrivileges', 'role', 'create', 'jobs', 'schemaOnly', 'dataOnly'],
      picksInside: true,
    },
    async () => (await import('./restorer.ts')).restorerOf(options),
  )
}
