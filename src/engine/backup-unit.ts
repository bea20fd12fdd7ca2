import { randomBytes } from 'node:crypto'
import type { Context } from '../model/context.ts'
import { addSpan } from '../model/duration-words.ts'
import { asFailure, type Failure } from '../model/failure.ts'
import type { Destination, Job } from '../model/job.ts'
import { asidePrefix, dataPrefix, newId } from '../model/key.ts'
import { encodeManifest, type Manifest } from '../model/manifest.ts'
import type { Begin } from '../model/mark.ts'
import type { PutOptions, Store } from '../model/store.ts'
import { clearingContext } from '../platform/run-context.ts'
import { expiryFrom } from './begin.ts'
import type { Begun } from './begun.ts'
import { type Captured, capture } from './capture.ts'
import { lockAncestors } from './chain-locks.ts'
import { copyBackup, putIncomplete, putVersions } from './copy.ts'
import { type Delivery, delivery } from './delivery.ts'
import { announce, type BackupOutcome } from './outcome.ts'
import { keyOf, manifestOf } from './statement.ts'
import { forgetSuperseded, statedBefore } from './superseded.ts'
import { discard } from './sweep.ts'
import type { Task } from './take.ts'

/**
 * Backs up one unit into every store of the job. What fails is told in the outcome; an abort is thrown. `doubtful`: stores
 * that are given up soon where they do not answer.
 */
export async function backupUnit(
  job: Job,
  task: Task,
  startedAt: Date,
  host: string,
  begun: Begun,
  doubtful: ReadonlySet<string>,
  ctx: Context,
): Promise<BackupOutcome> {
  const begin = beginOf(job, task, newId(startedAt, randomBytes(5)), host, startedAt)
  begun.note(begin.id)
  try {
    return await backupAs(begin, job, task, doubtful, ctx)
  } finally {
    begun.forget(begin.id)
  }
}

async function backupAs(
  begin: Begin,
  job: Job,
  task: Task,
  doubtful: ReadonlySet<string>,
  ctx: Context,
): Promise<BackupOutcome> {
  const { unit } = task
  const startedAt = new Date(begin.startedAt)
  const direct = job.to.filter(to => !to.after)
  const to = delivery(direct, dest => putOptions(dest, startedAt), ctx, {
    bare: job.pattern !== undefined,
    doubtful,
  })
  // A store whose manifest may be on its way is never cleaned up: the backup might be whole there.
  let unfinished = direct
  let manifest: Manifest | null = null
  const failures: Failure[] = []
  try {
    const before = await statedBefore(job, ctx)
    const captured = await capture(job, task, begin, to, ctx)
    const stated = manifestOf(job, task, begin, withVersions(job, captured, to), to.unkept, ctx)
    await to.confirm(stated.artifacts.flatMap(artifact => artifact.objects))
    await lockChain(job, stated, startedAt, to, ctx)
    unfinished = direct.filter(dest => to.lost.has(dest.store.name))
    await commit(job, to, stated, ctx)
    manifest = stated
    await forgetSuperseded(before, stated, to, ctx)
    failures.push(...missingFrom(captured, unit.name, ctx))
  } catch (error) {
    failures.push(asFailure(error, `the backup of ${unit.name} failed`))
  }
  for (const { store } of unfinished) {
    // A begin record whose answer was lost is found by the next run; a store that is down is not asked again.
    if (to.reached.has(store.name)) await discardQuietly(store, begin, ctx)
  }
  if (!manifest) {
    ctx.signal.throwIfAborted()
    // Why the only store was dropped has been said already.
    const said = [...to.lost.values()]
    for (const failure of failures) if (!said.includes(failure)) announce(failure, unit.name, ctx)
    return { unit: unit.name, id: begin.id, manifest, stores: [], failures }
  }
  const stores = to.live().map(dest => dest.store.name)
  failures.push(...to.lost.values(), ...to.unkept.values())
  for (const dest of job.to.filter(each => each.after)) {
    const failure = await feedLater(job, dest, manifest, begin, stores, ctx)
    if (failure) failures.push(failure)
  }
  const bytes = manifest.artifacts.reduce((sum, artifact) => sum + artifact.stored.bytes, 0)
  const seconds = (ctx.clock.now().getTime() - startedAt.getTime()) / 1000
  ctx.emit({ type: 'backup', id: begin.id, job: job.name, unit: unit.name, stores, bytes, seconds })
  return { unit: unit.name, id: begin.id, manifest, stores, failures }
}

