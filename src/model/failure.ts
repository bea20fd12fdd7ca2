/** The exit codes that other programs rely on; the contract is docs/reference/output.md. */
export const exitCode = {
  ok: 0,
  failed: 1,
  usage: 2,
  partial: 3,
  noSuchBackup: 10,
  locked: 11,
  wrongKey: 12,
  damaged: 20,
  interrupted: 130,
  terminated: 143,
} as const

export type ExitCode = (typeof exitCode)[keyof typeof exitCode]

/**
 * The one error that a person is meant to read: what failed, why, and what to do about it. Adapters throw it
 * wherever they know the remedy; anything else that is thrown is a fault of ours or of the machine, and is
 * wrapped where it becomes known what was being done (`failure`).
 */
export class Failure extends Error {
  override readonly name = 'Failure'
  readonly what: string
  readonly why: string
  readonly remedy: string
  readonly exit: ExitCode

  constructor(f: { what: string; why: string; remedy?: string; exit?: ExitCode; cause?: unknown }) {
    super(`${f.what}: ${f.why}`, f.cause === undefined ? undefined : { cause: f.cause })
    this.what = f.what
    this.why = f.why
    this.remedy = f.remedy ?? ''
    this.exit = f.exit ?? exitCode.failed
  }
}

/** A request that cannot be carried out as it stands; nothing was touched. */
export function usage(what: string, why: string, remedy = ''): Failure {
  return new Failure({ what, why, remedy, exit: exitCode.usage })
}

/** What lies in a store is not what was written there. */
export function damage(what: string, why: string, remedy = ''): Failure {
  return new Failure({ what, why, remedy, exit: exitCode.damaged })
}

export function isDamage(error: unknown): boolean {
  return error instanceof Failure && error.exit === exitCode.damaged
}

/** The stored bytes are right, but this key does not open them. Thrown by a stage's `decode`. */
export function wrongKey(what: string, why: string, remedy = ''): Failure {
  return new Failure({ what, why, remedy, exit: exitCode.wrongKey })
}

/** Any thrown thing as a Failure; one that already is a Failure is returned as it is. */
export function asFailure(error: unknown, what: string, remedy = ''): Failure {
  if (error instanceof Failure) return error
  return new Failure({ what, why: whyOf(error), remedy, cause: error })
}

function whyOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error instanceof AggregateError && error.errors.length > 0) return error.errors.map(whyOf).join('; ')
  return error.message || error.name
}

/**
 * The exit code of several failures: damage wins over a wrong key, which wins over all others; one kind of
 * failure alone keeps its own code.
 */
export function worstExit(codes: readonly ExitCode[]): ExitCode {
  for (const code of [exitCode.damaged, exitCode.wrongKey]) if (codes.includes(code)) return code
  const [first = exitCode.failed] = codes
  return codes.every(code => code === first) ? first : exitCode.failed
}
