import type { Context } from '../model/context.ts'
import { type Bytes, isProgram, type Program, type Step } from '../model/step.ts'
import { childOf, settlesWithin, Waiter } from './abort.ts'
import { ProgramGroup } from './program-group.ts'
import { stall, watchForStall } from './stall.ts'

/** How long an input that does not answer may hold up the end of a stream. */
const graceMs = 2_000

/** The end of the pipeline: bytes, programs that nothing but the kernel stands between, or both, the former fed to the latter. */
export interface Joined {
  readonly bytes: Bytes | null
  readonly programs: readonly Program[]
  readonly group: ProgramGroup
}

/** One stream with all the programs and transforms that make it: watched, aborted and ended as a whole. */
export class Pipeline {
  /** Its signal is aborted when the pipeline fails, or is left. */
  readonly #ctx: Context
  readonly #over: AbortController & Disposable
  readonly #wait: Waiter
  /** Upstream first; `before` is what a group is fed by. */
  readonly #groups: { readonly group: ProgramGroup; readonly before: string }[] = []
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
    const group = new ProgramGroup(this.#ctx)
    // A transform before the first group is not told from the input.
    this.#groups.push({ group, before: this.#groups.length === 0 ? 'the input' : this.#last })
    return { bytes, programs, group }
  }

  /**
   * Waits for a piece of the pipeline's work. It counts as stalled when nothing moves anywhere in the pipeline. Throws at
   * once when the pipeline is aborted; whatever is thrown, the pipeline has ended then.
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
    await Promise.all(this.#groups.map(({ group }) => group.stop()))
    // An input that heeds neither its own signal nor us must not hold us for ever.
    await settlesWithin(Promise.all([left, ...this.#groups.map(({ group }) => group.inputLeft())]), graceMs)
    this.#over[Symbol.dispose]()
  }

  #moved(): string {
    return this.#groups.map(({ group }) => group.moved()).join(';')
  }

  #stalled(): void {
    this.#over.abort(stall(this.#culprit(), this.#ctx.stallMs))
  }

  /** Who is to blame for the silence: a program that was frozen, else the first part that the others wait for. */
  #culprit(): string {
    const frozen = this.#groups.map(({ group }) => group.frozen()).find(each => each !== undefined)
    if (frozen) return frozen.name
    for (const { group, before } of this.#groups) {
      if (group.waiting.forInput) return before
      if (group.waiting.toWrite || group.waiting.forOutput || group.waiting.forEnd) return group.culprit()
    }
    return this.#last
  }
}

/** What comes out of joined programs, and ends only when all of them were judged ok. */
export async function* through({
  bytes,
  programs,
  group,
}: Joined): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    await group.join(programs, bytes !== null, 'pipe')
    const fed = bytes && group.feed(bytes, true)
    yield* group.output()
    await fed
    await group.judged()
  } catch (error) {
    throw await group.why(error)
  } finally {
    await group.stop()
  }
}

async function* nothing(): AsyncGenerator<Uint8Array, void, undefined> {}
