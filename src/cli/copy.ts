import { copyBackup, mendCopy } from '../engine/copy.ts'
import { manifestFrom } from '../engine/stated.ts'
import { type ExitCode, exitCode, usage } from '../model/failure.ts'
import { dataPrefix } from '../model/key.ts'
import type { Begin } from '../model/mark.ts'
import { takeLock } from '../platform/lock.ts'
import { type Global, out, outJson } from './io.ts'
import { findBackup, withApp } from './work.ts'

interface Options extends Global {
  readonly store: readonly string[]
  readonly to: string
}

/** `cairn copy BACKUP --to STORE`: gives a store the whole copy it lacks, or what it has lost of its copy. */
export function run(handle: string, options: Options): Promise<ExitCode> {
  return withApp(options, async ({ app, ctx }) => {
    const to = app.store(options.to)
    const known = await app.stores(options.store)
    const { catalog, entry } = await findBackup(app, known.includes(to) ? known : [...known, to], handle, ctx)
    const unheard = catalog.silent.find(({ store }) => store === to)
    if (unheard) throw unheard.failure
    if (entry.copies.some(copy => copy.store === to && copy.marks.deletedAt)) {
      throw usage(
        `cannot copy ${entry.id}`,
        `${to.name} is about to delete its copy`,
        `cairn undelete ${entry.id}`,
      )
    }
    const from = entry.copies.map(copy => copy.store).filter(store => store !== to)
    if (from.length === 0) throw usage(`cannot copy ${entry.id}`, `${to.name} is the only store that has it`)
    const copy = entry.copies.find(({ store }) => store === to)
    const { manifest, file } = await manifestFrom(entry, ctx)
    let mended: string[] = []
    if (copy && !copy.foreign) {
      using _lock = await takeLock(app.state.lockPath(entry.job), `job ${entry.job}`)
      mended = await mendCopy(manifest, from, copy, app.destination(to, entry.job), ctx)
    } else if (!copy) {
      const begin: Omit<Begin, 'expires'> = {
        cairn: 1,
        id: entry.id,
        job: entry.job,
        host: app.state.host,
        startedAt: ctx.clock.now().toISOString(),
        prefixes: [dataPrefix(entry.job, entry.id)],
        parent: manifest.chain?.parent ?? null,
      }
      using _lock = await takeLock(app.state.lockPath(entry.job), `job ${entry.job}`)
      await copyBackup(manifest, file, from, app.destination(to, entry.job), begin, ctx)
    }
    if (options.json) await outJson({ cairn: 1, id: entry.id, store: to.name, copied: !copy, mended })
    else if (mended.length > 0) await out(`put back in ${to.name}, of ${entry.id}: ${mended.join(', ')}`)
    else await out(copy ? `${to.name} has ${entry.id} already` : `copied ${entry.id} to ${to.name}`)
    return exitCode.ok
  })
}
