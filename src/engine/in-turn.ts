// In which order the units of a job are read and delivered.

import type { Context } from '../model/context.ts'
import { asFailure, type Failure } from '../model/failure.ts'
import type { BackupOutcome } from './outcome.ts'
import type { Task } from './take.ts'
import type { Unheld } from './tasks.ts'

/** What became of the units; and why what the guards did could not be undone, or null. */
interface InTurn {
  readonly ended: readonly BackupOutcome[]
  readonly stuck: Failure | null
}

/** Each unit is read and delivered before the next is read. The guards are left when the last one was read. */
export async function oneByOne(
  tasks: readonly Unheld[],
  run: (task: Task) => Promise<BackupOutcome>,
  leave: () => Promise<void>,
  ctx: Context,
): Promise<InTurn> {
  const ended: BackupOutcome[] = []
  let stuck: Failure | null = null
  for (const [index, task] of tasks.entries()) {
    ctx.signal.throwIfAborted()
    const released = async (): Promise<void> => {
      if (index < tasks.length - 1) return
      await leave().catch(error => {
        stuck = asFailure(error, '')
      })
    }
    ended.push(await run({ ...task, released }))
  }
  return { ended, stuck }
}

/** All units are read, one after another, then the guards are left, then all are delivered, one after another. */
export async function readThenDeliver(
  tasks: readonly Unheld[],
  run: (task: Task) => Promise<BackupOutcome>,
  leave: () => Promise<void>,
  ctx: Context,
): Promise<InTurn> {
  const left = Promise.withResolvers<void>()
  const running: Promise<BackupOutcome>[] = []
  for (const task of tasks) {
    if (ctx.signal.aborted) break
    const read = Promise.withResolvers<void>()
    const previous = running.at(-1)
    const released = async (): Promise<void> => {
      read.resolve()
      await left.promise
      await previous?.catch(() => {})
    }
    const outcome = run({ ...task, released })
    // It is looked at below; until then its failure must not count as unhandled.
    outcome.catch(() => {}).finally(read.resolve)
    running.push(outcome)
    await read.promise
  }
  const stuck = await leave().then(
    () => null,
    error => asFailure(error, ''),
  )
  left.resolve()
  await Promise.allSettled(running)
  ctx.signal.throwIfAborted()
  return { ended: await Promise.all(running), stuck }
}
