import type { Context } from './context.ts'
import type { Secret } from './secret.ts'

/**
 * A stream for one consumer. It ends only if everything that made it succeeded, else it throws. `return()`
 * stops the makers and waits until they are gone. A chunk belongs to the receiver, who must not change it.
 */
export type Bytes = AsyncIterable<Uint8Array>

/** How a program ended. */
export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** What a program's end means: null is success, an error is what went wrong. */
export type Verdict = Error | null

/**
 * An external program. Its arguments never hold secrets. It inherits only PATH and a UTF-8 locale, gets a
 * private HOME and TMPDIR, and `env` on top. File descriptor 3 and up are `secretFds`, each a readable file
 * that no longer has a name: pass `/dev/fd/3`, or the number.
 */
export interface Program {
  readonly program: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string | Secret>>
  readonly secretFds?: readonly Secret[]
  readonly cwd?: string
  /**
   * It may end well before the end of its input, because the input itself says where it ends (tar, pg_restore). What
   * follows reaches nobody then, but must still be right.
   */
  readonly endsEarly?: boolean
  /** It writes large outputs in blocks of 4 KiB, as the C library does by default, which costs it and its reader time. */
  readonly writesSmallBlocks?: boolean
  /** Default: exit code 0 is success, all else a Failure that quotes the end of stderr. */
  judge?(exit: Exit, stderrTail: string): Verdict
  /** Is called with every line the program writes to stderr. */
  onStderr?(line: string): void
}

/** A transformation inside our own process. */
export interface Transform {
  readonly name: string
  run(input: Bytes, ctx: Context): Bytes
}

export type Step = Program | Transform

export function isProgram(from: Program | Transform | Bytes): from is Program {
  return 'program' in from
}

/** Something that does no harm today. */
export interface Advice {
  readonly what: string
  readonly why: string
  readonly remedy: string
}

/**
 * A reversible transformation of a byte stream: `decode(encode(x)) = x`, however the chunks fall. Decoding
 * a stream that is whole but made for another key throws `wrongKey`; a truncated or changed one never ends well.
 */
export interface Stage {
  /** What the manifest calls it: `zstd`, `age`. */
  readonly name: string
  /** What it adds to an object's name: `.zst`. */
  readonly suffix: string
  /** What the manifest records beside the name, so that it can be decoded for ever. */
  readonly facts: Readonly<Record<string, unknown>>
  /** True where the stage hides the bytes from whoever has no key. */
  readonly encrypts: boolean
  /** What everybody must know who uses it: said at each backup, and a warning of the manifest. */
  readonly warning?: Advice
  encode(): Step
  /** Throws a Failure with exit 12 when no key was configured. */
  decode(): Step
  /** The shell command that undoes it, reading stdin and writing stdout. */
  readonly undo: string
}
