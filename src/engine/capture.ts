import { randomUUID } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { Context } from '../model/context.ts'
import { asFailure, Failure } from '../model/failure.ts'
import type { Job } from '../model/job.ts'
import { beginKey } from '../model/key.ts'
import { type ArtifactRecord, censusName } from '../model/manifest.ts'
import type { Begin } from '../model/mark.ts'
import type { Artifact, Census, Inspection, Session, Source, SourceFacts, Unit } from '../model/source.ts'
import { type Bytes, isProgram, type Stage } from '../model/step.ts'
import { flow } from '../platform/flow.ts'
import { edge } from '../platform/run-context.ts'
import { needSpace } from '../platform/space.ts'
import { beforeStall, explained } from '../platform/stall.ts'
import type { Delivery } from './delivery.ts'
import { type Tally, tally } from './pieces.ts'

const spoolRemedy = 'make room, set CAIRN_SPOOL to a larger disk, or use capture: stream'

/** What a session gave: everything the manifest tells about it. */
export interface Captured {
  readonly artifacts: readonly ArtifactRecord[]
  readonly census: Census | null
  readonly facts: SourceFacts
}

/** One unit to back up. */
export interface Task {
  readonly source: Source
  readonly inspection: Inspection
  readonly unit: Unit
  /** Is called once the source was let go, also after a failure; throws when what the guards did cannot be undone. */
  released(): Promise<void>
}

/** An artifact that was captured; calling it gives its record, once the stores have it. */
type Delivered = () => Promise<ArtifactRecord>

/**
 * Holds the source for as long as it is read, and no longer: with `capture: spool` the encoded artifacts go to local
 * disk first and to the stores after the source was let go; so does an artifact that lies in the spool already. Throws when anything fails; the session is closed and
 * `released` was called in any case.
 */
export async function capture(
  job: Job,
  task: Task,
  begin: Begin,
  to: Delivery,
  ctx: Context,
): Promise<Captured> {
  await using spooled = new AsyncDisposableStack()
  const held = await hold(job, task, begin, to, spooled, ctx).catch(async error => {
    // What cannot be undone has been reported.
    await task.released().catch(() => {})
    throw error
  })
  await task.released()
  ctx.emit({ type: 'phase', phase: 'deliver', job: job.name, unit: task.unit.name })
  const artifacts: ArtifactRecord[] = []
  for (const delivered of held.artifacts) artifacts.push(await delivered())
  return { ...held, artifacts }
}

async function hold(
  job: Job,
  task: Task,
  begin: Begin,
  to: Delivery,
  spooled: AsyncDisposableStack,
  ctx: Context,
): Promise<Omit<Captured, 'artifacts'> & { artifacts: Delivered[] }> {
  const { unit, inspection } = task
  if (job.capture === 'spool')
    await needSpace(ctx.spool, inspection.estimate, 'cannot spool the backup', spoolRemedy)
  ctx.emit({ type: 'phase', phase: 'open', job: job.name, unit: unit.name })
  const source = (): string => `the source of ${job.name}`
  await using session = await beforeStall(task.source.open(unit, null, job.census, ctx), ctx, source)
  const isRecorded = await putBegin(job, begin, to)
  ctx.emit({ type: 'phase', phase: 'capture', job: job.name, unit: unit.name })
  let last: Promise<SourceFacts> | null = null
  const finish = (): Promise<SourceFacts> => {
    last ??= beforeStall(session.finish(), ctx, source)
    return last
  }
  const taking: Taking = { job, task, begin, to, spooled, finish, keys: new Set() }
  const take = (artifact: Artifact, ordinal: number, inner: Context): Promise<Delivered> =>
    takeOne(taking, artifact, ordinal, inner)

  const counting = job.census === 'none' || !isRecorded ? Promise.resolve(null) : session.census()
  // It is awaited below; until then its failure must not count as unhandled.
  counting.catch(() => {})
  const artifacts = await eachArtifact(session, take, ctx)
  const census = await beforeStall(counting, ctx, source)
  if (census && census.level !== 'none')
    artifacts.push(await take(censusArtifact(census), artifacts.length + 1, ctx))
  ctx.emit({ type: 'phase', phase: 'finish', job: job.name, unit: unit.name })
  return { artifacts, census, facts: await finish() }
}

/**
 * Records that the backup has begun. Returns false where a job that names its objects its own way goes to a store that
 * takes nothing else: then nothing else is sent there.
 */
async function putBegin(job: Job, begin: Begin, to: Delivery): Promise<boolean> {
  const record = Buffer.from(`${JSON.stringify(begin)}\n`)
  const key = beginKey(begin.job, begin.id)
  if (job.pattern) return (await to.offer(key, () => record)).length === to.live().length
  await to.put(key, () => record)
  return true
}

/** What all artifacts of one backup share. */
interface Taking {
  readonly job: Job
  readonly task: Task
  readonly begin: Begin
  readonly to: Delivery
  /** What is removed from the spool in the end. */
  readonly spooled: AsyncDisposableStack
  /** The session's last word; it is asked for once. */
  finish(): Promise<SourceFacts>
  /** The keys that were given away. */
  readonly keys: Set<string>
}

