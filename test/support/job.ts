import type { BackupOutcome } from '../../src/engine/outcome.ts'
import type { StagesOf } from '../../src/engine/reader.ts'
import type { Destination, Job } from '../../src/model/job.ts'
import { nativeNaming } from '../../src/model/key.ts'
import type { Manifest } from '../../src/model/manifest.ts'
import type { Source } from '../../src/model/source.ts'
import type { Store } from '../../src/model/store.ts'
import { syntheticStage } from './synthetic-stage.ts'

/** A job over a source and stores, with one synthetic stage, for tests of the engine. */
export function testJob(source: Source, stores: readonly Store[], changes: Partial<Job> = {}): Job {
  return {
    name: 'shop',
    formerly: [],
    sources: [source],
    stages: [syntheticStage(7)],
    to: stores.map((store): Destination => ({ store, keep: {} })),
    naming: nativeNaming,
    guards: [],
    capture: 'stream',
    census: 'counts',
    zone: 'UTC',
    undeleteMs: 1000,
    ...changes,
  }
}

/** The stages to read with a key; the job above writes with key 7. */
export function readingWith(key: number): StagesOf {
  return record => record.stages.map(() => syntheticStage(key))
}

/** The manifest of a run with one unit that must have gone well. */
export function wholeBackup(outcomes: readonly BackupOutcome[]): Manifest {
  const [outcome] = outcomes
  if (!outcome?.manifest) throw outcome?.failures[0] ?? new Error('there is no backup')
  return outcome.manifest
}

/** All keys of a store, in order. */
export async function keysOf(
  store: Store,
  ctx: Parameters<Store['list']>[1],
  prefix = '',
): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list(prefix, ctx)) keys.push(key)
  return keys.sort()
}
