import type { Job } from '../model/job.ts'
import type { Source } from '../model/source.ts'
import type { BackupOutcome } from './outcome.ts'

/** Those that nothing was wrong with: whole, and in every store. */
export function isGood({ manifest, failures }: BackupOutcome): boolean {
  return manifest !== null && failures.length === 0
}

/** The job without the units that these outcomes have: what another attempt is for. */
export function remaining(job: Job, good: readonly BackupOutcome[]): Job {
  if (good.length === 0) return job
  const done = new Set(
    good.flatMap(({ unit, manifest }) =>
      manifest ? [keyOf(manifest.source.engine, manifest.source.identity, unit)] : [],
    ),
  )
  return { ...job, sources: job.sources.map(source => without(done, source)) }
}

function without(done: ReadonlySet<string>, source: Source): Source {
  return {
    ...source,
    async inspect(ctx) {
      const inspection = await source.inspect(ctx)
      const { identity, units } = inspection
      const isDone = (unit: (typeof units)[number]): boolean =>
        done.has(keyOf(source.engine, unit.identity ?? identity, unit.name))
      return { ...inspection, units: units.filter(unit => !isDone(unit)) }
    },
  }
}

function keyOf(engine: string, identity: string, unit: string): string {
  return JSON.stringify([engine, identity, unit])
}
