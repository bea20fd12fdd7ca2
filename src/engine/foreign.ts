import { createHash } from 'node:crypto'
import type { Context } from '../model/context.ts'
import { newId } from '../model/key.ts'
import type { KeyPattern } from '../model/key-pattern.ts'
import type { ArtifactRecord, Manifest } from '../model/manifest.ts'
import type { Store, VersionEntry } from '../model/store.ts'

/**
 * Where the objects of a job are found by their names alone: those that the tool has left which Cairn replaced, and its
 * own that have no manifest. Each is a whole backup, because nothing is visible under such a name until it is.
 */
export interface NamedObjects {
  readonly job: string
  /** The names of the stores that it goes to. */
  readonly stores: readonly string[]
  readonly pattern: KeyPattern
  readonly engine: string
  /** What kind of bytes they are, once the stages are undone. */
  readonly media: string
  readonly stages: ArtifactRecord['stages']
  readonly undo: string
  /** The unit of those whose name does not tell it. */
  readonly unit: string
  /** The units that are named one by one: a name may spell them in another way. */
  readonly units?: readonly string[]
  /** What the artifact is called, and what a manifest would hold for the restorer. */
  facts(unit: string): { readonly artifact: string; readonly options: Readonly<Record<string, unknown>> }
}

/** An object that is a backup by its name. */
export interface ForeignObject extends VersionEntry {
  readonly id: string
  readonly from: NamedObjects
  readonly unit: string
  /** The same, as the name has it. */
  readonly spelled: string
  readonly startedAt: Date
}

/** The objects of a store that are backups of these jobs by their names. */
export async function* foreignIn(
  store: Store,
  all: readonly NamedObjects[],
  ctx: Context,
): AsyncGenerator<ForeignObject, void, undefined> {
  for (const from of all.filter(each => each.stores.includes(store.name))) {
    const { prefix, isUnique } = from.pattern
    const listed = !isUnique && store.listVersions ? store.listVersions(prefix, ctx) : store.list(prefix, ctx)
    for await (const entry of listed) {
      const object = entry.key.startsWith('.cairn/') ? null : foreignObject(entry, from)
      if (object) yield object
    }
  }
}

/**
 * Null for an object of another name, and for one that holds nothing: no backup is so small, and such are what dumps that failed
 * have left, or what clearing up after an upload shows for a moment (rclone, on Azure).
 */
function foreignObject(entry: VersionEntry, from: NamedObjects): ForeignObject | null {
  const found = entry.bytes === 0 ? null : from.pattern.match(entry.key)
  if (!found) return null
  // A name that tells less than the second is of several backups, one after another.
  const startedAt = from.pattern.isUnique ? (found.at ?? entry.modified) : entry.modified
  const digest = createHash('sha256').update(JSON.stringify([entry.key, entry.version ?? '']))
  const spelled = found.unit ?? from.unit
  const unit = unitSpelled(spelled, from)
  return { ...entry, id: newId(startedAt, digest.digest()), from, unit, spelled, startedAt }
}

/** How the names of a job spell a unit. */
export function spellingOf(unit: string, pattern: KeyPattern): string | null {
  return pattern.match(pattern.key(unit, new Date(0)))?.unit ?? null
}

/** The unit itself where it is one that the job names: `a b` for `a-b`, which may be another one on the same server. */
function unitSpelled(spelled: string, { units = [], pattern }: NamedObjects): string {
  return units.find(unit => spellingOf(unit, pattern) === spelled) ?? spelled
}

/** What a manifest would say of it. It stands in no store. */
export function foreignManifest(object: ForeignObject): Manifest {
  const { from, key, bytes, unit, version } = object
  const at = object.startedAt.toISOString()
  const { artifact, options } = from.facts(unit)
  const part = { key, bytes, sha256: null, ...(version === undefined ? {} : { version }) }
  return {
    cairn: 1,
    id: object.id,
    job: from.job,
    unit,
    kind: 'foreign',
    tool: 'not known',
    host: 'not known',
    ...{ startedAt: at, capturedAt: at, consistentAt: at, finishedAt: object.modified.toISOString() },
    source: { engine: from.engine, identity: 'not known', version: '', client: 'not known', options },
    artifacts: [
      {
        name: artifact,
        media: from.media,
        role: 'data',
        stages: from.stages,
        plain: { bytes: null, sha256: null },
        stored: { bytes, sha256: null },
        objects: [part],
        undo: from.undo,
      },
    ],
    census: null,
    encrypted: /\.(gpg|age|aes|enc)$/.test(key),
    warnings: [],
  }
}
