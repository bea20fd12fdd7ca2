import { randomBytes } from 'node:crypto'
import type { Context } from '../model/context.ts'
import { addSpan } from '../model/duration-words.ts'
import { asFailure, type ExitCode, exitCode, type Failure, usage, worstExit } from '../model/failure.ts'
import type { Destination, Job } from '../model/job.ts'
import { asidePrefix, dataPrefix, newId } from '../model/key.ts'
import { encodeManifest, type Manifest } from '../model/manifest.ts'
import type { Begin } from '../model/mark.ts'
import type { PutOptions, Store } from '../model/store.ts'
import { cleanupContext } from '../platform/run-context.ts'
import { beforeStall } from '../platform/stall.ts'
import { type Captured, capture, type Task } from './capture.ts'
import { lockAncestors } from './chain-locks.ts'
import { copyBackup, putIncomplete, putVersions } from './copy.ts'
import { type Delivery, delivery } from './delivery.ts'
import { guardScope } from './guards.ts'
import { freeMoment, refuseSameKeys, untilOtherNames } from './moment.ts'
import { keyOf, manifestOf } from './statement.ts'
import { forgetSuperseded, statedBefore } from './superseded.ts'
import { discard, sweepOrphans, sweepRecords } from './sweep.ts'

/** How long a begun backup counts as running when its host is not heard of. */
const beginExpiresMs = 7 * 24 * 3_600_000
const cleanupMs = 30_000

/** What became of one unit. */
export interface BackupOutcome {
  readonly unit: string
  /** Null when it was never begun. */
  readonly id: string | null
  /** Null when no store has a whole copy: then there is no backup. */
  readonly manifest: Manifest | null
  /** The stores that have a whole copy. */
  readonly stores: readonly string[]
  /** Why the backup, or a store's copy of it, failed. */
  readonly failures: readonly Failure[]
}

/** 0 when every unit is whole in every store; the failures' code when nothing is; 3 in between. */
export function exitOf(outcomes: readonly BackupOutcome[]): ExitCode {
  const failures = outcomes.flatMap(outcome => outcome.failures)
  if (failures.length === 0) return exitCode.ok
  if (outcomes.some(outcome => outcome.manifest)) return exitCode.partial
  return worstExit(failures.map(failure => failure.exit))
}

/**
 * Backs up every unit of a job's sources, one after the other; one that fails does not stop the others.
 *
 * The caller holds the job's lock. `host` names this host for good: what an earlier run of ours left in the stores is
 * cleared away first. Throws when no source can be inspected; then nothing was touched.
 */
export async function backup(
  job: Job,
  host: string,
  ctx: Context,
  begun: Begun = forgetful,
): Promise<BackupOutcome[]> {
  // What a run that died had stopped is put right first, whatever becomes of this run.
  for (const guard of job.guards) await guard.recover(ctx)
  for (const { warning } of job.stages) if (warning) ctx.emit({ type: 'warning', ...warning })
  await sweepStores(job, host, begun, ctx)
  const guards = guardScope(job.guards)
  await guards.enter(ctx)
  try {
    const { tasks, outcomes } = await inspectAll(job, ctx)
    const units = tasks.map(({ unit }) => unit.name)
    refuseSameKeys(job, units, ctx.clock.now())
    const at = await freeMoment(job, units, ctx)
    // In names that people read, all of one run have the same time.
    const run = (task: Task): Promise<BackupOutcome> =>
      backupUnit(job, task, job.pattern ? at : ctx.clock.now(), host, begun, ctx)
    const isApart = job.capture === 'spool' && job.guards.length > 0
    const inTurn = isApart ? readThenDeliver : oneByOne
    const { ended, stuck } = await inTurn(tasks, run, () => guards.leave(ctx), ctx)
    outcomes.push(...ended)
    // It has been reported. What was read is none the worse for it.
    const last = outcomes.pop()
    if (last) outcomes.push(stuck ? { ...last, failures: [...last.failures, stuck] } : last)
    await guards.leave(ctx)
    await untilOtherNames(job, at, ctx)
    return outcomes
  } catch (error) {
    await guards.leave(ctx).catch(() => {})
    throw error
  }
}

type Unheld = Omit<Task, 'released'>

/** What became of the units; and why what the guards did could not be undone, or null. */
interface InTurn {
  readonly ended: readonly BackupOutcome[]
  readonly stuck: Failure | null
}