/** The parts that the source had to leave out. */
function missingFrom({ facts }: Captured, unit: string, ctx: Context): readonly Failure[] {
  const missing = facts.missing ?? []
  for (const failure of missing) announce(failure, unit, ctx)
  return missing
}

function beginOf(job: Job, { unit }: Task, id: string, host: string, startedAt: Date): Begin {
  return {
    cairn: 1,
    id,
    job: job.name,
    host,
    startedAt: startedAt.toISOString(),
    expires: expiryFrom(startedAt),
    prefixes: [job.pattern ? asidePrefix(job.name, id) : dataPrefix(job.name, id)],
    ...(job.pattern ? { unfinished: [job.pattern.key(unit.name, startedAt)] } : {}),
    parent: null,
  }
}

function putOptions(to: Destination, startedAt: Date): PutOptions {
  return {
    ...(to.lock ? { lock: { mode: to.lock.mode, until: addSpan(startedAt, to.lock.for) } } : {}),
    ...(to.tags ? { tags: to.tags } : {}),
    ...(to.expires ? { expires: addSpan(startedAt, to.expires) } : {}),
  }
}

/**
 * The statement: first which versions the objects are, where a store has versions, then the manifest. Where the objects
 * are found by their names too, a store that does not take it has the backup all the same.
 */
async function commit(job: Job, to: Delivery, manifest: Manifest, ctx: Context): Promise<void> {
  const file = encodeManifest(manifest)
  const key = keyOf(manifest, file)
  await putIncomplete(manifest, to, ctx)
  if (job.pattern) {
    await to.offer(key, () => file)
    return
  }
  await putVersions(manifest, to, ctx)
  await to.put(key, () => file)
}

/** Where one key is written again and again, the version is what tells one backup from the next. */
function withVersions(job: Job, captured: Captured, to: Delivery): Captured {
  const [only, second] = job.to
  if (job.pattern?.isUnique !== false || !only || second) return captured
  const versions = to.versions(only.store.name)
  const artifacts = captured.artifacts.map(artifact => ({
    ...artifact,
    objects: artifact.objects.map(part => {
      const version = versions[part.key]
      return version === undefined ? part : { ...part, version }
    }),
  }))
  return { ...captured, artifacts }
}

/** What the backup builds on is locked for as long as the backup itself, in each store that locks. */
async function lockChain(
  job: Job,
  { chain }: Manifest,
  startedAt: Date,
  to: Delivery,
  ctx: Context,
): Promise<void> {
  if (!chain) return
  await to.inEach(async dest => {
    const until = putOptions(dest, startedAt).lock?.until
    if (until) await lockAncestors(chain.parent, [job.name, ...job.formerly], dest.store, until, ctx)
  })
}

async function discardQuietly(store: Store, begin: Begin, ctx: Context): Promise<void> {
  try {
    await discard(store, begin, clearingContext(ctx))
  } catch (error) {
    const { why } = asFailure(error, '')
    const remedy = 'the next backup of this job clears it away, or prune when the begin record has expired'
    ctx.emit({ type: 'warning', what: `cannot clear up in ${store.name}`, why, remedy, store: store.name })
  }
}

/** Feeds a store from another one that has the whole backup. Returns why it failed, or null. */
async function feedLater(
  job: Job,
  to: Destination,
  manifest: Manifest,
  begin: Begin,
  stores: string[],
  ctx: Context,
): Promise<Failure | null> {
  const from = job.to.filter(dest => stores.includes(dest.store.name) && !dest.after).map(dest => dest.store)
  try {
    await copyBackup(manifest, encodeManifest(manifest), from, to, begin, ctx)
    stores.push(to.store.name)
    return null
  } catch (error) {
    ctx.signal.throwIfAborted()
    const failure = asFailure(error, `store ${to.store.name} failed`)
    announce(failure, undefined, ctx, to.store.name)
    return failure
  }
}
