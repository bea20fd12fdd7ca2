import type { Context } from './context.ts'
import type { Failure } from './failure.ts'

/**
 * What there is to tell: a run begins, and ends with exit 0 or with anything else; nothing good has arrived for too long
 * (`alarm`), and that is over (`over`).
 */
export type Moment = 'start' | 'success' | 'failure' | 'alarm' | 'over'

export interface Notice {
  readonly moment: Moment
  /** One line for a person. */
  readonly message: string
  /** The log of the run; empty where there is none. Neither holds a secret. */
  readonly log: string
}

/** Whether a place that is told can be reached from here. */
export interface Reach {
  /** Without secrets: `https://hooks.example`. */
  readonly place: string
  /** Null when it answers; it may be away for a while only. */
  readonly fault: Failure | null
  /** What was found, for a person. */
  readonly found: string
}

/** Tells others what has become of a job. */
export interface Notifier {
  /**
   * Resolves when whoever wanted to know of this moment was told, or nobody did. Throws a Failure when telling failed for
   * good; it shows no secret, and what is told about has long happened: it fails nothing but itself.
   */
  tell(notice: Notice, ctx: Context): Promise<void>
  /**
   * Looks whether it could tell, and sends nothing: whoever is told takes that for news. One result for each place that is
   * told; throws a Failure, without a secret, where the options are wrong.
   */
  check(ctx: Context): Promise<Reach[]>
}
