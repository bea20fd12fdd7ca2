import type { Span } from './duration-words.ts'
import type { KeyPattern } from './key-pattern.ts'
import type { Role } from './manifest.ts'
import type { CensusLevel, Guard, Source } from './source.ts'
import type { Stage } from './step.ts'
import type { Lock, Store } from './store.ts'

/** What a destination keeps: a backup that any rule keeps stays. */
export interface Retention {
  /** The newest n. */
  readonly last?: number
  /** Those not older than this when the newest was made. */
  readonly withinMs?: number
  /** The newest of each of the newest n hours, days, weeks, months and years that have one. */
  readonly hourly?: number
  readonly daily?: number
  readonly weekly?: number
  readonly monthly?: number
  readonly yearly?: number
}

/** Where a job's backups go, and how long they stay there. */
export interface Destination {
  readonly store: Store
  readonly keep: Retention
  readonly lock?: { readonly mode: Lock['mode']; readonly for: Span }
  readonly tags?: Readonly<Record<string, string>>
  /** When its objects may go by themselves, from the start of the backup: said to the store, which may do so. */
  readonly expires?: Span
  /** Fed from that store, after it has the whole backup, instead of from the stream. */
  readonly after?: string
}

/** The key of an artifact: relative to the store's root, decided once, recorded in the manifest, never derived again. */
export type Naming = (
  backup: { readonly id: string; readonly job: string; readonly unit: string; readonly startedAt: Date },
  artifact: {
    readonly name: string
    readonly role: Role
    readonly ordinal: number
    readonly suffix: string
  },
) => string

/** Sources, stages, stores, retention and guards under one name. */
export interface Job {
  readonly name: string
  /** Names it had before: the backups made under them are its own. */
  readonly formerly: readonly string[]
  /** Backed up one after another in one run, every unit of each by itself. */
  readonly sources: readonly Source[]
  readonly stages: readonly Stage[]
  readonly to: readonly Destination[]
  readonly naming: Naming
  /**
   * How the objects are named that the job names its own way: one object a backup, for those who must find it by its name
   * alone. What Cairn writes beside it (records, census) is a help then, not a condition: a store that takes nothing else is
   * good enough.
   */
  readonly pattern?: KeyPattern
  /** The units of such a job, where it names each of them: what is called after others is somebody else's. */
  readonly units?: readonly string[]
  readonly guards: readonly Guard[]
  /** `spool`: the source is held only while it is read onto local disk; stores are fed afterwards. */
  readonly capture: 'stream' | 'spool'
  readonly census: CensusLevel
  /** The zone in which the days, weeks and years of retention begin: `Europe/Berlin`. */
  readonly zone: string
  /** How long a deletion can be taken back. */
  readonly undeleteMs: number
}
