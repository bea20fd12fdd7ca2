import type { MarkState } from '../model/mark.ts'
import type { Store } from '../model/store.ts'
import type { ForeignObject } from './foreign.ts'

/** A whole copy of a backup in one store. */
export interface Copy {
  readonly store: Store
  /** Empty where there is none: then it is `foreign`. */
  readonly manifestKey: string
  /** The object that is the backup by its name alone: another tool's, or one whose manifest could not be written. */
  readonly foreign?: ForeignObject
  readonly marks: MarkState
  readonly finishedAt: Date
}

/** A backup, as the keys of the stores tell of it: no object was opened. */
export interface CatalogEntry {
  readonly id: string
  readonly job: string
  /** Null where the key does not tell it. */
  readonly unit: string | null
  readonly engine: string
  readonly kind: string
  readonly encryption: string
  readonly bytes: number
  readonly startedAt: Date
  readonly finishedAt: Date
  /** In the order of their stores, those that are deleted last. */
  readonly copies: readonly Copy[]
}
