import type { Context } from '../model/context.ts'
import type { Bytes } from '../model/step.ts'
import { stall } from './stall.ts'

/** One of several consumers of a stream: takes all of it, or rejects. */
export interface Sink<T> {
  readonly name: string
  /** `ctx.signal` is aborted when this sink is given up. */
  take(bytes: Bytes, ctx: Context): Promise<T>
}

export type SinkOutcome<T> =
  | { readonly name: string; readonly ok: true; readonly value: T }
  | { readonly name: string; readonly ok: false; readonly error: Error }

/** How long a sink that was given up may take to clean up before it is left to itself. */
const graceMs = 5_000

/**
 * Gives one stream to several sinks of different speed in bounded memory.
 *
 * Chunks are shared, not copied; at most `window` bytes are held, so the slowest live sink sets the pace. A sink
 * that throws is dropped; one that takes no byte for `ctx.stallMs` while everybody waits for it is aborted and
 * dropped; the others go on. When none is left, the input is aborted. When the input fails, every sink's stream
 * throws, and so does this function once the sinks have cleaned up. Resolves with one outcome a sink, in their order.
 */
export async function fanOut<T>(
  open: (ctx: Context) => Bytes,
  sinks: readonly Sink<T>[],
  window: number,
  ctx: Context,
): Promise<SinkOutcome<T>[]> {
  const abandon = new AbortController()
  const inputContext = { ...ctx, signal: AbortSignal.any([ctx.signal, abandon.signal]) }
  const ring = new Ring(window, ctx)
  const readers = sinks.map(sink => ring.reader(sink.name))
  const work = sinks.map((sink, index) => run(sink, readers[index] as Reader, ctx))
  for (const reader of readers) {
    void reader.gone.promise.then(() => {
      if (readers.every(each => each.left)) abandon.abort(new Error('no store is left'))
    })
  }
  let failure: { error: unknown } | null = null
  try {
    for await (const chunk of open(inputContext)) await ring.push(chunk)
    ring.finish()
  } catch (error) {
    if (!abandon.signal.aborted || ctx.signal.aborted) failure = { error }
    ring.fail(error instanceof Error ? error : new Error(String(error)))
  }
  const outcomes = await Promise.all(work)
  if (failure) throw failure.error
  return outcomes
}

async function run<T>(sink: Sink<T>, reader: Reader, ctx: Context): Promise<SinkOutcome<T>> {
  const signal = AbortSignal.any([ctx.signal, reader.abort.signal])
  const taken = sink.take(reader.bytes(), { ...ctx, signal }).then(
    value => {
      // A sink that claims success without having read to the end has not stored everything.
      if (reader.sawEnd) return { name: sink.name, ok: true as const, value }
      return { name: sink.name, ok: false as const, error: new Error(`${sink.name} stopped reading`) }
    },
    (error: unknown) => ({
      name: sink.name,
      ok: false as const,
      error: error instanceof Error ? error : new Error(String(error)),
    }),
  )
  const givenUp = reader.gone.promise.then(async error => {
    if (error === null) return taken
    await Promise.race([taken, new Promise(resolve => setTimeout(resolve, graceMs).unref())])
    return { name: sink.name, ok: false as const, error }
  })
  const outcome = await Promise.race([taken, givenUp])
  reader.leave(null)
  return outcome
}

/** The last chunks of the stream, each kept until the slowest reader has it. */
class Ring {
  readonly #window: number
  readonly #ctx: Context
  #chunks: Uint8Array[] = []
  /** Index of the first chunk still held. */
  #base = 0
  #held = 0
  #end: { error: Error | null } | null = null
  #readers: Reader[] = []
  #space = Promise.withResolvers<void>()

  constructor(window: number, ctx: Context) {
    this.#window = window
    this.#ctx = ctx
  }

