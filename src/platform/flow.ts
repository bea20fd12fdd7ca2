import type { Writable } from 'node:stream'
import type { Context } from '../model/context.ts'
import { asFailure, Failure } from '../model/failure.ts'
import type { Framing } from '../model/restore.ts'
import { type Bytes, isProgram, type Program, type Step, type Verdict } from '../model/step.ts'
import { isBrokenPipe, isFrozen, type Running, start } from './program.ts'
import { beforeStall } from './stall.ts'

/**
 * Programs and transforms, joined into one stream.
 *
 * Adjacent programs are joined by the kernel; their bytes never enter this process. Bytes that leave the last
 * program are read by us, and their end is **withheld until every program before it was judged ok**: to the
 * receiver, a stream that ends is a stream that is whole. When anything fails, is aborted or stalls, every
 * program is stopped with its whole process group before the error is thrown.
 */
export function flow(from: Program | Bytes, steps: readonly Step[], ctx: Context): Bytes {
  const { bytes, programs } = joined(from, steps, ctx)
  return programs.length > 0 ? throughPrograms(bytes, programs, ctx) : (bytes ?? nothing())
}

/**
 * The flow into a program. Its input ends only after everything upstream was judged ok: until then we keep our
 * copy of its stdin open, and on failure it is killed with its input still open, so that no half input is taken for
 * a whole one. The epilogue is written after the judgement. Resolves when the program itself was judged ok.
 */
export async function pour(
  from: Program | Bytes,
  steps: readonly Step[],
  into: Program,
  ctx: Context,
  framing: Framing = {},
): Promise<void> {
  const { bytes, programs } = joined(from, steps, ctx)
  const sink = start(into, { stdin: 'pipe', stdout: 'ignore' }, ctx)
  const started: Running[] = [sink]
  const stopAll = stopOnAbort(started, ctx)
  try {
    const stdin = input(sink)
    if (framing.prologue) await feed(framing.prologue, sink, ctx)
    const upstream = programs.length > 0 ? startChain(programs, bytes !== null, stdin, ctx) : []
    started.unshift(...upstream)
    const head = started[0]
    if (bytes && head) await feed(bytes, head, ctx, upstream.length > 0)
    await judged(upstream, ctx)
    if (framing.epilogue) stdin.write(framing.epilogue)
    stdin.end()
    await judged([sink], ctx)
  } catch (error) {
    throw await rootCause(error, started, stopAll, ctx)
  } finally {
    await stopAll()
  }
}

/** Runs transforms and collects the trailing programs, which nothing but the kernel stands between. */
function joined(from: Program | Bytes, steps: readonly Step[], ctx: Context) {
  let bytes: Bytes | null = isProgram(from) ? null : from
  let programs: Program[] = isProgram(from) ? [from] : []
  for (const step of steps) {
    if (isProgram(step)) {
      programs.push(step)
      continue
    }
    const before = programs.length > 0 ? throughPrograms(bytes, programs, ctx) : bytes
    bytes = step.run(before ?? nothing(), ctx)
    programs = []
  }
  return { bytes, programs }
}

