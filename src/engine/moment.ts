// When a run of a job begins that names its objects by the time, and when it has ended: no two runs may meet under one name.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Context } from '../model/context.ts'
import { usage } from '../model/failure.ts'
import type { Job } from '../model/job.ts'
import { keyFault } from '../model/key.ts'
import type { KeyPattern } from '../model/key-pattern.ts'
import type { Store } from '../model/store.ts'

/**
 * Of two databases with one name for both, the second would replace the first; and one called "../x" would leave the
 * store, which it is too late to notice when others are stored.
 */
export function refuseKeys({ name, pattern }: Job, units: readonly string[], at: Date): void {
  if (!pattern) return
  for (const unit of units) {
    const key = pattern.key(unit, at)
    const fault = keyFault(key)
    if (fault === null) continue
    const what = `job ${name} cannot store a backup of ${unit} under its name`
    throw usage(what, `${key}: ${fault}`, 'leave ${DB} out of the name, in a job of its own')
  }
  for (const [key, same] of Map.groupBy(units, unit => pattern.key(unit, at).toLowerCase())) {
    if (same.length < 2) continue
    throw usage(
      `job ${name} would give one name to several backups`,
      `${same.join(', ')}: ${key}`,
      'put ${DB} into the name, or give each a job of its own',
    )
  }
}

/** By so much clocks are put back at the end of summer time, somewhere. */
const steps = [30, 60, 120].map(minutes => minutes * 60_000)
/** So many seconds in a row are not taken. */
const mostTaken = 60

/**
 * The moment that stands in the names of a run: now. In an hour that the clocks show for the second time, the names may be those of
 * a run in the first: then it waits for the first second whose names are free in every store that can be listed. Where
 * one cannot, the very first second counts as taken: schedules begin at full minutes.
 */
export async function freeMoment(job: Job, units: readonly string[], ctx: Context): Promise<Date> {
  const { pattern } = job
  const now = ctx.clock.now()
  if (!pattern?.isUnique || !steps.some(ms => isSame(pattern, now, new Date(now.getTime() - ms)))) return now
  for (let second = 0; second < mostTaken; second++) {
    const at = second === 0 ? now : new Date((Math.floor(now.getTime() / 1000) + second) * 1000)
    if (await isTaken(job, pattern, units, at, second === 0, ctx)) continue
    if (second > 0) await until(at, job.name, ctx)
    return at
  }
  return now
}

async function until(at: Date, job: string, ctx: Context): Promise<void> {
  const text = 'waits for a free name: the clocks show this hour for the second time'
  ctx.emit({ type: 'notice', text, job })
  const ms = at.getTime() - ctx.clock.now().getTime()
  await sleep(Math.max(0, ms), undefined, { signal: ctx.signal }).catch(() => {})
  ctx.signal.throwIfAborted()
}

function isSame(pattern: KeyPattern, one: Date, other: Date): boolean {
  return pattern.key('', one) === pattern.key('', other)
}

async function isTaken(
  { to }: Job,
  pattern: KeyPattern,
  units: readonly string[],
  at: Date,
  isFirst: boolean,
  ctx: Context,
): Promise<boolean> {
  for (const { store } of to) {
    for (const unit of units) {
      const found = await isThere(store, pattern.key(unit, at), ctx)
      if (found ?? isFirst) return true
    }
  }
  return false
}

/** Whether an object has this name, whatever the stages added; null where nobody may look. */
async function isThere(store: Store, key: string, ctx: Context): Promise<boolean | null> {
  if (!store.can.list) return null
  try {
    for await (const _ of store.list(key, ctx)) return true
    return false
  } catch {
    ctx.signal.throwIfAborted()
    return null
  }
}

/** A run that begins in the same second would find the names taken: this one lasts until that second is over. */
export async function untilOtherNames({ pattern }: Job, at: Date, ctx: Context): Promise<void> {
  const now = ctx.clock.now()
  if (!pattern?.isUnique || !isSame(pattern, now, at)) return
  // A timer counts whole milliseconds from another moment than the clock, and may be early by a part of one.
  await sleep(1001 - (now.getTime() % 1000), undefined, { signal: ctx.signal }).catch(() => {})
}