/** Each unit is read and delivered before the next is read. The guards are left when the last one was read. */
async function oneByOne(
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
async function readThenDeliver(
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

/** What there is to back up, of all sources; and those that failed, if others did not. */
async function inspectAll(job: Job, ctx: Context): Promise<{ tasks: Unheld[]; outcomes: BackupOutcome[] }> {
  const tasks: Unheld[] = []
  const failed: { unit: string; failure: Failure }[] = []
  ctx.emit({ type: 'phase', phase: 'inspect', job: job.name })
  for (const [index, source] of job.sources.entries()) {
    const name = job.sources.length === 1 ? 'the source' : `source ${index + 1} (${source.engine})`
    try {
      const inspection = await beforeStall(source.inspect(ctx), ctx, () => `${name} of ${job.name}`)
      tasks.push(...inspection.units.map(unit => ({ source, inspection, unit })))
    } catch (error) {
      ctx.signal.throwIfAborted()
      failed.push({ unit: name, failure: asFailure(error, `${name} of ${job.name} failed`) })
    }
  }
  const [first] = failed
  if (first && failed.length === job.sources.length) throw first.failure
  refuseTwins(job, tasks)
  for (const { unit, failure } of failed) announce(failure, unit, ctx)
  const outcomes = failed.map(({ unit, failure }) => ({
    ...{ unit, id: null, manifest: null, stores: [] },
    failures: [failure],
  }))
  return { tasks, outcomes }
}

/** Two backups of one thing in one run would count as two when old ones are let go. */
function refuseTwins(job: Job, tasks: readonly Unheld[]): void {
  const seen = new Set<string>()
  for (const { source, inspection, unit } of tasks) {
    const key = JSON.stringify([source.engine, unit.identity ?? inspection.identity, unit.name])
    if (seen.has(key))
      throw usage(
        `job ${job.name} backs up ${unit.name} twice`,
        'two of its sources are the same',
        'remove one of them',
      )
    seen.add(key)
  }
}

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

const forgetful: Begun = { note: () => {}, forget: () => {}, ids: () => [] }

/** Clears away what earlier runs of this host left. Leftovers are a cost, not a danger: failing to is a warning. */
async function sweepStores(job: Job, host: string, begun: Begun, ctx: Context): Promise<void> {
  const killed = begun.ids()
  let isClear = true
  for (const { store } of job.to) {
    try {
      for (const name of [job.name, ...job.formerly]) await sweepOrphans(store, name, host, ctx)
      for (const id of killed) await sweepRecords(store, job.name, id, ctx)
    } catch (error) {
      ctx.signal.throwIfAborted()
      isClear = false
      const { why, remedy } = asFailure(error, '')
      const what = `cannot clear what an interrupted backup left in ${store.name}`
      ctx.emit({ type: 'warning', what, why, remedy, store: store.name })
    }
  }
  if (isClear) for (const id of killed) begun.forget(id)
}

async function backupUnit(
  job: Job,
  task: Task,
  startedAt: Date,
  host: string,
  begun: Begun,
  ctx: Context,
): Promise<BackupOutcome> {
  const begin = beginOf(job, task, newId(startedAt, randomBytes(5)), host, startedAt)
  begun.note(begin.id)
  try {
    return await backupAs(begin, job, task, ctx)
  } finally {
    begun.forget(begin.id)
  }
}

async function backupAs(begin: Begin, job: Job, task: Task, ctx: Context): Promise<BackupOutcome> {
  const { unit } = task
  const startedAt = new Date(begin.startedAt)
  const direct = job.to.filter(to => !to.after)
  const to = delivery(direct, dest => putOptions(dest, startedAt), ctx)
  // A store whose manifest may be on its way is never cleaned up: the backup might be whole there.
  let unfinished = direct
  let manifest: Manifest | null = null
  const failures: Failure[] = []
  try {
    const before = await statedBefore(job, ctx)
    const captured = await capture(job, task, begin, to, ctx)
    const stated = manifestOf(job, task, begin, withVersions(job, captured, to), ctx)
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
  failures.push(...to.lost.values())
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
    expires: new Date(startedAt.getTime() + beginExpiresMs).toISOString(),
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
    await discard(store, begin, cleanupContext(ctx, cleanupMs))
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

function announce(failure: Failure, unit: string | undefined, ctx: Context, store?: string): void {
  const { what, why, remedy } = failure
  ctx.emit({ type: 'failure', what, why, remedy, ...(unit ? { unit } : {}), ...(store ? { store } : {}) })
}
