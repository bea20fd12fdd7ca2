import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Context } from '../model/context.ts'
import { asFailure, Failure } from '../model/failure.ts'
import type { Job } from '../model/job.ts'
import type { ArtifactRecord } from '../model/manifest.ts'
import type { Begin } from '../model/mark.ts'
import type { Artifact, Inspection, Source, SourceFacts, Unit } from '../model/source.ts'
import { type Bytes, isProgram, type Program, type Stage, type Step } from '../model/step.ts'
import { flow, save } from '../platform/flow.ts'
import { edge } from '../platform/run-context.ts'
import { aboutSpace } from '../platform/space.ts'
import { explained } from '../platform/stall.ts'
import type { Delivery } from './delivery.ts'
import { type Tally, tally } from './pieces.ts'

export const spoolRemedy = 'make room, set CAIRN_SPOOL to a larger disk, or use capture: stream'

/** One unit to back up. */
export interface Task {
  readonly source: Source
  readonly inspection: Inspection
  readonly unit: Unit
  /** Is called once the source was let go, also after a failure; throws when what the guards did cannot be undone. */
  released(): Promise<void>
}

/** An artifact that was captured; calling it gives its record, once the stores have it. */
export type Delivered = () => Promise<ArtifactRecord>

/** What all artifacts of one backup share. */
export interface Taking {
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

/** Encodes an artifact, and gives it to the stores: at once, or with `capture: spool` when what this returns is called. */
export async function takeOne(
  taking: Taking,
  artifact: Artifact,
  ordinal: number,
  ctx: Context,
): Promise<Delivered> {
  const { job, task, to, spooled } = taking
  if (artifact.spooled) spooled.use(artifact.spooled)
  const plain = tally()
  const key = keyFor(taking, artifact, ordinal)
  const steps = [...(artifact.through ?? []), ...job.stages.map(stage => stage.encode())]
  const deliver = async (open: (ctx: Context) => Bytes): Promise<ArtifactRecord> => {
    const replace = job.pattern?.isUnique === false && artifact.role === 'data'
    const { name, sizeHint } = artifact
    const stored = await to.stream({ key, artifact: name, open, sizeHint, replace }, ctx)
    return { ...recordOf(artifact, job.stages, plain), ...stored }
  }
  const read = (inner: Context): Program | Bytes => {
    const from = artifact.open(inner)
    return isProgram(from) ? from : plain.through(from)
  }
  const encoded = (inner: Context): Bytes => flow(read(inner), steps, inner)
  const streamed = blaming(task.source, judged(taking, artifact, encoded), ctx)
  if (artifact.spooled) return () => deliver(streamed)
  if (job.capture === 'stream') {
    const record = await deliver(streamed)
    return async () => record
  }
  const path = await spool(taking, artifact, read, steps, ctx)
  return () => deliver(() => createReadStream(path, { highWaterMark: 1024 * 1024 }))
}

/** Encodes an artifact into the spool; returns where it lies. Nothing of it passes us where programs do all the work. */
async function spool(
  taking: Taking,
  artifact: Artifact,
  read: (ctx: Context) => Program | Bytes,
  steps: readonly Step[],
  ctx: Context,
): Promise<string> {
  const path = join(ctx.spool, randomUUID())
  taking.spooled.defer(() => unlink(path).catch(() => {}))
  try {
    const inner = edge(ctx)
    await save(read(inner), steps, path, inner)
    if (mustBeLast(taking, artifact)) await taking.finish()
    return path
  } catch (error) {
    ctx.signal.throwIfAborted()
    const reason = await explained(error, taking.task.source, ctx)
    const what = `cannot spool ${artifact.name} in ${ctx.spool}`
    throw asFailure(aboutSpace(reason, what, spoolRemedy), what, spoolRemedy)
  }
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
function mustBeLast({ job }: Taking, { role }: Artifact): boolean {
  return Boolean(job.pattern) && role === 'data'
}

function judged(taking: Taking, artifact: Artifact, open: (ctx: Context) => Bytes): (ctx: Context) => Bytes {
  if (!mustBeLast(taking, artifact)) return open
  return async function* (ctx) {
    yield* open(ctx)
    await taking.finish()
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
