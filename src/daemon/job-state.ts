import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as z from 'zod'
import { replaceFile } from '../platform/atomic-file.ts'
import { makePathSync } from '../platform/make-path.ts'
import type { State } from '../platform/state.ts'

/** What the scheduler knows of a job across restarts. */
const JobState = z.object({
  /** When the job was first seen: a store that never got anything is measured from there. */
  since: z.iso.datetime(),
  /** The schedule that `planned` belongs to; another one has missed nothing yet. */
  schedule: z.string().nullable(),
  /** The last time of the schedule that was taken care of: begun, or passed over with a word. */
  planned: z.iso.datetime().nullable(),
  /** Places for which the alarm was raised (stores, or units in stores), and whether everybody was told. */
  alarms: z.record(z.string(), z.object({ raised: z.iso.datetime(), told: z.boolean() })),
})
export type JobState = z.infer<typeof JobState>

function fileOf(state: State, job: string): string {
  return join(state.path, 'jobs', `${job}.json`)
}

/** What could not be written; this process still knows it. */
const unwritten = new Map<string, JobState>()

/** Null when the job was never seen, or what was written of it makes no sense. */
export function readJobState(state: State, job: string): JobState | null {
  const file = fileOf(state, job)
  const known = unwritten.get(file)
  if (known) return known
  try {
    return JobState.parse(JSON.parse(readFileSync(file, 'utf8')))
  } catch {
    return null
  }
}

/** When a job was first seen; null when it never was, or by a clock that was ahead: of that nothing is believed. */
export function firstSeen(state: State, job: string, now: Date): Date | null {
  const known = readJobState(state, job)
  const since = known && new Date(known.since)
  return since && since <= now ? since : null
}

/** Durable on return. What is not said stays as it was, and at the beginning is empty. Throws when it cannot be written: only this process knows it then. */
export function updateJobState(state: State, job: string, change: Partial<JobState>, now: Date): void {
  const empty = { since: now.toISOString(), schedule: null, planned: null, alarms: {} }
  const after = { ...(readJobState(state, job) ?? empty), ...change }
  const file = fileOf(state, job)
  unwritten.set(file, after)
  makePathSync(join(state.path, 'jobs'))
  replaceFile(file, `${JSON.stringify(after)}\n`)
  unwritten.delete(file)
}
