import type { Context } from '../model/context.ts'
import { type ExitCode, exitCode, type Failure, worstExit } from '../model/failure.ts'
import type { Manifest } from '../model/manifest.ts'

/** What became of one unit. */
export interface BackupOutcome {
  readonly unit: string
  /** Null when it was never begun. */
  readonly id: string | null
  /** Null when no store has a whole copy: then there is no backup. */
  readonly manifest: Manifest | null
  /** The stores that have a whole copy. */
  readonly stores: readonly string[]
  /** Why the backup, or a store's copy of it, failed. */
  readonly failures: readonly Failure[]
}

/** 0 when every unit is whole in every store; the failures' code when nothing is; 3 in between. */
export function exitOf(outcomes: readonly BackupOutcome[]): ExitCode {
  const failures = outcomes.flatMap(outcome => outcome.failures)
  if (failures.length === 0) return exitCode.ok
  if (outcomes.some(outcome => outcome.manifest)) return exitCode.partial
  return worstExit(failures.map(failure => failure.exit))
}

/** Says at once what failed. */
export function announce(failure: Failure, unit: string | undefined, ctx: Context, store?: string): void {
  const { what, why, remedy } = failure
  ctx.emit({ type: 'failure', what, why, remedy, ...(unit ? { unit } : {}), ...(store ? { store } : {}) })
}
