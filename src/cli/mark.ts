import type { CatalogEntry } from '../engine/catalog.ts'
import { markEverywhere, undeletableUntil } from '../engine/marking.ts'
import type { Context } from '../model/context.ts'
import { type ExitCode, exitCode, usage } from '../model/failure.ts'
import type { MarkKind } from '../model/mark.ts'
import { type Global, out, outJson, sayFailure } from './io.ts'
import { findBackup, withApp } from './work.ts'

interface Options extends Global {
  readonly store: readonly string[]
}

const defaultUndeleteMs = 7 * 24 * 3_600_000

/** `cairn hold|release|undelete BACKUP`: says something about a backup in every store that has it. */
export function run(
  kind: 'hold' | 'release' | 'undelete',
  handle: string,
  options: Options,
): Promise<ExitCode> {
  return withApp(options, async ({ app, ctx }) => {
    const { entry } = await findBackup(app, await app.stores(options.store), handle, ctx)
    const undelete = app.config.jobs[entry.job]?.undelete ?? app.config.defaults.undelete ?? defaultUndeleteMs
    if (kind === 'undelete') await mustBeInTime(entry, undelete, ctx)
    const failures = await markEverywhere(entry, kind satisfies MarkKind, {}, ctx)
    for (const { failure } of failures) sayFailure(failure)
    const done = entry.copies
      .map(copy => copy.store.name)
      .filter(name => !failures.some(({ store }) => store === name))
    if (options.json) await outJson({ cairn: 1, id: entry.id, mark: kind, stores: done })
    else if (done.length > 0) await out(`${entry.id}: ${kind} in ${done.join(', ')}`)
    if (failures.length === 0) return exitCode.ok
    return done.length > 0 ? exitCode.partial : exitCode.failed
  })
}

/** After its window a deletion may be half carried out: taking it back then would list a backup that has lost its data. */
async function mustBeInTime(entry: CatalogEntry, undeleteMs: number, ctx: Context): Promise<void> {
  const deleted = entry.copies.filter(copy => copy.marks.deletedAt)
  if (deleted.length === 0) throw usage(`${entry.id} is not deleted`, 'there is nothing to take back')
  for (const copy of deleted) {
    const until = await undeletableUntil(copy, entry.id, undeleteMs, ctx)
    if (!copy.marks.isGoing && until && ctx.clock.now() < until) continue
    throw usage(
      `${entry.id} cannot be undeleted`,
      `its deletion could be taken back until ${until?.toISOString()}, and that time is over`,
    )
  }
}