/** Takes the artifacts as the session names them, as many at once as it allows; the first failure stops all. */
async function eachArtifact(
  session: Session,
  take: (artifact: Artifact, ordinal: number, ctx: Context) => Promise<Delivered>,
  ctx: Context,
): Promise<Delivered[]> {
  const stop = new AbortController()
  const inner = { ...ctx, signal: AbortSignal.any([ctx.signal, stop.signal]) }
  const taken: Delivered[] = []
  const open = new Set<Promise<void>>()
  let ordinal = 0
  try {
    for await (const artifact of session.artifacts()) {
      const place = ordinal++
      const task = take(artifact, place + 1, inner).then(delivered => {
        taken[place] = delivered
        open.delete(task)
      })
      // It may fail while the session is still asked for the next one: an unhandled failure would end this process.
      task.catch(error => stop.abort(error))
      open.add(task)
      if (open.size >= session.concurrency) await Promise.race(open)
    }
    await Promise.all(open)
    return taken
  } catch (error) {
    stop.abort(error)
    await Promise.allSettled(open)
    throw error
  }
}

async function takeOne(
  taking: Taking,
  artifact: Artifact,
  ordinal: number,
  ctx: Context,
): Promise<Delivered> {
  const { job, task, to, spooled } = taking
  if (artifact.spooled) spooled.use(artifact.spooled)
  const plain = tally()
  const key = keyFor(taking, artifact, ordinal)
  const encoded = blaming(task.source, judged(taking, artifact, encode(artifact, job.stages, plain)), ctx)
  const deliver = async (open: (ctx: Context) => Bytes): Promise<ArtifactRecord> => {
    const replace = job.pattern?.isUnique === false && artifact.role === 'data'
    const stored = await to.stream(key, artifact.name, open, artifact.sizeHint, replace)
    return { ...recordOf(artifact, job.stages, plain), ...stored }
  }
  if (artifact.spooled) return () => deliver(encoded)
  if (job.capture === 'stream') {
    const record = await deliver(encoded)
    return async () => record
  }
  const path = join(ctx.spool, randomUUID())
  spooled.defer(() => unlink(path).catch(() => {}))
  try {
    await pipeline(encoded(edge(ctx)), createWriteStream(path, { mode: 0o600, flags: 'wx' }), {
      signal: ctx.signal,
    })
  } catch (error) {
    ctx.signal.throwIfAborted()
    throw asFailure(error, `cannot spool ${artifact.name}`, spoolRemedy)
  }
  return () => deliver(() => createReadStream(path, { highWaterMark: 1024 * 1024 }))
}

function keyFor({ job, task, begin, keys }: Taking, artifact: Artifact, ordinal: number): string {
  const backup = { ...begin, unit: task.unit.name, startedAt: new Date(begin.startedAt) }
  const { name, role } = artifact
  const key = job.naming(backup, { name, role, ordinal, suffix: suffixOf(job) })
  if (keys.has(key)) {
    const why = `${name} would overwrite another part of the same backup: ${key}`
    throw new Failure({ what: `cannot name the objects of job ${job.name}`, why, remedy: 'leave out "key"' })
  }
  keys.add(key)
  return key
}

function suffixOf(job: Job): string {
  return job.stages.map(stage => stage.suffix).join('')
}

/**
 * Where an object counts as a backup by its name alone, no manifest tells that the source has taken everything back: its
 * last word comes before the end of the stream.
 */
function judged(
  { job, finish }: Taking,
  { role }: Artifact,
  open: (ctx: Context) => Bytes,
): (ctx: Context) => Bytes {
  if (!job.pattern || role !== 'data') return open
  return async function* (ctx) {
    yield* open(ctx)
    await finish()
  }
}

/** The artifact's bytes through the stages. The plain digest is taken only where the bytes pass through us anyway. */
function encode(artifact: Artifact, stages: readonly Stage[], plain: Tally): (ctx: Context) => Bytes {
  const steps = stages.map(stage => stage.encode())
  return ctx => {
    const from = artifact.open(ctx)
    return flow(isProgram(from) ? from : plain.through(from), steps, ctx)
  }
}

/** When the stream stalls, asks the source why before anybody is blamed. */
function blaming(source: Source, open: (ctx: Context) => Bytes, ctx: Context): (ctx: Context) => Bytes {
  return async function* (inner) {
    try {
      yield* open(edge(inner))
    } catch (error) {
      throw await explained(error, source, ctx)
    }
  }
}

function recordOf(
  artifact: Artifact,
  stages: readonly Stage[],
  plain: Tally,
): Omit<ArtifactRecord, 'stored' | 'objects'> {
  const passed = plain.total()
  return {
    name: artifact.name,
    media: artifact.media,
    role: artifact.role,
    stages: stages.map(stage => ({ name: stage.name, ...stage.facts })),
    plain: plain.used ? passed : { bytes: null, sha256: null },
    undo: stages
      .toReversed()
      .map(stage => stage.undo)
      .join(' | '),
  }
}

function censusArtifact(census: Census): Artifact {
  const body = Buffer.from(`${JSON.stringify({ cairn: 1, ...census }, null, 1)}\n`)
  return {
    name: censusName,
    media: 'json',
    role: 'census',
    sizeHint: body.byteLength,
    open: async function* () {
      yield body
    },
  }
}
