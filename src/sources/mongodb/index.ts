import type { Restorer } from '../../model/restore.ts'
import type { Source } from '../../model/source.ts'
import { restorerWhenNeeded, sourceWhenNeeded } from '../../platform/when-needed.ts'
import type { MongodbOptions, RestorerOptions } from './options.ts'

export { MongodbOptions } from './options.ts'

/** Databases of a MongoDB server, read by its own driver. */
export function mongodbSource(options: MongodbOptions): Source {
  return sourceWhenNeeded('mongodb', async () => (await import('./source.ts')).sourceOf(options))
}

export function mongodbRestorer(options: RestorerOptions): Restorer {
  return restorerWhenNeeded({ options: ['noPrivileges'], picksInside: true }, async () =>
    (await import('./restorer.ts')).restorerOf(options),
  )
}
