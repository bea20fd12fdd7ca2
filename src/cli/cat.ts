import type { CatalogEntry } from '../engine/catalog.ts'
import { withFirstReadable } from '../engine/first-readable.ts'
import { keysToTell } from '../engine/first-versions.ts'
import { artifactReader, type StagesOf } from '../engine/reader.ts'
import { manifestFrom } from '../engine/stated.ts'
import type { Context } from '../model/context.ts'
import { asFailure, type ExitCode, exitCode, usage } from '../model/failure.ts'
import type { ArtifactRecord } from '../model/manifest.ts'
import type { Store } from '../model/store.ts'
import type { Global } from './io.ts'
import { findBackup, readingOf, withApp } from './work.ts'

interface Options extends Global {
  readonly store: readonly string[]
  readonly identity?: string
}

/**
 * `cairn cat BACKUP ARTIFACT`: the plain bytes on stdout, from the first store whose copy can be read. What was written when it fails in the middle cannot be taken
 * back: the exit code tells, and whoever pipes it into a program must look at it.
 */
export function run(handle: string, name: string, options: Options): Promise<ExitCode> {
  return withApp(options, async ({ app, ctx }) => {
    const { entry } = await findBackup(app, await app.stores(options.store), handle, ctx, true)
    const { manifest } = await manifestFrom(entry, ctx)
    const record = manifest.artifacts.find(artifact => artifact.name === name)
    if (!record) {
      const names = manifest.artifacts.map(artifact => artifact.name).join(', ')
      throw usage(`${entry.id} has no artifact "${name}"`, `it has: ${names}`)
    }
    const { stagesOf } = await readingOf(app, options.identity)
    await writeFirst(record, entry, stagesOf, ctx)
    return exitCode.ok
  })
}

/** From the next store where a copy is damaged or out of reach, as long as nothing has been written. */
async function writeFirst(
  record: ArtifactRecord,
  entry: CatalogEntry,
  stagesOf: StagesOf,
  ctx: Context,
): Promise<void> {
  let isBegun = false
  const work = async (store: Store): Promise<void> => {
    for await (const chunk of artifactReader(store, stagesOf, ctx).open(record)) {
      isBegun = true
      await write(chunk)
    }
  }
  const stores = entry.copies.map(({ store }) => store)
  await withFirstReadable(
    stores,
    keysToTell(record),
    ({ name }) => `cannot read ${record.name} from store ${name}`,
    work,
    ctx,
    () => !isBegun,
  )
}

function write(chunk: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(chunk, error =>
      error ? reject(asFailure(error, 'cannot write to stdout')) : resolve(),
    )
  })
}