  reader(name: string): Reader {
    const reader = new Reader(this, name, this.#ctx)
    this.#readers.push(reader)
    return reader
  }

  /** Adds a chunk; resolves when there is room for another. */
  async push(chunk: Uint8Array): Promise<void> {
    this.#chunks.push(chunk)
    this.#held += chunk.byteLength
    this.#wakeReaders()
    this.trim()
    while (this.#held >= this.#window) {
      this.#space = Promise.withResolvers()
      const slowest = this.#slowest()
      const timer = setTimeout(() => {
        const reader = slowest()
        if (reader) reader.giveUp(stall(`store ${reader.name}`, this.#ctx.stallMs))
      }, this.#ctx.stallMs)
      await this.#space.promise
      clearTimeout(timer)
    }
  }

  finish(): void {
    this.#end = { error: null }
    this.#wakeReaders()
  }

  fail(error: Error): void {
    this.#end = { error }
    this.#wakeReaders()
    for (const reader of this.#readers) if (!reader.left) reader.giveUp(error)
  }

  at(position: number): Uint8Array | undefined {
    return this.#chunks[position - this.#base]
  }

  get end(): { error: Error | null } | null {
    return this.#end
  }

  /** Forgets the chunks that every live reader has taken. */
  trim(): void {
    const live = this.#readers.filter(reader => !reader.left)
    const needed =
      live.length > 0 ? Math.min(...live.map(reader => reader.position)) : Number.POSITIVE_INFINITY
    let drop = 0
    while (drop < this.#chunks.length && this.#base + drop < needed) {
      this.#held -= this.#chunks[drop]?.byteLength ?? 0
      drop++
    }
    if (drop > 0) {
      this.#chunks.splice(0, drop)
      this.#base += drop
    }
    if (this.#held < this.#window) this.#space.resolve()
  }

  /** Finds the reader that holds the ring up, provided it is the same one at the same place later. */
  #slowest(): () => Reader | undefined {
    const at = (): Reader | undefined =>
      this.#readers.filter(reader => !reader.left).sort((a, b) => a.position - b.position)[0]
    const before = at()
    const position = before?.position
    return () => (at() === before && before?.position === position ? before : undefined)
  }

  #wakeReaders(): void {
    for (const reader of this.#readers) reader.wake()
  }
}

/** One sink's place in the ring. */
class Reader {
  readonly name: string
  readonly abort = new AbortController()
  /** Resolves when the reader has left: with the reason when it was given up. */
  readonly gone = Promise.withResolvers<Error | null>()
  position = 0
  left = false
  sawEnd = false
  readonly #ring: Ring
  readonly #ctx: Context
  #more = Promise.withResolvers<void>()
  #watch: NodeJS.Timeout | undefined

  constructor(ring: Ring, name: string, ctx: Context) {
    this.#ring = ring
    this.name = name
    this.#ctx = ctx
  }

  wake(): void {
    this.#more.resolve()
  }

  async *bytes(): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      if (this.abort.signal.aborted) throw this.abort.signal.reason
      const chunk = this.#ring.at(this.position)
      if (chunk) {
        yield chunk
        this.position++
        this.#ring.trim()
      } else if (this.#ring.end) {
        if (this.#ring.end.error) throw this.#ring.end.error
        this.sawEnd = true
        this.#watchTheEnd()
        return
      } else {
        this.#more = Promise.withResolvers()
        await this.#more.promise
      }
    }
  }

  giveUp(error: Error): void {
    this.abort.abort(error)
    this.wake()
    this.leave(error)
  }

  leave(error: Error | null): void {
    clearTimeout(this.#watch)
    if (this.left) return
    this.left = true
    this.gone.resolve(error)
    this.#ring.trim()
  }

  /** What a store does after the last byte (fsync, completing an upload) may be slow, but not silent for ever. */
  #watchTheEnd(): void {
    const since = performance.now()
    const look = (): void => {
      const quiet = performance.now() - Math.max(since, this.#ctx.lastAlive())
      if (quiet >= this.#ctx.stallMs) this.giveUp(stall(`store ${this.name}`, this.#ctx.stallMs))
      else this.#watch = setTimeout(look, this.#ctx.stallMs - quiet)
    }
    this.#watch = setTimeout(look, this.#ctx.stallMs)
  }
}
