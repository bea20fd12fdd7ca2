import { lookAfter, stall } from './stall.ts'

/** The last chunks of a stream, each held until the slowest of its readers has it. */
export class Ring {
  readonly #window: number
  readonly #stallMs: number
  readonly #onEmpty: () => void
  readonly #readers: Reader[] = []
  #chunks: Uint8Array[] = []
  /** Index of the first chunk still held. */
  #base = 0
  #held = 0
  #wanted = 0
  #end: { readonly error: Error | null } | null = null
  #room: PromiseWithResolvers<void> | null = null
  /** Runs only while the readers are waited for: the ring is full, or everything is in it. */
  #watch: NodeJS.Timeout | undefined

  /** `onEmpty` is called when the last reader leaves before the end is known. */
  constructor(window: number, stallMs: number, onEmpty: () => void) {
    this.#window = window
    this.#stallMs = stallMs
    this.#onEmpty = onEmpty
  }

  /** A place for one more. All come before the first chunk. */
  reader(name: string, lastAlive: () => number): Reader {
    const reader = new Reader(this, name, lastAlive)
    this.#readers.push(reader)
    return reader
  }

  /** A promise, when the ring is full, that resolves when there is room for a chunk of this size. */
  room(bytes: number): Promise<void> | null {
    this.#wanted = bytes
    if (this.#hasRoom()) return null
    this.#room = Promise.withResolvers()
    this.#watchReaders()
    return this.#room.promise
  }

  /** Adds a chunk, for which there is room. */
  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk)
    this.#held += chunk.byteLength
    this.trim()
    for (const reader of this.#readers) reader.wake()
  }

  /** No chunk will come any more. */
  finish(): void {
    this.#end = { error: null }
    for (const reader of this.#readers) reader.wake()
    this.#watchReaders()
  }

  /** The stream has failed: every reader whose work is not over is given up. */
  fail(error: Error): void {
    this.#end = { error }
    for (const reader of this.#readers) reader.giveUp(error)
  }

  at(position: number): Uint8Array | undefined {
    return this.#chunks[position - this.#base]
  }

  get end(): { readonly error: Error | null } | null {
    return this.#end
  }

  /** Bytes held at this moment. */
  get held(): number {
    return this.#held
  }

  /** Forgets the chunks that every reader has taken. */
  trim(): void {
    const live = this.#live()
    const needed = Math.min(...live.map(reader => reader.position))
    let drop = 0
    while (drop < this.#chunks.length && this.#base + drop < needed) {
      this.#held -= this.#chunks[drop]?.byteLength ?? 0
      drop++
    }
    this.#chunks.splice(0, drop)
    this.#base += drop
    if (this.#room && this.#hasRoom()) {
      this.#room.resolve()
      this.#room = null
      clearTimeout(this.#watch)
    }
  }

  /** A reader has left. */
  left(): void {
    this.trim()
    if (this.#live().length > 0) return
    clearTimeout(this.#watch)
    if (this.#end === null) this.#onEmpty()
  }

  /** A chunk larger than the window has it for itself. */
  #hasRoom(): boolean {
    return this.#held === 0 || this.#held + this.#wanted <= this.#window
  }

  #live(): Reader[] {
    return this.#readers.filter(reader => !reader.hasLeft)
  }

  /** Gives up whoever takes nothing while all wait for it. What a store does after the last byte may be slow, but not silent for ever. */
  #watchReaders(): void {
    clearTimeout(this.#watch)
    let since = performance.now()
    const look = (isLate: boolean): void => {
      const now = performance.now()
      if (isLate) since = now
      let wait = this.#stallMs
      // Chosen before any is given up: whoever had taken all there was is not to blame, though it is the slowest of those that stay.
      const waitedFor = this.#live().filter(reader => this.#end || reader.position === this.#base)
      for (const reader of waitedFor) {
        const left = this.#stallMs - (now - Math.max(since, reader.tookAt, reader.lastAlive()))
        if (left <= 0) reader.giveUp(stall(`store ${reader.name}`, this.#stallMs))
        else wait = Math.min(wait, left)
      }
      if (this.#room || (this.#end && this.#live().length > 0))
        this.#watch = lookAfter(wait, this.#stallMs, look)
    }
    if (this.#live().length > 0) this.#watch = lookAfter(this.#stallMs, this.#stallMs, look)
  }
}

/** One reader's place in the ring. */
export class Reader {
  readonly name: string
  readonly lastAlive: () => number
  /** Resolves with the reason when the reader is given up. */
  readonly givenUp: Promise<Error>
  /** Resolves when its stream was closed before its end. */
  readonly leftEarly: Promise<void>
  position = 0
  /** When it last asked for a chunk, in milliseconds of `performance.now()`. */
  tookAt = performance.now()
  hasLeft = false
  sawEnd = false
  readonly #ring: Ring
  readonly #give: (error: Error) => void
  readonly #closeEarly: () => void
  #isOver = false
  #error: Error | null = null
  #more = Promise.withResolvers<void>()

  constructor(ring: Ring, name: string, lastAlive: () => number) {
    this.#ring = ring
    this.name = name
    this.lastAlive = lastAlive
    const { promise, resolve } = Promise.withResolvers<Error>()
    this.givenUp = promise
    this.#give = resolve
    const early = Promise.withResolvers<void>()
    this.leftEarly = early.promise
    this.#closeEarly = early.resolve
  }

  wake(): void {
    this.#more.resolve()
  }

  /** Ends only when the whole stream was good. */
  async *bytes(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for (;;) {
        if (this.#error) throw this.#error
        const chunk = this.#ring.at(this.position)
        if (chunk) {
          yield chunk
          this.#took()
        } else if (this.#ring.end) {
          this.sawEnd = true
          return
        } else {
          this.#more = Promise.withResolvers()
          await this.#more.promise
        }
      }
    } finally {
      // Who leaves early takes nothing any more, and nobody need wait for it while it cleans up.
      if (!this.sawEnd) {
        this.leave()
        this.#closeEarly()
      }
    }
  }

  /** Its stream throws from now on. Does nothing once its work is over; leaving alone is not enough for that. */
  giveUp(error: Error): void {
    if (this.#isOver) return
    this.#error = error
    this.wake()
    this.#give(error)
    this.leave()
  }

  /** Takes nothing any more. */
  leave(): void {
    if (this.hasLeft) return
    this.hasLeft = true
    this.#ring.left()
  }

  /** Whoever read has ended. */
  over(): void {
    this.#isOver = true
    this.leave()
  }

  #took(): void {
    this.position++
    this.tookAt = performance.now()
    this.#ring.trim()
  }
}
