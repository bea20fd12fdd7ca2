import * as z from 'zod'

/**
 * Small objects that say something about a backup later. None is ever overwritten; what holds now is the fold
 * over all of them in the order of their times.
 *
 * `stored`: the version ids of the objects in this store. `verified`: every byte was read back and decoded; holds the
 * plain digests. `incomplete`: a part of the unit is not in it, as its manifest says. `hold`/`release`, `delete`/`undelete`: what a person or retention asked for. `deleting`: its data
 * is being removed, which nothing takes back. `proved`: restored and compared. `running`: the backup was still being made then.
 * `failed`: it was given up.
 */
export type MarkKind =
  | 'stored'
  | 'verified'
  | 'incomplete'
  | 'hold'
  | 'release'
  | 'delete'
  | 'undelete'
  | 'deleting'
  | 'proved'
  | 'running'
  | 'failed'

/** What holds for a backup in one store. */
export interface MarkState {
  readonly held: boolean
  /** When deletion was asked for; the data may still be there, and `undelete` takes it back. */
  readonly deletedAt: Date | null
  /** Its data is being removed: nothing takes that back. */
  readonly isGoing: boolean
  readonly provedAt: Date | null
  /** When every byte was first read back and decoded. */
  readonly verifiedAt: Date | null
  /** A part of the unit is not in it. The manifest tells too, which counts where more than a listing depends on it. */
  readonly isIncomplete: boolean
}

const noMarks: MarkState = {
  held: false,
  deletedAt: null,
  isGoing: false,
  provedAt: null,
  verifiedAt: null,
  isIncomplete: false,
}

/** The state after these marks, given as they stand in the keys (any order). Unknown kinds are passed over. */
export function foldMarks(marks: readonly { readonly at: string; readonly mark: string }[]): MarkState {
  let state = noMarks
  for (const { at, mark } of marks.toSorted((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0))) {
    if (mark === 'hold') state = { ...state, held: true }
    else if (mark === 'release') state = { ...state, held: false }
    else if (mark === 'delete') state = { ...state, deletedAt: markTime(at) }
    else if (mark === 'undelete' && !state.isGoing) state = { ...state, deletedAt: null }
    else if (mark === 'deleting')
      state = { ...state, deletedAt: state.deletedAt ?? markTime(at), isGoing: true }
    else if (mark === 'incomplete') state = { ...state, isIncomplete: true }
    else if (mark === 'verified') state = { ...state, verifiedAt: state.verifiedAt ?? markTime(at) }
    else if (mark === 'proved') state = { ...state, provedAt: markTime(at) }
  }
  return state
}

/** The time in a mark's key. */
export function markTime(at: string): Date {
  const [, y, mo, d, h, mi, s, ms] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z$/.exec(at) ?? []
  return new Date(`${y}-${mo}-${d}T${h}:${mi}:${s}.${ms}Z`)
}

/** The intent of a backup, written before its first byte: what may be removed if its manifest never comes. */
export const Begin = z.object({
  cairn: z.literal(1),
  id: z.string(),
  job: z.string(),
  host: z.string(),
  startedAt: z.iso.datetime(),
  /** Until then the backup may still be running on a host that is not heard of; longer, where `running` marks follow. */
  expires: z.iso.datetime(),
  /** Keys under these prefixes are this backup's and nobody else's. */
  prefixes: z.array(z.string().min(1)),
  /** What is unfinished under these keys is this backup's; what stands there whole is not touched. */
  unfinished: z.array(z.string().min(1)).optional(),
  /** The backup that this one builds on; kept as long as this begin record counts. */
  parent: z.string().nullable(),
})
export type Begin = z.infer<typeof Begin>
