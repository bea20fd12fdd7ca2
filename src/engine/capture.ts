import type { Context } from '../model/context.ts'
import type { Job } from '../model/job.ts'
import { beginKey } from '../model/key.ts'
import { type ArtifactRecord, censusName } from '../model/manifest.ts'
import type { Begin } from '../model/mark.ts'
import type { Artifact, Census, Session, SourceFacts } from '../model/source.ts'
import type { Store } from '../model/store.ts'
import { childOf, Waiter } from '../platform/abort.ts'
import { needSpace } from '../platform/space.ts'
import { beforeStall } from '../platform/stall.ts'
import { sayRunning } from './begin.ts'
import type { Delivery } from './delivery.ts'
import { type Delivered, spoolRemedy, type Taking, type Task, takeOne } from './take.ts'

/** What a session gave: everything the manifest tells about it. */
export interface Captured {
  readonly artifacts: readonly ArtifactRecord[]
  readonly census: Census | null
  readonly facts: SourceFacts
}

/** It is known before the last of the artifacts is, which are counted from 1. */
const censusOrdinal = 0

interface Counted {
  readonly census: Census | null
  /** The artifact with its details, or none. */
  readonly delivered: readonly Delivered[]
}

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
  await using atEnd = new AsyncDisposableStack()
  const held = await hold(job, task, begin, to, spooled, atEnd, ctx).catch(async error => {
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
  atEnd: AsyncDisposableStack,
  ctx: Context,
): Promise<Omit<Captured, 'artifacts'> & { artifacts: Delivered[] }> {
  const { unit, inspection } = task
  if (job.capture === 'spool')
    await needSpace(ctx.spool, inspection.estimate, 'cannot spool the backup', spoolRemedy)
  ctx.emit({ type: 'phase', phase: 'open', job: job.name, unit: unit.name })
  const source = (): string => `the source of ${job.name}`
  await using session = await beforeStall(task.source.open(unit, null, job.census, ctx), ctx, source)
  const recorded = await putBegin(job, begin, to)
  const isRecorded = recorded.length === to.live().length
  const known = (): Store[] =>
    to.live().flatMap(dest => (recorded.includes(dest.store.name) ? dest.store : []))
  atEnd.use(sayRunning(begin.id, known, ctx))
  ctx.emit({ type: 'phase', phase: 'capture', job: job.name, unit: unit.name })
  let last: Promise<SourceFacts> | null = null
  const finish = (): Promise<SourceFacts> => {
    last ??= beforeStall(session.finish(), ctx, source)
    return last
  }
  const taking: Taking = { job, task, begin, to, spooled, finish, keys: new Set() }
  const take = (artifact: Artifact, ordinal: number, inner: Context): Promise<Delivered> =>
    takeOne(taking, artifact, ordinal, inner)

  const wantsCensus = job.census !== 'none' && isRecorded
  const counting = wantsCensus ? session.census() : Promise.resolve(null)
  const takeCensus = async (inner: Context): Promise<Counted> => {
    // A source that counts while it is read may never come to an end when nobody reads it any more.
    using wait = new Waiter(inner.signal)
    const census = await beforeStall(wait.for(counting), inner, source)
    if (!census || census.level === 'none') return { census, delivered: [] }
    return { census, delivered: [await take(censusArtifact(census), censusOrdinal, inner)] }
  }
  using stop = childOf(ctx.signal)
  const counted = takeCensus({ ...ctx, signal: stop.signal })
  // Why it failed is asked for last: where the data fails, the census often does too, and knows less.
  counted.catch(() => {})
  try {
    const artifacts = await eachArtifact(session, take, ctx)
    const { census, delivered } = await counted
    ctx.emit({ type: 'phase', phase: 'finish', job: job.name, unit: unit.name })
    return { artifacts: [...artifacts, ...delivered], census, facts: await finish() }
  } catch (error) {
    stop.abort(error)
    await counted.catch(() => {})
    throw error
  }
}

/**
 * Records that the backup has begun. Returns the stores that took it: where a job that names its objects its own way goes to a
 * store that takes nothing else, nothing else is sent there.
 */
async function putBegin(job: Job, begin: Begin, to: Delivery): Promise<readonly string[]> {
  const record = Buffer.from(`${JSON.stringify(begin)}\n`)
  const key = beginKey(begin.job, begin.id)
  if (job.pattern) return await to.offer(key, () => record)
  await to.put(key, () => record)
  return to.live().map(({ store }) => store.name)
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
