import type { Context } from '../model/context.ts'
import { asFailure, type Failure } from '../model/failure.ts'
import type { Destination, Job } from '../model/job.ts'
import { beginKey, beginPrefix, markPrefix, parseBeginKey } from '../model/key.ts'
import type { Manifest } from '../model/manifest.ts'
import type { Store } from '../model/store.ts'
import { eachOf } from '../platform/each-of.ts'
import { mayRun, timeIn } from './begin.ts'
import type { Catalog, CatalogEntry, Copy } from './catalog.ts'
import { spellingOf } from './foreign.ts'
import { isHeld, putMark, undeletableUntil } from './marking.ts'
import { type Candidate, type Decision, decide } from './retention.ts'
import { readManifest } from './stated.ts'
import { readBegin, removeMarks } from './sweep.ts'

export type PruneAction = 'keep' | 'mark' | 'wait' | 'delete'

/** What prune does with one backup in one store, and why. */
export interface PruneStep {
  readonly store: string
  readonly entry: CatalogEntry
  readonly copy: Copy
  readonly manifest: Manifest | null
  /** `mark`: its deletion is announced; `wait`: it was announced, and can still be taken back; `delete`: that time is over. */
  readonly action: PruneAction
  readonly reason: string
  /** Until when its deletion, announced or about to be, can be taken back. */
  readonly until: Date
}

/** So many manifests are read at once. */
const readAtOnce = 16

/**
 * What retention would do to a job's backups in one store. Reads only. A manifest that cannot be read keeps its backup,
 * and everything else of the job that retention would have let go: what is not understood is not deleted.
 */
export async function planPrune(
  job: Pick<Job, 'name' | 'formerly' | 'zone' | 'undeleteMs' | 'pattern' | 'units'>,
  to: Destination,
  catalog: Catalog,
  ctx: Context,
): Promise<PruneStep[]> {
  const names = [job.name, ...job.formerly]
  const copies = catalog.entries
    .filter(entry => names.includes(entry.job))
    .flatMap(entry => entry.copies.filter(copy => copy.store === to.store).map(copy => ({ entry, copy })))
  const answers = await eachOf(copies, readAtOnce, async each => {
    const manifest = await manifestOrNull(each.copy, ctx)
    if (manifest === 'gone') return []
    return [
      { ...each, manifest, until: await undeletableUntil(each.copy, each.entry.id, job.undeleteMs, ctx) },
    ]
  })
  const read = answers.flat()
  const groupOf = grouping(job)
  const known = read.flatMap(({ copy, manifest }) => (manifest ? [candidate(copy, manifest, groupOf)] : []))
  const unreadable = read.some(({ manifest }) => !manifest)
  const now = await timeIn(to.store, ctx)
  const begun = await begunParents(names, to.store, ctx)
  // What is already on its way out does not count as one of the last n.
  const leaving = new Set(read.filter(({ copy }) => copy.marks.deletedAt).map(({ entry }) => entry.id))
  const live = known.filter(({ id }) => !leaving.has(id))
  const decided = decide(live, to.keep, { now, zone: job.zone, begun })
  const decisions = new Map(decided.map(decision => [decision.id, decision]))
  // By the clock that is ahead: by that of a store that is behind, the time could be over as soon as it is put right.
  const undeletable = new Date(ctx.clock.now().getTime() + job.undeleteMs)
  const isOwn = ownership(job)
  return read.map(({ entry, copy, manifest, until }) => ({
    store: to.store.name,
    ...{ entry, copy, manifest },
    until: until ?? undeletable,
    ...(manifest && !isOwn(manifest)
      ? { action: 'keep' as const, reason: `the job does not back up ${manifest.unit}` }
      : actionFor(copy, manifest, decisions.get(entry.id), unreadable, until, now, live, job, groupOf)),
  }))
}

/**
 * Whether a backup is of a unit that the job names. Other tools, and other jobs of the same name on other hosts, may well
 * have theirs in the same folder under names of the same pattern.
 */
function ownership({ pattern, units }: Pick<Job, 'pattern' | 'units'>): (manifest: Manifest) => boolean {
  if (!pattern || !units) return () => true
  // In a name, a unit may be spelled in another way.
  const spelled = units.map(unit => spellingOf(unit, pattern))
  return ({ unit }) => units.includes(unit) || spelled.includes(unit)
}

type Grouping = (manifest: Manifest) => string

/** Where names alone make a backup, nobody knows which server it is of; whoever writes under such a name means the same. */
function grouping({ pattern }: Pick<Job, 'pattern'>): Grouping {
  return ({ unit, source }) => JSON.stringify(pattern ? [unit] : [unit, source.identity])
}

function candidate(copy: Copy, manifest: Manifest, groupOf: Grouping): Candidate {
  return {
    id: manifest.id,
    startedAt: new Date(manifest.startedAt),
    group: groupOf(manifest),
    isComplete: !manifest.missing,
    held: copy.marks.held,
    provedAt: copy.marks.provedAt,
    lockedUntil: manifest.lockedUntil ? new Date(manifest.lockedUntil) : null,
    parent: manifest.chain?.parent ?? null,
    size: sizeOf(manifest),
  }
}

function sizeOf({ census, artifacts }: Manifest): Candidate['size'] {
  if (census?.rows != null) return { of: 'rows', count: census.rows }
  return { of: 'bytes', count: artifacts.reduce((sum, artifact) => sum + artifact.stored.bytes, 0) }
}

