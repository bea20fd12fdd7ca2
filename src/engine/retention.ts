import type { Retention } from '../model/job.ts'

/** What retention needs to know of a backup in one store. */
export interface Candidate {
  readonly id: string
  readonly startedAt: Date
  /** Backups are counted within one job, unit and source: two hosts that share a job's name never prune each other. */
  readonly group: string
  readonly held: boolean
  readonly provedAt: Date | null
  readonly lockedUntil: Date | null
  /** The backup this one builds on, if any. */
  readonly parent: string | null
}

export interface Decision {
  readonly id: string
  readonly keep: boolean
  /** The rule that decided, for a person. */
  readonly reason: string
}

/** A backup from further in the future than this was made by a clock that is wrong. */
const clockToleranceMs = 3_600_000

/**
 * What to keep and what to let go, and why, for the backups of one store. Pure: nothing is deleted here.
 *
 * Every backup that any rule keeps stays, and so does everything that a kept one builds on. Without any rule
 * everything stays. However the rules read, the newest backup of each group stays, and the newest proven one.
 * A backup from the future is not counted and not deleted. `begun` are parents that running backups need.
 */
export function decide(
  backups: readonly Candidate[],
  keep: Retention,
  now: Date,
  begun: ReadonlySet<string> = new Set(),
): Decision[] {
  const reasons = new Map<string, string>()
  const note = (id: string, reason: string): void => {
    if (!reasons.has(id)) reasons.set(id, reason)
  }
  const groups = Map.groupBy(backups, backup => backup.group)
  for (const group of groups.values()) {
    for (const { id, reason } of keptInGroup(group, keep, now)) note(id, reason)
  }
  for (const id of begun) note(id, 'a backup that is running builds on it')
  for (const { id, reason } of keptAsParents(backups, reasons)) note(id, reason)
  return backups.map(({ id }) => {
    const reason = reasons.get(id)
    return { id, keep: reason !== undefined, reason: reason ?? 'no rule keeps it' }
  })
}

function* keptInGroup(
  group: readonly Candidate[],
  keep: Retention,
  now: Date,
): Generator<{ id: string; reason: string }, void, undefined> {
  const future = (backup: Candidate): boolean => backup.startedAt.getTime() > now.getTime() + clockToleranceMs
  const counted = group.filter(backup => !future(backup)).sort(newestFirst)
  for (const backup of group) {
    if (backup.held) yield { id: backup.id, reason: 'held' }
    if (future(backup)) yield { id: backup.id, reason: 'it is from the future: check the clocks' }
    if (backup.lockedUntil && backup.lockedUntil > now) {
      yield { id: backup.id, reason: `locked until ${backup.lockedUntil.toISOString()}` }
    }
  }
  const unlimited = keep.last === undefined && keep.withinMs === undefined
  for (const [index, backup] of counted.entries()) {
    const age = now.getTime() - backup.startedAt.getTime()
    if (unlimited) yield { id: backup.id, reason: 'no retention is set' }
    if (keep.last !== undefined && index < keep.last) yield { id: backup.id, reason: `last ${keep.last}` }
    if (keep.withinMs !== undefined && age <= keep.withinMs)
      yield { id: backup.id, reason: 'within the time set' }
    if (index === 0) yield { id: backup.id, reason: 'the newest good backup' }
  }
  const proved = counted.find(backup => backup.provedAt)
  if (proved) yield { id: proved.id, reason: 'the newest proven backup' }
}

function* keptAsParents(
  backups: readonly Candidate[],
  kept: ReadonlyMap<string, string>,
): Generator<{ id: string; reason: string }, void, undefined> {
  const byId = new Map(backups.map(backup => [backup.id, backup]))
  for (const id of [...kept.keys()]) {
    let parent = byId.get(id)?.parent
    while (parent) {
      yield { id: parent, reason: `${id} builds on it` }
      parent = byId.get(parent)?.parent
    }
  }
}

function newestFirst(a: Candidate, b: Candidate): number {
  return b.startedAt.getTime() - a.startedAt.getTime() || (a.id < b.id ? 1 : -1)
}
