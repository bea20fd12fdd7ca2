import type { Restorer } from '../../model/restore.ts'
import type { Source } from '../../model/source.ts'
import { restorerWhenNeeded, sourceWhenNeeded } from '../../platform/when-needed.ts'
import type { Flavour } from './connection.ts'
import type { MariadbOptions } from './options.ts'
import type { RestorerOptions } from './prepare.ts'

export { MariadbOptions } from './options.ts'

/** Databases of a MariaDB or MySQL server and the server's accounts, dumped by that product's own programs. */
export function mariadbSource(flavour: Flavour, options: MariadbOptions): Source {
  return sourceWhenNeeded(flavour, async () => (await import('./source.ts')).sourceOf(flavour, options))
}

export function mariadbRestorer(flavour: Flavour, options: RestorerOptions): Restorer {
  return restorerWhenNeeded({ picksInside: true }, async () =>
    (await import('./restorer.ts')).restorerOf(flavour, options),
  )
}
