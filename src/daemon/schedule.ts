import { nextRun } from '../model/schedule.ts'

/** Of the times that passed unattended, how many are counted one by one. */
const counted = 1000

/** The times of a schedule that have come and gone. */
export interface Passed {
  readonly first: Date
  /** Never more than a thousand. */
  readonly count: number
}

/** Which times of a schedule lie after one moment and not after another; null when none does. */
export function passed(schedule: string, zone: string, after: Date, now: Date): Passed | null {
  const first = nextRun(schedule, zone, after)
  if (first > now) return null
  let count = 0
  for (let at = first; at <= now && count < counted; count++) at = nextRun(schedule, zone, at)
  return { first, count }
}

/** `the run of 2026-11-21T02:00:00Z`, `3 runs, the first of …,`. */
export function describePassed({ first, count }: Passed): string {
  const since = `${first.toISOString().slice(0, 19)}Z`
  if (count === 1) return `the run of ${since}`
  return `${count >= counted ? 'many' : count} runs, the first of ${since},`
}