async function* throughPrograms(
  bytes: Bytes | null,
  programs: readonly Program[],
  ctx: Context,
): AsyncGenerator<Uint8Array, void, undefined> {
  ctx.signal.throwIfAborted()
  const chain = startChain(programs, bytes !== null, 'pipe', ctx)
  const stopAll = stopOnAbort(chain, ctx)
  const [first] = chain
  const last = chain.at(-1)
  let feeding: Promise<void> = Promise.resolve()
  let fed: Error | null = null
  try {
    if (bytes && first) {
      feeding = feed(bytes, first, ctx, true)
      // A failure of the input must end the programs while their input is still open.
      feeding.catch(error => {
        fed = error
        return stopAll()
      })
    }
    const chunks = (last?.stdout ?? nothing())[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>
    for (;;) {
      const next = await beforeStall(chunks.next(), ctx, () => culprit(chain))
      if (next.done) break
      yield next.value
    }
    await feeding
    await judged(chain, ctx)
  } catch (error) {
    throw await rootCause(fed ?? error, chain, stopAll, ctx)
  } finally {
    await stopAll()
    await feeding.catch(() => {})
  }
}

/** Starts the last program first, so that each one's stdout can be the next one's stdin. */
function startChain(
  programs: readonly Program[],
  fed: boolean,
  out: 'pipe' | Writable,
  ctx: Context,
): Running[] {
  const chain: Running[] = []
  let stdout: 'pipe' | Writable = out
  try {
    for (const [index, program] of [...programs.entries()].reverse()) {
      const running = start(program, { stdin: index > 0 || fed ? 'pipe' : 'ignore', stdout }, ctx)
      // Our copy of the pipe between two programs must go, or the reader would never see its end.
      if (stdout !== out && stdout !== 'pipe') stdout.destroy()
      chain.unshift(running)
      if (running.stdin) stdout = running.stdin
    }
    return chain
  } catch (error) {
    for (const running of chain) void running.stop()
    throw error
  }
}

/**
 * Writes bytes into a program's stdin; ends it only when `close`. Throws what the bytes throw, leaving stdin open;
 * throws when the program stops reading before the end, because then it cannot have understood all of it.
 */
async function feed(bytes: Bytes, program: Running, ctx: Context, close = false): Promise<void> {
  const stdin = input(program)
  for await (const chunk of bytes) {
    ctx.signal.throwIfAborted()
    if (stdin.destroyed || stdin.errored) throw stoppedReading(program)
    if (!stdin.write(chunk)) {
      await beforeStall(drained(stdin), ctx, () => program.name)
    }
  }
  if (stdin.destroyed || stdin.errored) throw stoppedReading(program)
  if (close) stdin.end()
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

function stoppedReading(program: Running): Failure {
  return new Failure({
    what: `${program.name} failed`,
    why: 'it stopped reading before the end (broken pipe)',
  })
}

function input(program: Running): Writable {
  if (!program.stdin) throw new Error(`${program.name} was started without a stdin`)
  return program.stdin
}

/** Waits until all have ended; throws the most telling verdict. */
async function judged(programs: readonly Running[], ctx: Context): Promise<void> {
  const verdicts = await beforeStall(Promise.all(programs.map(p => p.verdict)), ctx, () => culprit(programs))
  const failure = telling(verdicts)
  if (failure) throw failure
}

/** A broken pipe is the echo of another failure: prefer any other. */
function telling(verdicts: readonly Verdict[]): Error | null {
  const failures = verdicts.filter(verdict => verdict !== null)
  return failures.find(failure => !isBrokenPipe(failure)) ?? failures[0] ?? null
}

/** Stops everything, then says why it failed: the abort's reason, else the program that failed by itself, else the error. */
async function rootCause(
  error: unknown,
  programs: readonly Running[],
  stopAll: () => Promise<void>,
  ctx: Context,
): Promise<unknown> {
  const before = await Promise.all(programs.map(p => Promise.race([p.verdict, moment()])))
  await stopAll()
  if (ctx.signal.aborted) return ctx.signal.reason
  const failure = asFailure(error, 'the stream failed')
  return isBrokenPipe(failure) ? (telling(before) ?? failure) : failure
}

/** Long enough for programs that are ending by themselves to say so. */
function moment(): Promise<null> {
  return new Promise(resolve => setTimeout(resolve, 200, null))
}

function stopOnAbort(programs: readonly Running[], ctx: Context): () => Promise<void> {
  const stopAll = async (): Promise<void> => {
    ctx.signal.removeEventListener('abort', stopAll)
    await Promise.all(programs.map(program => program.stop()))
  }
  ctx.signal.addEventListener('abort', stopAll, { once: true })
  return stopAll
}

/** Who is to blame for the silence: a program that was frozen, else the first one, which all others wait for. */
function culprit(programs: readonly Running[]): string {
  return (programs.find(isFrozen) ?? programs[0])?.name ?? 'the stream'
}

async function* nothing(): AsyncGenerator<Uint8Array, void, undefined> {}
