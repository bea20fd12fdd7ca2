import type { Context } from '../model/context.ts'
import { type Bytes, isProgram, type Program, type Step } from '../model/step.ts'
import { childOf, settlesWithin, Waiter } from './abort.ts'
import { Crew } from './crew.ts'
import { stall, watchForStall } from './stall.ts'

/** How long an input that does not answer may hold up the end of a stream. */
const graceMs = 2_000

/** The end of the line: bytes, programs that nothing but the kernel stands between, or both, the former fed to the latter. */
export interface Joined {
  readonly bytes: Bytes | null
  readonly programs: readonly Program[]
  readonly crew: Crew
}

/** One stream with all the programs and transforms that make it: watched, aborted and ended as a whole. */
export class Line {
  /** Its signal is aborted when the line fails, or is left. */
  readonly #ctx: Context
  readonly #over: AbortController & Disposable
  readonly #wait: Waiter
  /** Upstream first; `before` is what a crew is fed by. */
  readonly #crews: { readonly crew: Crew; readonly before: string }[] = []
  #last = 'the input'

  constructor(ctx: Context) {
    this.#over = childOf(ctx.signal)
    this.#ctx = { ...ctx, signal: this.#over.signal }
    this.#wait = new Waiter(this.#over.signal)
  }

  /** Puts the steps after one another. Nothing is started before the bytes are asked for. */
  join(from: Program | Bytes, steps: readonly Step[]): Joined {
    let bytes = isProgram(from) ? null : from
    let programs = isProgram(from) ? [from] : []
    for (const step of steps) {
      if (isProgram(step)) {
        programs.push(step)
        continue
      }
      const before = programs.length > 0 ? through(this.#joined(bytes, programs)) : bytes
      bytes = step.run(before ?? nothing(), this.#ctx)
      programs = []
      this.#last = step.name
    }
    return this.#joined(bytes, programs)
  }

  #joined(bytes: Bytes | null, programs: readonly Program[]): Joined {
    const crew = new Crew(this.#ctx)
    // A transform before the first crew is not told from the input.
    this.#crews.push({ crew, before: this.#crews.length === 0 ? 'the input' : this.#last })
    return { bytes, programs, crew }
  }

  /**
   * Waits for a piece of the line's work. It counts as stalled when nothing moves anywhere in the line. Throws at
   * once when the line is aborted; whatever is thrown, the line has ended then.
   */
  async ask<T>(work: Promise<T>, outlet?: AsyncIterator<unknown>): Promise<T> {
    const { signal } = this.#ctx
    using _watch = watchForStall(
      this.#ctx,
      () => this.#moved(),
      () => this.#stalled(),
    )
    try {
      return await this.#wait.for(work)
    } catch (error) {
      const reason = signal.aborted ? signal.reason : error
      await this.end(reason, outlet)
      throw reason
    }
  }

  /** Ends everything. With a reason, what is still going on is stopped for it. Nothing is left running then. */
  async end(reason: unknown, outlet?: AsyncIterator<unknown>): Promise<void> {
    if (reason !== null) this.#over.abort(reason)
    const left = outlet?.return?.()
    await Promise.all(this.#crews.map(({ crew }) => crew.stop()))
    // An input that heeds neither its own signal nor us must not hold us for ever.
    await settlesWithin(Promise.all([left, ...this.#crews.map(({ crew }) => crew.inputLeft())]), graceMs)
    this.#over[Symbol.dispose]()
  }

  #moved(): string {
    return this.#crews.map(({ crew }) => crew.moved()).join(';')
  }

  #stalled(): void {
    this.#over.abort(stall(this.#culprit(), this.#ctx.stallMs))
  }

  /** Who is to blame for the silence: a program that was frozen, else the first part that the others wait for. */
  #culprit(): string {
    const frozen = this.#crews.map(({ crew }) => crew.frozen()).find(each => each !== undefined)
    if (frozen) return frozen.name
    for (const { crew, before } of this.#crews) {
      if (crew.waiting.forInput) return before
      if (crew.waiting.toWrite || crew.waiting.forOutput || crew.waiting.forEnd) return crew.culprit()
    }
    return this.#last
  }
}

/** What comes out of joined programs, and ends only when all of them were judged ok. */
export async function* through({
  bytes,
  programs,
  crew,
}: Joined): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    await crew.join(programs, bytes !== null, 'pipe')
    const fed = bytes && crew.feed(bytes, true)
    yield* crew.output()
    await fed
    await crew.judged()
  } catch (error) {
    throw await crew.why(error)
  } finally {
    await crew.stop()
  }
}

async function* nothing(): AsyncGenerator<Uint8Array, void, undefined> {}
