import { type FileHandle, open, unlink } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import type { Context } from '../model/context.ts'
import type { Framing } from '../model/restore.ts'
import { type Bytes, isProgram, type Program, type Step } from '../model/step.ts'
import { type Joined, Pipeline, through } from './pipeline.ts'
import { needProgram } from './program.ts'
import { endedEarly, input, stoppedReading } from './program-group.ts'

/**
 * Programs and transforms, joined into one stream.
 *
 * Adjacent programs are joined by the kernel; their bytes never enter this process. Bytes that leave the last
 * program are read by us, and their end is **withheld until every program before it was judged ok**: to the
 * receiver, a stream that ends is a stream that is whole. When anything fails, is aborted, stalls, or is left before
 * its end, every program is stopped with its whole process group before the error is thrown or `return()` resolves.
 *
 * Nothing is started before the first chunk is asked for, and nothing at all when a program is missing.
 */
export function flow(from: Program | Bytes, steps: readonly Step[], ctx: Context): Bytes {
  let running: { readonly pipeline: Pipeline; readonly chunks: AsyncIterator<Uint8Array> } | null = null
  let isOver = false
  const over = { done: true, value: undefined } as const

  const opened = () => {
    ctx.signal.throwIfAborted()
    needAll([from, ...steps])
    const pipeline = new Pipeline(ctx)
    const joined = pipeline.join(from, steps)
    const bytes = (joined.programs.length === 0 && joined.bytes) || through(joined)
    return { pipeline, chunks: bytes[Symbol.asyncIterator]() }
  }
  const iterator: AsyncIterableIterator<Uint8Array> = {
    async next() {
      if (isOver) return over
      try {
        running ??= opened()
        const next = await running.pipeline.ask(running.chunks.next(), running.chunks)
        if (!next.done) return next
        isOver = true
        await running.pipeline.end(null)
        return over
      } catch (error) {
        isOver = true
        throw error
      }
    },
    async return() {
      if (!isOver && running)
        await running.pipeline.end(new Error('the reader left before the end'), running.chunks)
      isOver = true
      return over
    },
    [Symbol.asyncIterator]: () => iterator,
  }
  return iterator
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
  ctx.signal.throwIfAborted()
  needAll([from, ...steps, into])
  const pipeline = new Pipeline(ctx)
  await pipeline.ask(pourInto(pipeline.join(from, steps), into, framing))
  await pipeline.end(null)
}

async function pourInto({ bytes, programs, group }: Joined, into: Program, framing: Framing): Promise<void> {
  try {
    const sink = await group.start(into, { stdin: 'pipe', stdout: 'ignore' })
    const stdin = input(sink)
    if (framing.prologue) await group.feed(framing.prologue, false)
    // The programs write past us: what we have not handed to the kernel by now would come after theirs.
    if (!(await flushed(stdin))) throw stoppedReading(sink)
    await group.join(programs, bytes !== null, stdin)
    if (bytes) await group.feed(bytes, programs.length > 0)
    await group.judged(group.programs.filter(program => program !== sink))
    // A program whose stdout it was has made the pipe blocking, for us too: all of us would stand still while it is full.
    unblock(stdin)
    if (framing.epilogue && !(await group.write(framing.epilogue, stdin))) throw stoppedReading(sink)
    if (!(await flushed(stdin)) && !group.isHandedOver && !(await endedEarly(sink)))
      throw stoppedReading(sink)
    stdin.end()
    await group.judged([sink])
  } catch (error) {
    throw await group.why(error)
  } finally {
    await group.stop()
  }
}

/**
 * Writes what programs give into a file. Not they themselves: pg_dump does not look whether the last of what it has buffered
 * was written, and ends with success where the disk is full. cat looks, also when it closes the file.
 */
const writer: Program = { program: 'cat', args: [] }

/**
 * The flow into a new file of mode 0600, which a program writes: nothing of it passes us where it comes from one. Resolves to
 * its size when all were judged ok. Throws EEXIST, or what the flow throws; then there is no file.
 */
export async function save(
  from: Program | Bytes,
  steps: readonly Step[],
  path: string,
  ctx: Context,
): Promise<number> {
  ctx.signal.throwIfAborted()
  needAll([from, ...steps, writer])
  const file = await open(path, 'wx', 0o600)
  try {
    const pipeline = new Pipeline(ctx)
    await pipeline.ask(saveInto(pipeline.join(from, steps), file))
    await pipeline.end(null)
    return (await file.stat()).size
  } catch (error) {
    await unlink(path)
    throw error
  } finally {
    await file.close()
  }
}

async function saveInto({ bytes, programs, group }: Joined, file: FileHandle): Promise<void> {
  try {
    if (programs.length === 0) for await (const chunk of bytes ?? []) await file.writeFile(chunk)
    else {
      await group.join([...programs, writer], bytes !== null, file.fd)
      if (bytes) await group.feed(bytes, true)
      await group.judged()
    }
  } catch (error) {
    throw await group.why(error)
  } finally {
    await group.stop()
  }
}

/** Throws a Failure (exit 2) for the first program that is not there, and for the one that makes the pipes between them. */
function needAll(parts: readonly (Program | Bytes | Step)[]): void {
  const programs = parts.filter(isProgram)
  for (const { program } of programs) needProgram(program)
  if (programs.length > 1) needProgram('mkfifo', 'install coreutils')
}

/** Undocumented, and the only way there is: a socket cannot be opened anew. */
function unblock(stdin: Writable): void {
  const { _handle } = stdin as Writable & { _handle?: { setBlocking?(isBlocking: boolean): void } | null }
  _handle?.setBlocking?.(false)
}

/** Resolves when the kernel has everything: true, or false when nobody reads it any more. */
function flushed(stdin: Writable): Promise<boolean> {
  return new Promise(resolve => {
    const settle = (error?: unknown): void => resolve(!error && !stdin.destroyed)
    stdin.once('close', settle)
    stdin.write('', error => {
      stdin.off('close', settle)
      settle(error)
    })
  })
}
