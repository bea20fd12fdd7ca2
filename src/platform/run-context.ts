import type { Clock, Context } from '../model/context.ts'
import type { RunEvent } from '../model/event.ts'
import { asFailure, usage } from '../model/failure.ts'
import { memoryBudget } from './budget.ts'
import { privateDir } from './private-dir.ts'
import { systemFailure } from './system-error.ts'

/** Memory for buffers of one process: with Node itself it stays well under the 250 MB that Cairn promises. */
const budgetBytes = 64 * 1024 * 1024

/** A context for one run, and the private folders that go with it when it is disposed. */
export function runContext(options: {
  readonly signal: AbortSignal
  readonly clock: Clock
  readonly emit: (event: RunEvent) => void
  readonly stallMs: number
  /** Where the private folder for small files is made. */
  readonly tmp: string
  /** Where the private folder for large copies is made. */
  readonly spool: string
}): Context & Disposable {
  const dir = folderIn(options.tmp, 'CAIRN_STATE')
  const spool = spoolBeside(dir, options.spool)
  return {
    ...silence(),
    signal: options.signal,
    clock: options.clock,
    emit: options.emit,
    stallMs: options.stallMs,
    dir: dir.path,
    spool: spool.path,
    budget: memoryBudget(budgetBytes),
    [Symbol.dispose]() {
      dir[Symbol.dispose]()
      spool[Symbol.dispose]()
    },
  }
}

function spoolBeside(dir: Disposable, parent: string): ReturnType<typeof privateDir> {
  try {
    return folderIn(parent, 'CAIRN_SPOOL')
  } catch (error) {
    dir[Symbol.dispose]()
    throw error
  }
}

function folderIn(parent: string, variable: string): ReturnType<typeof privateDir> {
  const what = `cannot use the folder ${parent}`
  try {
    return privateDir(parent)
  } catch (error) {
    const { why } = systemFailure(error, what) ?? asFailure(error, what)
    throw usage(what, why, `see that it can be written and has room, or set ${variable} to another folder`)
  }
}

/** The same context with a silence of its own: what is alive elsewhere does not excuse it. */
export function edge(ctx: Context): Context {
  return { ...ctx, ...silence() }
}

/** The same context, for work that must still be done after the run was aborted; it has this long. */
export function cleanupContext(ctx: Context, ms: number): Context {
  return { ...ctx, ...silence(), signal: AbortSignal.timeout(ms) }
}

/** The same, for clearing up in a store: soon over where somebody waits for the end of an aborted run, who kills then (Docker after 10 s). */
export function clearingContext(ctx: Context): Context {
  return cleanupContext(ctx, ctx.signal.aborted ? 4_000 : 30_000)
}

function silence(): Pick<Context, 'alive' | 'lastAlive'> {
  let last = Number.NEGATIVE_INFINITY
  return {
    alive: () => {
      last = performance.now()
    },
    lastAlive: () => last,
  }
}
