import type { Part } from './part.ts'

/** How many parts are under way at once; one more is being gathered. */
const lanesInMemory = 4
const lanesInFiles = 2

/** The requests of one upload that are under way. The first that fails aborts `signal` with its error. */
export class Lanes {
  readonly signal: AbortSignal
  readonly #stop = new AbortController()
  readonly #running = new Map<Promise<void>, boolean>()
  readonly #failed: Promise<never>

  constructor(outer: AbortSignal) {
    this.signal = AbortSignal.any([outer, this.#stop.signal])
    const { promise, reject } = Promise.withResolvers<never>()
    this.#failed = promise
    promise.catch(() => {})
    if (this.signal.aborted) reject(this.signal.reason)
    this.signal.addEventListener('abort', () => reject(this.signal.reason), { once: true })
  }

  /** Waits for a free lane, and leaves the work running in it. The part is disposed of, whatever happens. */
  async start(part: Part, work: () => Promise<void>): Promise<void> {
    try {
      while (this.#running.size >= (part.inMemory ? lanesInMemory : lanesInFiles)) await this.one()
    } catch (error) {
      await part[Symbol.asyncDispose]()
      throw error
    }
    const lane: Promise<void> = work()
      .finally(() => part[Symbol.asyncDispose]())
      .catch(error => this.#stop.abort(error))
      .finally(() => this.#running.delete(lane))
    this.#running.set(lane, part.inMemory)
  }

  holdMemory(): boolean {
    return [...this.#running.values()].includes(true)
  }

  /** Until one of them has ended. */
  one(): Promise<void> {
    return this.orFail(Promise.race(this.#running.keys()))
  }

  async all(): Promise<void> {
    await this.orFail(Promise.all(this.#running.keys()))
    this.signal.throwIfAborted()
  }

  /** Aborts those under way, and waits until none is. */
  async cancel(error: unknown): Promise<void> {
    this.#stop.abort(error)
    await Promise.all(this.#running.keys())
  }

  /** The promise's outcome, unless a lane fails or the upload is aborted before. */
  orFail<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#failed])
  }
}
