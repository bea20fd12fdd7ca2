import type { Writable } from 'node:stream'
import type { Context } from '../model/context.ts'
import { Failure } from '../model/failure.ts'
import type { Bytes, Program } from '../model/step.ts'
import { settlesWithin } from './abort.ts'
import { kernelPipes } from './kernel-pipe.ts'
import { bytesMoved, isFrozen, waitsFor } from './process-group.ts'
import { isBrokenPipe, type Running, type Stdio, start } from './program.ts'

/** Long enough for programs that are ending by themselves to say why. */
const momentMs = 500

/**
 * Programs that the kernel has joined, which live and end together. When one fails, the others are stopped: they might
 * wait for it for ever. When `ctx.signal` is aborted, all are stopped. Whoever starts a group calls `stop()` in the end.
 */
export class ProgramGroup {
  /** In the order in which the bytes pass them. */
  readonly programs: Running[] = []
  /** What our side of it waits for. */
  readonly waiting = { forInput: false, toWrite: false, forOutput: false, forEnd: false }
  readonly #ctx: Context
  readonly #ended = new Set<Running>()
  /** How programs failed by themselves, not because we stopped them. */
  readonly #failures = new Map<Running, Error>()
  /** What went wrong before any program did: the input, or a start. */
  #cause: { readonly error: unknown } | null = null
  /** Resolves when the failure of one was followed by the end of all. */
  #told: Promise<void> | null = null
  #stopped = false
  #pumping: Promise<unknown> = Promise.resolve()
  #making: Promise<unknown> = Promise.resolve()
  #chunks = 0
  /** Writes that the kernel has not confirmed. */
  #underway = 0
  readonly #abort = (): unknown => this.stop()

  constructor(ctx: Context) {
    this.#ctx = ctx
  }

