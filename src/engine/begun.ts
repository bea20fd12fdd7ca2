import type { Context } from '../model/context.ts'
import type { RunEvent } from '../model/event.ts'
import { asFailure } from '../model/failure.ts'
import type { Job } from '../model/job.ts'
import { Forbidden } from '../model/store.ts'
import { sweepOrphans, sweepRecords } from './sweep.ts'

/**
 * Which backups of a job this host has begun and not ended, kept where a crash does not reach it. A begin record tells
 * the same, but not of a process that was killed while it wrote that very record.
 */
export interface Begun {
  /** Durable on return. */
  note(id: string): void
  forget(id: string): void
  ids(): string[]
}

export const forgetful: Begun = { note: () => {}, forget: () => {}, ids: () => [] }

/**
 * Clears away what earlier runs of this host left. Leftovers are a cost, not a danger: returns the stores where it failed, and
 * what to say of it. Where we may not, it is for those who prune.
 */
export async function sweepStores(
  job: Job,
  host: string,
  begun: Begun,
  ctx: Context,
): Promise<ReadonlyMap<string, RunEvent>> {
  const killed = begun.ids()
  const failed = new Map<string, RunEvent>()
  for (const { store } of job.to) {
    try {
      for (const name of [job.name, ...job.formerly]) await sweepOrphans(store, name, host, ctx)
      for (const id of killed) await sweepRecords(store, job.name, id, ctx)
    } catch (error) {
      ctx.signal.throwIfAborted()
      if (error instanceof Forbidden) continue
      const { why, remedy } = asFailure(error, '')
      const what = `cannot clear what an interrupted backup left in ${store.name}`
      failed.set(store.name, { type: 'warning', what, why, remedy, store: store.name })
    }
  }
  if (failed.size === 0) for (const id of killed) begun.forget(id)
  return failed
}
