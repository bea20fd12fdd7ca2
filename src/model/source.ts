import type { Context } from './context.ts'
import type { Failure } from './failure.ts'
import type { Chain, Kind, Manifest, Role, Warning } from './manifest.ts'
import type { Advice, Bytes, Program } from './step.ts'

/** What restores together, and so what a backup is of: one database and its globals, one file, a set of paths. */
export interface Unit {
  /** Its true name, whatever characters it holds. */
  readonly name: string
  /** Where a source has several units: what tells this one from the others, instead of the inspection's identity. */
  readonly identity?: string
}

/** One named byte stream that a session yields. */
export interface Artifact {
  /** `postgres/app.dump`: unique within the backup, any characters. */
  readonly name: string
  /** What kind of bytes: `pg_dump-custom`, `sql`, `sqlite`, `tar`, `json`. */
  readonly media: string
  readonly role: Role
  readonly sizeHint?: number
  /** Is called once at the most, when its turn has come. `ctx.alive` speaks for this artifact's stream alone. */
  open(ctx: Context): Program | Bytes
  /** Where `open` gives a program: what its bytes pass through, before they are the artifact's. */
  readonly through?: readonly Program[]
  /**
   * Instead of `open`: writes it as files into this folder, which is made, and returns their paths in it, in the order that
   * who reads them one after another wants them in. What a failure leaves there is the caller's to remove.
   */
  intoFolder?(folder: string, ctx: Context): Promise<string[]>
  /** Where its bytes lie in the spool already: it is opened after the session was disposed. Disposing removes them. */
  readonly spooled?: AsyncDisposable
}

export interface Inspection {
  /** Which source this is, stable over time and over renames of the job: `pg:7301234567890123456/app`. */
  readonly identity: string
  /** True where the identity tells sources of one host apart only (a path): the host is added to it then. */
  readonly local?: boolean
  readonly version: string
  readonly units: readonly Unit[]
  /** Plain bytes to expect, all units together; 0 when it cannot be known. */
  readonly estimate: number
  /** What hinders no backup, and should be known before one is needed. */
  readonly advice?: readonly Advice[]
}

/** How exact the census is to be: names only, row counts, or content digests. */
export type CensusLevel = 'none' | 'objects' | 'counts'

/** What was in the source at the moment of the backup; the yardstick of a test restore. */
export interface Census {
  readonly level: CensusLevel
  /** Taken in the very snapshot of the backup, or close to it. */
  readonly at: 'snapshot' | 'near'
  /** One entry for each table, collection or file set; `rows` is null where only the name is known. */
  readonly objects: readonly { readonly name: string; readonly rows: number | null }[]
  /** What is there but may not be read with the rights at hand. */
  readonly unseen: readonly string[]
}

/** A source's last word about a backup. */
export interface SourceFacts {
  readonly kind: Kind
  /** When the snapshot was taken. */
  readonly capturedAt: Date
  /** From which moment on the restored data is consistent; usually `capturedAt`. */
  readonly consistentAt: Date
  /** The program that made the data: `pg_dump 15.18`. */
  readonly client: string
  /** What the restorer will need to know; no secrets. */
  readonly options: Readonly<Record<string, unknown>>
  readonly chain?: Chain
  readonly warnings: readonly Warning[]
  /** Why a part of the unit is not in the backup, which is good for the rest. */
  readonly missing?: readonly Failure[]
}

/**
 * One moment of a source, held open.
 *
 * `artifacts`: lazy; with `concurrency` 1 each is drained before the next is asked for, with n up to n are open at once.
 * `census`: of the same moment; may be called beside the artifacts, once.
 * `finish`: after the last artifact: the source's last word. If it throws there is no backup.
 * Disposing: always happens, may happen twice, never throws.
 */
export interface Session extends AsyncDisposable {
  readonly concurrency: number
  artifacts(): AsyncIterable<Artifact>
  census(): Promise<Census>
  finish(): Promise<SourceFacts>
}

/**
 * Something to back up.
 *
 * `inspect` changes nothing and holds nothing: it serves preflight and doctor, and throws a Failure that says what to do.
 * `check` serves doctor: why a backup of this unit would fail or lack a part, as far as `inspect` has not thrown it. It
 * changes nothing and holds nothing. Without it, `inspect` finds all that can be found before a backup.
 * `open` takes snapshot, connection or slot, or throws leaving nothing held.
 */
export interface Source {
  readonly engine: string
  inspect(ctx: Context): Promise<Inspection>
  check?(unit: Unit, ctx: Context): Promise<Failure[]>
  open(unit: Unit, parent: Manifest | null, census: CensusLevel, ctx: Context): Promise<Session>
  /** Why silence on this source is legal or not: asked before a stall is declared, e.g. `waiting for a lock held by pid 7`. */
  whySilent?(ctx: Context): Promise<string>
}

/**
 * Something entered before capture and left whatever happens: stopped containers, hooks.
 *
 * `enter` writes down its undo durably (in the journal) before it acts. `leave` runs whatever happened, and is
 * harmless when `enter` failed half-way. `recover` puts right what a process that died had entered.
 */
export interface Guard {
  readonly name: string
  /** How long leaving may take; two minutes unless it says so. */
  readonly leaveMs?: number
  /** Whether a process has entered it and not left: one that died, or one that is running. */
  isLeft?(): boolean
  /** What it would do, for a person; changes nothing, and throws when it could not be entered. */
  check?(ctx: Context): Promise<string>
  enter(ctx: Context): Promise<void>
  leave(ctx: Context): Promise<void>
  recover(ctx: Context): Promise<void>
}