  /** Starts a program that comes before the others. Throws a Failure when it does not start. */
  async start(program: Program, stdio: Stdio): Promise<Running> {
    this.#ctx.signal.throwIfAborted()
    if (this.#stopped) throw new Error('the programs were stopped')
    try {
      const running = start(program, stdio, this.#ctx)
      this.#ctx.signal.addEventListener('abort', this.#abort, { once: true })
      this.programs.unshift(running)
      const verdict = running.verdict.then(failure => this.#over(running, failure))
      if (running.pid === 0) throw await verdict
      return running
    } catch (error) {
      this.#cause ??= { error }
      throw error
    }
  }

  /** Starts programs, the last one first; the kernel carries the bytes of each into the next. */
  async join(programs: readonly Program[], fed: boolean, out: 'pipe' | number | Writable): Promise<void> {
    const making = kernelPipes(programs.length - 1, this.#ctx)
    this.#making = making.catch(() => {})
    using pipes = await making
    for (const [index, program] of [...programs.entries()].reverse()) {
      const stdin = pipes.reader(index - 1) ?? (fed ? 'pipe' : 'ignore')
      await this.start(program, { stdin, stdout: pipes.writer(index) ?? out })
    }
  }

  /**
   * Writes bytes into the first program; ends its input only when `close`. Throws what the bytes throw; all programs
   * are stopped then while their input is still open. Throws when the program fails, and when it stops reading
   * before the last byte, because then it cannot have understood all of them.
   */
  feed(bytes: Bytes, close: boolean): Promise<void> {
    const [head] = this.programs
    if (!head) throw new Error('there is no program to feed')
    let isWritten = false
    const pumped = this.#pump(bytes, head).then(() => {
      isWritten = true
      if (close) input(head).end()
    })
    // Success before the end of the input is no failure yet: pg_restore does not wait for it. But who waits for
    // silent bytes would not notice that there is nobody left to write them to.
    const ended = head.verdict.then(failure => {
      if ((failure || this.#stopped) && !isWritten) throw stoppedReading(head)
    })
    const fed = Promise.race([pumped, ended.then(() => pumped)])
    this.#pumping = pumped.catch(() => {})
    // Who feeds may be reading the other end for now.
    fed.catch(() => {})
    return fed
  }

  async #pump(bytes: Bytes, head: Running): Promise<void> {
    const stdin = input(head)
    let isRead = true
    try {
      this.waiting.forInput = true
      for await (const chunk of bytes) {
        this.waiting.forInput = false
        this.#chunks++
        if (isRead) isRead = await this.write(chunk, stdin)
        if (!isRead && !(await endedEarly(head))) break
        this.waiting.forInput = true
      }
    } catch (error) {
      this.#cause ??= { error }
      void this.stop()
      throw error
    } finally {
      this.waiting.forInput = false
    }
    const isCut = !isRead || (isGone(stdin) && !this.isHandedOver)
    if (isCut && !(await endedEarly(head))) throw stoppedReading(head)
  }

  /**
   * Whether the kernel has taken all that was written. A program that ends by itself after that was not cut short:
   * tar ends at the end of the archive, which may be before we learn that there is no more.
   */
  get isHandedOver(): boolean {
    return this.#underway === 0
  }

  /** Writes a chunk, and waits until the stream takes more. False when nobody reads it any more. */
  async write(chunk: Uint8Array, stdin: Writable): Promise<boolean> {
    if (isGone(stdin)) return false
    this.#underway++
    const hasRoom = stdin.write(chunk, error => {
      // A write that was under way when the stream was destroyed is reported as done.
      if (!error && !isGone(stdin)) this.#underway--
    })
    if (hasRoom) return true
    this.waiting.toWrite = true
    await drained(stdin)
    this.waiting.toWrite = false
    return !isGone(stdin) || this.isHandedOver
  }

  /** What the last program writes. That it ends says nothing yet. */
  async *output(): AsyncGenerator<Uint8Array, void, undefined> {
    const chunks = this.programs.at(-1)?.stdout?.[Symbol.asyncIterator]()
    if (!chunks) throw new Error('there is no program to read')
    for (;;) {
      this.waiting.forOutput = true
      const next: IteratorResult<Uint8Array, unknown> = await chunks.next()
      this.waiting.forOutput = false
      if (next.done) return
      this.#chunks++
      yield next.value
    }
  }

  /** Waits until these have ended; throws the most telling failure of the group. */
  async judged(programs: readonly Running[] = this.programs): Promise<void> {
    this.waiting.forEnd = true
    await Promise.all(programs.map(program => program.verdict))
    this.waiting.forEnd = false
    const failure = this.#telling()
    if (failure) throw failure
    // A program may answer SIGTERM with exit code 0.
    if (this.#stopped) throw new Error('the programs were stopped')
  }

  /** Why the group has failed, after an error: the abort's reason, else the input, else the most telling program, else the error. */
  async why(error: unknown): Promise<unknown> {
    const { signal } = this.#ctx
    if (!signal.aborted && !this.#cause && !this.#stopped) {
      const all = Promise.all(this.programs.map(program => program.verdict))
      await (this.#told ?? settlesWithin(all, momentMs))
    }
    if (signal.aborted) return signal.reason
    return this.#cause ? this.#cause.error : (this.#telling() ?? error)
  }

  /** Stops all programs; resolves when nothing of them is left. May be called again. */
  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all([this.#making, ...this.programs.map(program => program.stop())])
    this.#ctx.signal.removeEventListener('abort', this.#abort)
  }

  /** Resolves when the input has been left alone; not before it has answered. */
  inputLeft(): Promise<unknown> {
    return this.#pumping
  }

  /** A text that changes whenever a byte moves in the group. */
  moved(): string {
    return [this.#chunks, ...this.#live().map(program => bytesMoved(program.pid))].join()
  }

  frozen(): Running | undefined {
    return this.#live().find(program => isFrozen(program.pid))
  }

  /** Who is to blame for the silence: a program that waits for none of the others, else the first, which all others wait for. */
  culprit(): string {
    const live = this.#live()
    const own = live.find(program => waitsFor(program.pid) === null)
    return (own ?? live[0] ?? this.programs.at(-1))?.name ?? 'a program'
  }

  #live(): Running[] {
    return this.programs.filter(program => !this.#ended.has(program))
  }

  #over(program: Running, failure: Error | null): Error | null {
    this.#ended.add(program)
    if (failure === null || this.#stopped) return failure
    this.#failures.set(program, failure)
    this.#told ??= this.#listen(program, failure).then(() => this.stop())
    return failure
  }

  /** Gives those a moment who may know more: what broke a pipe comes after it, all else comes from before. */
  async #listen(program: Running, failure: Error): Promise<unknown> {
    const place = this.programs.indexOf(program)
    const others = isBrokenPipe(failure) ? this.programs.slice(place + 1) : this.programs.slice(0, place)
    return settlesWithin(Promise.all(others.map(each => each.verdict)), momentMs)
  }

  /** A broken pipe is the echo of another failure: prefer any other. What fails first makes those after it fail. */
  #telling(): Error | null {
    const failures = this.programs
      .map(program => this.#failures.get(program))
      .filter(each => each !== undefined)
    return failures.find(failure => !isBrokenPipe(failure)) ?? failures[0] ?? null
  }
}

/** Resolves when the stream takes more, or never will; leaves no listener behind. */
function drained(stream: Writable): Promise<void> {
  return new Promise(resolve => {
    const settle = (): void => {
      stream.off('drain', settle).off('close', settle)
      resolve()
    }
    stream.on('drain', settle).on('close', settle)
  })
}

/** Whether a program that may do so has ended well. */
export async function endedEarly(program: Running): Promise<boolean> {
  return program.endsEarly && (await program.verdict) === null
}

function isGone(stdin: Writable): boolean {
  return stdin.destroyed || stdin.errored !== null
}

export function stoppedReading(program: Running): Failure {
  return new Failure({
    what: `${program.name} failed`,
    why: 'it stopped reading before the end (broken pipe)',
  })
}

/** The stdin of a program that was started with one. */
export function input(program: Running): Writable {
  if (!program.stdin) throw new Error(`${program.name} was started without a stdin`)
  return program.stdin
}
