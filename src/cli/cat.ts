import { artifactReader } from '../engine/reader.ts'
import { manifestFrom } from '../engine/stated.ts'
import { asFailure, type ExitCode, exitCode, usage } from '../model/failure.ts'
import type { Global } from './io.ts'
import { findBackup, withApp } from './work.ts'

interface Options extends Global {
  readonly store: readonly string[]
  readonly identity?: string
}

/**
 * `cairn cat BACKUP ARTIFACT`: the plain bytes on stdout. What was written when it fails in the middle cannot be taken
 * back: the exit code tells, and whoever pipes it into a program must look at it.
 */
export function run(handle: string, name: string, options: Options): Promise<ExitCode> {
  return withApp(options, async ({ app, ctx }) => {
    const { entry } = await findBackup(app, app.stores(options.store), handle, ctx)
    const { manifest } = await manifestFrom(entry, ctx)
    const record = manifest.artifacts.find(artifact => artifact.name === name)
    if (!record) {
      const names = manifest.artifacts.map(artifact => artifact.name).join(', ')
      throw usage(`${entry.id} has no artifact "${name}"`, `it has: ${names}`)
    }
    const { stagesOf } = await app.reading(options.identity)
    const [copy] = entry.copies
    if (!copy) throw usage(`${entry.id} cannot be read`, 'no store has it')
    for await (const chunk of artifactReader(copy.store, stagesOf, ctx).open(record)) await write(chunk)
    return exitCode.ok
  })
}

function write(chunk: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(chunk, error =>
      error ? reject(asFailure(error, 'cannot write to stdout')) : resolve(),
    )
  })
}
