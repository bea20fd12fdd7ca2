import type { Context } from '../model/context.ts'
import type { Bytes } from '../model/step.ts'
import { childOf, settlesWithin, Waiter } from './abort.ts'
import { type Reader, Ring } from './ring.ts'
import { edge } from './run-context.ts'
import { beforeStall } from './stall.ts'

/** One of several consumers of a stream: takes all of it, or rejects. */
export interface Sink<T> {
  readonly name: string
  /** `ctx.signal` is aborted when this sink is given up; `ctx.alive` excuses the silence of this sink only. */
  take(bytes: Bytes, ctx: Context): Promise<T>
}

export type SinkOutcome<T> =
  | { readonly name: string; readonly ok: true; readonly value: T }
  | { readonly name: string; readonly ok: false; readonly error: Error }

/** How long a sink that was given up may take to clean up before it is left to itself. */
const graceMs = 5_000
/** The same for the input: its programs have 5 s to end before they are killed. */
const inputGraceMs = 10_000

/**
 * Gives one stream to several sinks of different speed in bounded memory.
 *
 * Chunks are shared, not copied; at most `window` bytes are held (or one chunk that is larger), so the slowest live
 * sink sets the pace. A sink that throws is dropped; one that takes no byte for `ctx.stallMs` while everybody waits
 * for it is aborted and dropped; the others go on. When none is left, the input is aborted. When the input fails,
 * or `ctx.signal` is aborted, every sink's stream throws, and so does this function once the sinks have cleaned up.
 * Resolves with one outcome a sink, in their order.
 */
export async function fanOut<T>(
  open: (ctx: Context) => Bytes,
  sinks: readonly Sink<T>[],
  window: number,
  ctx: Context,
): Promise<SinkOutcome<T>[]> {
  using input = childOf(ctx.signal)
  const none = new Error('no store is left')
  const ring = new Ring(window, ctx.stallMs, () => input.abort(none))
  const work = sinks.map(sink => run(sink, ring, ctx))
  // Also when the input has ended, and sinks that do not heed their own signals are all that is left.
  const abort = (): void => ring.fail(errorFrom(ctx.signal.reason))
  ctx.signal.addEventListener('abort', abort, { once: true })
  try {
    let failure: { readonly error: unknown } | null = null
    try {
      await fill(ring, open({ ...ctx, signal: input.signal }), input.signal)
    } catch (error) {
      if (input.signal.reason !== none) failure = { error }
      ring.fail(errorFrom(error))
    }
    const outcomes = await Promise.all(work)
    if (failure) throw failure.error
    if (outcomes.some(outcome => !outcome.ok)) ctx.signal.throwIfAborted()
    return outcomes
  } finally {
    ctx.signal.removeEventListener('abort', abort)
  }
}

function errorFrom(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}

async function fill(ring: Ring, bytes: Bytes, signal: AbortSignal): Promise<void> {
  const chunks = bytes[Symbol.asyncIterator]()
  using wait = new Waiter(signal)
  try {
    for (;;) {
      const next = await wait.for(chunks.next())
      if (next.done) break
      const room = ring.room(next.value.byteLength)
      if (room) await wait.for(room)
      ring.push(next.value)
    }
  } catch (error) {
    if (chunks.return) await settlesWithin(chunks.return(), inputGraceMs)
    throw error
  }
  ring.finish()
}

/** Never rejects. */
async function run<T>(sink: Sink<T>, ring: Ring, ctx: Context): Promise<SinkOutcome<T>> {
  using abort = childOf(ctx.signal)
  const own = edge({ ...ctx, signal: abort.signal })
  const reader = ring.reader(sink.name, own.lastAlive)
  const taken = take(sink, reader, own)
  // When it is given up, it may clean up, but does not change the outcome any more.
  const giveUp = async (error: Error): Promise<SinkOutcome<T>> => {
    abort.abort(error)
    await settlesWithin(taken, graceMs)
    return { name: sink.name, ok: false, error }
  }
  const settled = Promise.race([taken, reader.givenUp.then(giveUp)])
  // One that closed its stream early is waited for by nobody; it must still come to an end.
  const afterLeaving = reader.leftEarly
    .then(() => beforeStall(settled, own, () => `store ${sink.name}`))
    .catch(giveUp)
  const outcome = await Promise.race([settled, afterLeaving])
  reader.over()
  return outcome
}

async function take<T>(sink: Sink<T>, reader: Reader, ctx: Context): Promise<SinkOutcome<T>> {
  const { name } = sink
  try {
    const value = await sink.take(reader.bytes(), ctx)
    if (reader.sawEnd) return { name, ok: true, value }
    // A sink that claims success without having read to the end has not stored everything.
    return { name, ok: false, error: new Error(`${name} stopped reading`) }
  } catch (error) {
    return { name, ok: false, error: errorFrom(error) }
  }
}