function actionFor(
  copy: Copy,
  manifest: Manifest | null,
  decision: Decision | undefined,
  unreadable: boolean,
  until: Date | null,
  now: Date,
  live: readonly Candidate[],
  { undeleteMs }: Pick<Job, 'undeleteMs'>,
  groupOf: Grouping,
): { action: PruneAction; reason: string } {
  if (!manifest) return { action: 'keep', reason: 'its manifest cannot be read' }
  const { deletedAt: announced, held } = copy.marks
  if (announced) {
    if (held) return { action: 'keep', reason: 'held' }
    if (until && now < until)
      return { action: 'wait', reason: `can be taken back until ${until.toISOString()}` }
    if (unreadable) return { action: 'wait', reason: 'another manifest of this job cannot be read' }
    const others = live.filter(each => each.group === groupOf(manifest))
    if (others.length === 0) return { action: 'wait', reason: 'it is the last one' }
    if (!manifest.missing && !others.some(({ isComplete }) => isComplete))
      return { action: 'wait', reason: 'it is the last complete one' }
    const child = live.find(each => each.parent === manifest.id)
    if (child) return { action: 'wait', reason: `${child.id} builds on it` }
    return { action: 'delete', reason: `its deletion was announced at ${announced.toISOString()}` }
  }
  if (decision?.keep !== false) return { action: 'keep', reason: decision?.reason ?? 'not decided' }
  if (unreadable) return { action: 'keep', reason: 'another manifest of this job cannot be read' }
  return { action: undeleteMs === 0 ? 'delete' : 'mark', reason: decision.reason }
}

/** Null when it cannot be read; `gone` when another host's prune has removed it since it was listed. */
async function manifestOrNull(copy: Copy, ctx: Context): Promise<Manifest | 'gone' | null> {
  try {
    return (await readManifest(copy, ctx)).manifest
  } catch (error) {
    ctx.signal.throwIfAborted()
    if (!(await isThere(copy, ctx))) return 'gone'
    const { what, why, remedy } = asFailure(error, `cannot read a manifest in ${copy.store.name}`)
    ctx.emit({ type: 'warning', what, why, remedy, store: copy.store.name })
    return null
  }
}

async function isThere({ store, manifestKey }: Copy, ctx: Context): Promise<boolean> {
  for await (const { key } of store.list(manifestKey, ctx)) if (key === manifestKey) return true
  return false
}

/** What backups that are being made right now build on. */
async function begunParents(jobs: readonly string[], store: Store, ctx: Context): Promise<Set<string>> {
  const parents = new Set<string>()
  for (const job of jobs) {
    for await (const { key } of store.list(`${beginPrefix}${job}/`, ctx)) {
      if (!parseBeginKey(key)) continue
      const begin = await readBegin(store, key, ctx)
      if (begin?.parent && (await mayRun(store, begin, ctx))) parents.add(begin.parent)
    }
  }
  return parents
}

/**
 * Carries a plan out. Deletion is announced first and happens a later time, when nobody took it back; then the data
 * goes, after it the manifest, then the marks: killed in between, a backup is still marked as deleted, never listed as
 * whole. Returns what could not be done.
 */
export async function applyPrune(steps: readonly PruneStep[], ctx: Context): Promise<Failure[]> {
  const failures: Failure[] = []
  for (const step of steps) {
    ctx.signal.throwIfAborted()
    try {
      if (step.action === 'mark') await announce(step, ctx)
      if (step.action === 'delete' && step.manifest) await remove(step.copy, step.manifest, ctx)
    } catch (error) {
      ctx.signal.throwIfAborted()
      const failure = asFailure(error, `cannot prune ${step.entry.id} in store ${step.store}`)
      ctx.emit({
        type: 'failure',
        what: failure.what,
        why: failure.why,
        remedy: failure.remedy,
        store: step.store,
      })
      failures.push(failure)
    }
  }
  return failures
}

function announce({ copy, entry, reason, until }: PruneStep, ctx: Context): Promise<void> {
  return putMark(copy.store, entry.id, 'delete', { reason, until: until.toISOString() }, ctx)
}

/** Removes exactly the objects that the manifest names, then what speaks of them. A locked object ends it for this time, untouched from there on. */
async function remove({ store, manifestKey }: Copy, manifest: Manifest, ctx: Context): Promise<void> {
  // A person may have held it while others were removed.
  if (await isHeld(store, manifest.id, ctx)) return
  await putMark(store, manifest.id, 'deleting', {}, ctx)
  for (const { key, version } of manifest.artifacts.flatMap(artifact => artifact.objects)) {
    if ((await store.remove(key, version, ctx)) === 'locked') return sayLocked(store, manifest.id, key, ctx)
  }
  if (manifestKey !== '' && (await store.remove(manifestKey, undefined, ctx)) === 'locked')
    return sayLocked(store, manifest.id, manifestKey, ctx)
  await store.remove(beginKey(manifest.job, manifest.id), undefined, ctx)
  const marks = await Array.fromAsync(store.list(`${markPrefix}${manifest.id}/`, ctx), ({ key }) => key)
  await removeMarks(store, marks, ctx)
}

/** A lock that the manifest does not tell of: the bucket's own, or one that somebody set. It ends some day. */
function sayLocked(store: Store, id: string, key: string, ctx: Context): void {
  ctx.emit({
    type: 'warning',
    what: `${id} stays in ${store.name}`,
    why: `the store has locked ${key}`,
    remedy: 'nothing is to be done: prune tries again every time',
    store: store.name,
  })
}
