import type { Context } from '../model/context.ts'
import { asFailure, type Failure } from '../model/failure.ts'
import type { Destination, Job } from '../model/job.ts'
import { beginKey, beginPrefix, markPrefix, parseBeginKey } from '../model/key.ts'
import type { Manifest } from '../model/manifest.ts'
import type { Store } from '../model/store.ts'
import { type Catalog, type CatalogEntry, type Copy, readManifest } from './catalog.ts'
import { putMark } from './marking.ts'
import { type Candidate, type Decision, decide } from './retention.ts'
import { readBegin } from './sweep.ts'

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
}

/**
 * What retention would do to a job's backups in one store. Reads only. A manifest that cannot be read keeps its backup,
 * and everything else of the job that retention would have let go: what is not understood is not deleted.
 */
export async function planPrune(
  job: Pick<Job, 'name' | 'formerly' | 'undeleteMs'>,
  to: Destination,
  catalog: Catalog,
  ctx: Context,
): Promise<PruneStep[]> {
  const names = [job.name, ...job.formerly]
  const copies = catalog.entries
    .filter(entry => names.includes(entry.job))
    .flatMap(entry => entry.copies.filter(copy => copy.store === to.store).map(copy => ({ entry, copy })))
  const read = await Promise.all(
    copies.map(async each => ({ ...each, manifest: await manifestOrNull(each.copy, ctx) })),
  )
  const known = read.flatMap(({ copy, manifest }) => (manifest ? [candidate(copy, manifest)] : []))
  const unreadable = read.some(({ manifest }) => !manifest)
  const now = ctx.clock.now()
  const begun = await begunParents(names, to.store, ctx)
  // What is already on its way out does not count as one of the last n.
  const live = known.filter(backup => !deletedAt(read, backup.id))
  const decisions = new Map(decide(live, to.keep, now, begun).map(decision => [decision.id, decision]))
  return read.map(({ entry, copy, manifest }) => ({
    store: to.store.name,
    entry,
    copy,
    manifest,
    ...actionFor(copy, manifest, decisions.get(entry.id), unreadable, now, job.undeleteMs, live),
  }))
}

function candidate(copy: Copy, manifest: Manifest): Candidate {
  return {
    id: manifest.id,
    startedAt: new Date(manifest.startedAt),
    group: JSON.stringify([manifest.unit, manifest.source.identity]),
    held: copy.marks.held,
    provedAt: copy.marks.provedAt,
    lockedUntil: manifest.lockedUntil ? new Date(manifest.lockedUntil) : null,
    parent: manifest.chain?.parent ?? null,
  }
}

function deletedAt(read: readonly { entry: CatalogEntry; copy: Copy }[], id: string): Date | null {
  return read.find(({ entry }) => entry.id === id)?.copy.marks.deletedAt ?? null
}

function actionFor(
  copy: Copy,
  manifest: Manifest | null,
  decision: Decision | undefined,
  unreadable: boolean,
  now: Date,
  undeleteMs: number,
  live: readonly Candidate[],
): { action: PruneAction; reason: string } {
  if (!manifest) return { action: 'keep', reason: 'its manifest cannot be read' }
  const { deletedAt: announced, held } = copy.marks
  if (announced) {
    if (held) return { action: 'keep', reason: 'held' }
    const due = new Date(announced.getTime() + undeleteMs)
    if (now < due) return { action: 'wait', reason: `can be taken back until ${due.toISOString()}` }
    if (unreadable) return { action: 'wait', reason: 'another manifest of this job cannot be read' }
    const { group } = candidate(copy, manifest)
    if (!live.some(each => each.group === group)) return { action: 'wait', reason: 'it is the last one' }
    const child = live.find(each => each.parent === manifest.id)
    if (child) return { action: 'wait', reason: `${child.id} builds on it` }
    return { action: 'delete', reason: `its deletion was announced at ${announced.toISOString()}` }
  }
  if (decision?.keep !== false) return { action: 'keep', reason: decision?.reason ?? 'not decided' }
  if (unreadable) return { action: 'keep', reason: 'another manifest of this job cannot be read' }
  return { action: 'mark', reason: decision.reason }
}

async function manifestOrNull(copy: Copy, ctx: Context): Promise<Manifest | null> {
  try {
    return (await readManifest(copy, ctx)).manifest
  } catch (error) {
    ctx.signal.throwIfAborted()
    const { what, why, remedy } = asFailure(error, `cannot read a manifest in ${copy.store.name}`)
    ctx.emit({ type: 'warning', what, why, remedy, store: copy.store.name })
    return null
  }
}

/** What backups that are being made right now build on. */
async function begunParents(jobs: readonly string[], store: Store, ctx: Context): Promise<Set<string>> {
  const parents = new Set<string>()
  for (const job of jobs) {
    for await (const { key } of store.list(`${beginPrefix}${job}/`, ctx)) {
      if (!parseBeginKey(key)) continue
      const begin = await readBegin(store, key, ctx)
      if (begin?.parent && new Date(begin.expires) > ctx.clock.now()) parents.add(begin.parent)
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
      if (step.action === 'mark')
        await putMark(step.copy.store, step.entry.id, 'delete', { reason: step.reason }, ctx)
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

/** Removes exactly the objects that the manifest names, then what speaks of them. A locked object ends it, untouched from there on. */
async function remove({ store, manifestKey }: Copy, manifest: Manifest, ctx: Context): Promise<void> {
  await putMark(store, manifest.id, 'deleting', {}, ctx)
  for (const { key } of manifest.artifacts.flatMap(artifact => artifact.objects)) {
    if ((await store.remove(key, undefined, ctx)) === 'locked') throw new Error(`${key} is locked`)
  }
  if ((await store.remove(manifestKey, undefined, ctx)) === 'locked')
    throw new Error(`${manifestKey} is locked`)
  await store.remove(beginKey(manifest.job, manifest.id), undefined, ctx)
  for await (const { key } of store.list(`${markPrefix}${manifest.id}/`, ctx))
    await store.remove(key, undefined, ctx)
}
