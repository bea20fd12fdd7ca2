import type { Context } from './context.ts'
import type { Bytes } from './step.ts'

/**
 * Looks at the plain bytes of an artifact as they pass, in bounded memory, and returns what they hold, for a person:
 * `3 members`; empty when there is nothing to say. Throws NotWhole where they are not what they should be, as soon as that is
 * certain; what the bytes themselves throw passes through unchanged.
 */
export type ContentCheck = (bytes: Bytes, ctx: Context) => Promise<string>

/** Bytes that were read right are not whole, or not of the kind they should be. The message says why, beginning with `it`. */
export class NotWhole extends Error {
  override readonly name = 'NotWhole'
}
