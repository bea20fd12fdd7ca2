import type { Retention } from '../model/job.ts'
import { showDuration } from '../model/quantity.ts'
import { periodOf, periods } from './periods.ts'

/** What retention needs to know of a backup in one store. */
export interface Candidate {
  readonly id: string
  readonly startedAt: Date
  /** Backups are counted within one job, unit and source: two hosts that share a job's name never prune each other. */
  readonly group: string
  /** False where a part of the unit is not in it. */
  readonly isComplete: boolean
  readonly held: boolean
  readonly provedAt: Date | null
  readonly lockedUntil: Date | null
  /** The backup this one builds on, if any. */
  readonly parent: string | null
  /** How much is in it: rows where they were counted, else stored bytes. */
  readonly size: { readonly of: 'rows' | 'bytes'; readonly count: number }
}

export interface Decision {
  readonly id: string
  readonly keep: boolean
  /** The rule that decided, for a person. */
  readonly reason: string
}

export interface Circumstances {
  readonly now: Date
  /** The time zone in which days, weeks and years begin: `Europe/Berlin`. */
  readonly zone: string
  /** Backups that running backups build on. */
  readonly begun?: ReadonlySet<string>
}

const day = 86_400_000
/** What is from further in the future than this was made by a clock that is wrong. */
export const clockToleranceMs = 3_600_000
/** A backup that holds less than this part of the one before may have lost something. */
const drop = 0.5
/** How long there is time to notice that. */
const dropMs = 30 * day

/**
 * What to keep and what to let go, and why, for the backups of one store. Pure: nothing is deleted here.
 *
 * Every backup that any rule keeps stays, and so does everything that a kept one builds on. Without any rule
 * everything stays. `last` keeps the newest n; `hourly` to `yearly` the newest backup of each of the newest n periods
 * that have one; `within` what is not older than that when the newest was made. No rule looks at the clock: after a
 * pause, or with a clock that jumped, they let go no more than before. Every rule also holds for the complete backups alone,
 * as if there were no others: incomplete ones never push one out. However they read, the newest backup of each
 * group stays, the newest proven one, and the last one before the size fell suddenly. A backup from the future is
 * neither counted nor deleted.
 */
export function decide(backups: readonly Candidate[], keep: Retention, when: Circumstances): Decision[] {
  const reasons = new Map<string, string>()
  const note = ({ id }: { id: string }, reason: string): void => {
    if (!reasons.has(id)) reasons.set(id, reason)
  }
  for (const group of Map.groupBy(backups, backup => backup.group).values()) {
    for (const { backup, reason } of untouchable(group, when)) note(backup, reason)
    const counted = group.filter(backup => !isFuture(backup, when)).sort(newestFirst)
    for (const { backup, reason } of kept(counted, keep, when.zone)) note(backup, reason)
    const complete = counted.filter(({ isComplete }) => isComplete)
    if (complete.length === counted.length) continue
    for (const { backup, reason } of kept(complete, keep, when.zone))
      note(backup, `${reason}, of the complete ones`)
  }
  for (const id of when.begun ?? []) note({ id }, 'a backup that is running builds on it')
  for (const { backup, reason } of keptAsParents(backups, reasons)) note(backup, reason)
  return backups.map(({ id }) => {
    const reason = reasons.get(id)
    return { id, keep: reason !== undefined, reason: reason ?? 'no rule keeps it' }
  })
}

interface Kept {
  readonly backup: { readonly id: string }
  readonly reason: string
}

function* untouchable(group: readonly Candidate[], when: Circumstances): Generator<Kept> {
  for (const backup of group) {
    if (backup.held) yield { backup, reason: 'held' }
    if (isFuture(backup, when)) yield { backup, reason: 'it is from the future: check the clocks' }
    if (backup.lockedUntil && backup.lockedUntil > when.now)
      yield { backup, reason: `locked until ${backup.lockedUntil.toISOString()}` }
  }
}

function* kept(counted: readonly Candidate[], keep: Retention, zone: string): Generator<Kept> {
  yield* keptByRule(counted, keep, zone)
  yield* keptAnyway(counted)
}

/** What the rules keep of a group, newest first. */
function* keptByRule(counted: readonly Candidate[], keep: Retention, zone: string): Generator<Kept> {
  const { last = 0, withinMs } = keep
  if (Object.values(keep).every(rule => rule === undefined))
    for (const backup of counted) yield { backup, reason: 'no retention is set' }
  for (const backup of counted.slice(0, last)) yield { backup, reason: `last ${last}` }
  const newest = counted[0]?.startedAt.getTime() ?? 0
  for (const backup of counted) {
    if (withinMs !== undefined && newest - backup.startedAt.getTime() <= withinMs)
      yield { backup, reason: `within ${showDuration(withinMs)} of the newest` }
  }
  for (const period of periods) {
    const most = keep[period] ?? 0
    const newestOf = new Map<string, Candidate>()
    for (const backup of counted) {
      const name = periodOf(period, backup.startedAt, zone)
      if (!newestOf.has(name)) newestOf.set(name, backup)
    }
    for (const [name, backup] of [...newestOf].slice(0, most))
      yield { backup, reason: `${period} ${most}: the newest of ${name}` }
  }
}

function* keptAnyway(counted: readonly Candidate[]): Generator<Kept> {
  const [newest] = counted
  if (newest)
    yield { backup: newest, reason: newest.isComplete ? 'the newest good backup' : 'the newest backup' }
  const proved = counted.find(backup => backup.provedAt)
  if (proved) yield { backup: proved, reason: 'the newest proven backup' }
  if (!newest) return
  const before = counted.find(backup => fallFrom(backup, newest))
  if (before && newest.startedAt.getTime() - before.startedAt.getTime() <= dropMs)
    yield { backup: before, reason: `the last one before ${fallFrom(before, newest)}` }
}

/** `the rows fell by 87 %`; null where nothing fell, or where two backups cannot be compared. */
function fallFrom(before: Candidate, after: Candidate): string | null {
  const comparable = before.size.of === after.size.of && before.parent === null && after.parent === null
  if (!comparable || after.size.count >= before.size.count * drop) return null
  const percent = Math.floor((1 - after.size.count / before.size.count) * 100)
  return `the ${after.size.of} fell by ${percent} %`
}

function* keptAsParents(
  backups: readonly Candidate[],
  kept: ReadonlyMap<string, string>,
): Generator<Kept, void, undefined> {
  const byId = new Map(backups.map(backup => [backup.id, backup]))
  for (const id of [...kept.keys()]) {
    let parent = byId.get(id)?.parent
    while (parent) {
      yield { backup: { id: parent }, reason: `${id} builds on it` }
      parent = byId.get(parent)?.parent
    }
  }
}

function isFuture({ startedAt }: Candidate, { now }: Circumstances): boolean {
  return startedAt.getTime() > now.getTime() + clockToleranceMs
}

function newestFirst(a: Candidate, b: Candidate): number {
  return b.startedAt.getTime() - a.startedAt.getTime() || (a.id < b.id ? 1 : -1)
}
