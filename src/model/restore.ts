import type { Context } from './context.ts'
import type { ArtifactRecord, Manifest } from './manifest.ts'
import type { Bytes, Program, Step } from './step.ts'

/** Reads the artifacts of a backup back: from any store that has them, through the stages backwards, digests checked on the way. */
export interface ArtifactReader {
  /** The plain bytes. They end only when everything was read and was right. */
  open(artifact: ArtifactRecord): Bytes
  /**
   * Pours the plain bytes, through further steps where there are any, into a program, whose input ends only when
   * everything was right; resolves when it was judged ok.
   */
  into(artifact: ArtifactRecord, sink: Program, framed?: Framing, through?: readonly Step[]): Promise<void>
}

/** What we write ourselves around the poured bytes: the prologue before the first, the epilogue (COMMIT) only after all upstream was judged ok. */
export interface Framing {
  readonly prologue?: Bytes
  readonly epilogue?: Uint8Array
}

/** What part of a backup, and how. */
export interface Selection {
  /** Artifacts by name, or what is inside of them where the restorer can tell (tables, schemas); all when undefined. */
  readonly only?: readonly string[]
  /** Consents a person gave beyond "replace": `devices`, `setuid`, `no-owner`. */
  readonly allow: ReadonlySet<string>
  readonly options?: RestoreOptions
}

/** What some engines can do differently, named as the options of the command line. */
export interface RestoreOptions {
  /** Everything belongs to who restores. */
  readonly noOwner?: boolean
  /** No GRANTs. */
  readonly noPrivileges?: boolean
  /** The role that restores, after the login. */
  readonly role?: string
  /** A new database under the name it had, whatever name the target has. */
  readonly create?: boolean
  /** How many connections write at once. */
  readonly jobs?: number
  readonly schemaOnly?: boolean
  readonly dataOnly?: boolean
}

/** What a restore would do. Made by reading only. */
export interface RestorePlan {
  /** Where it goes, without secrets: `postgresql://db.example/shop`. */
  readonly target: string
  /** In the order in which it will happen, one line for a person each. */
  readonly steps: readonly string[]
  /** What would be dropped or overwritten; when not empty, a person must consent. */
  readonly replaces: readonly string[]
  readonly warnings: readonly string[]
}

export interface RestoreReport {
  readonly target: string
  /** Rows and objects found in the target afterwards, where they were counted. */
  readonly objects: number | null
  readonly rows: number | null
  readonly warnings: readonly string[]
  /** There is less than was backed up: fewer rows than the census counted in the same moment; a warning says so. */
  readonly isShort?: true
}

/**
 * Brings backups of one engine back.
 *
 * `plan` only reads: the target's state, the manifests, and where a reader is given the beginning of artifacts. It throws a
 * Failure when the restore cannot work.
 * `apply` pulls the artifacts it needs. A failed artifact fails the whole before anything is committed, where
 * the engine can do that; where it cannot, the plan says so. It checks again that what the plan found empty still is.
 * `ready`, where it is given, resolves when the target may be touched: what uses it stands still then.
 */
export interface Restorer {
  /** The options it knows; others are refused before it is asked. */
  readonly options?: readonly (keyof RestoreOptions)[]
  /** True where `only` may name what is inside of artifacts: it says itself what is not there. */
  readonly picksInside?: boolean
  /** True: it calls `ready` itself, when the backup was read whole. For others it is called before `apply`. */
  readonly readsFirst?: true
  plan(chain: readonly Manifest[], pick: Selection, ctx: Context, read?: ArtifactReader): Promise<RestorePlan>
  apply(
    chain: readonly Manifest[],
    pick: Selection,
    replace: boolean,
    read: ArtifactReader,
    ctx: Context,
    ready?: () => Promise<void>,
  ): Promise<RestoreReport>
}
