import type { RunEvent } from './event.ts'

/** The time; tests give their own. */
export interface Clock {
  now(): Date
}

/** Memory for buffers, shared by everything that runs at once. */
export interface MemoryBudget {
  /** Takes up to `want` bytes, at least `least` even when that overdraws the budget; disposing gives them back. */
  claim(want: number, least: number): Disposable & { readonly bytes: number }
}

/** What every piece of work is handed. */
export interface Context {
  /** Aborted when the work must end: its reason is the error to throw. */
  readonly signal: AbortSignal
  readonly clock: Clock
  readonly emit: (event: RunEvent) => void
  /** Says that silence is legal now, from evidence (`'CREATE INDEX at 40 %'`): the stall clock starts anew. */
  readonly alive: (what: string) => void
  /** When `alive` was last called, in milliseconds of `performance.now()`. */
  readonly lastAlive: () => number
  /** Nothing moved for this long: the work has stalled and fails. */
  readonly stallMs: number
  /** Somebody waits for an answer: what a store tries again is given up after so long. Absent: as long as the store thinks right. */
  readonly patienceMs?: number
  /** A folder of mode 0700, removed when the work ends; small files only. Children get it as HOME and TMPDIR. */
  readonly dir: string
  /** A folder for large temporary copies (`capture: spool`, seekable formats). */
  readonly spool: string
  readonly budget: MemoryBudget
}
