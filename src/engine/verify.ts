import type { Context } from '../model/context.ts'
import { asFailure, damage, type Failure } from '../model/failure.ts'
import { markPrefix, parseMarkKey } from '../model/key.ts'
import type { ArtifactRecord, Manifest } from '../model/manifest.ts'
import type { Store } from '../model/store.ts'
import { edge } from '../platform/run-context.ts'
import type { CatalogEntry, Copy } from './catalog.ts'
import { putMark } from './marking.ts'
import { collect } from './objects.ts'
import { tally } from './pieces.ts'
import { artifactReader, type StagesOf, storedBytes } from './reader.ts'
import { readManifest } from './stated.ts'

/** What reading one copy of a backup back has shown. */
export interface Verified {
  readonly id: string
  readonly store: string
  /** `decoded`: every byte was decrypted and decompressed; `stored`: no key is at hand, so only the stored digests were checked. */
  readonly level: 'decoded' | 'stored'
  readonly bytes: number
  /** One failure for each artifact that is not what was written; empty when the copy is sound. */
  readonly failures: readonly Failure[]
}

interface Plain {
  readonly bytes: number
  readonly sha256: string
}

/**
 * Reads every byte of a copy back from its store. Nothing is changed, except that the first full reading writes down the
 * plain digests in a mark, for later readings to compare with. Throws only when aborted; a manifest that is damaged or
 * a store that does not answer is a failure in the result.
 */
export async function verifyCopy(
  entry: CatalogEntry,
  copy: Copy,
  stagesOf: StagesOf,
  canDecode: (record: ArtifactRecord) => boolean,
  ctx: Context,
): Promise<Verified> {
  const { store } = copy
  const base = { id: entry.id, store: store.name }
  let manifest: Manifest
  try {
    manifest = (await readManifest(copy, ctx)).manifest
  } catch (error) {
    ctx.signal.throwIfAborted()
    return { ...base, level: 'stored', bytes: 0, failures: [asFailure(error, `cannot verify ${entry.id}`)] }
  }
  const level = manifest.artifacts.every(canDecode) ? 'decoded' : 'stored'
  const before = await recordedDigests(store, entry.id, ctx)
  const plain: Record<string, Plain> = {}
  const failures: Failure[] = []
  let bytes = 0
  for (const record of manifest.artifacts) {
    try {
      if (level === 'decoded') plain[record.name] = await decodeAll(record, store, stagesOf, ctx)
      else for await (const _ of storedBytes(record, store, ctx));
      const fault = plainFault(record, plain[record.name], before?.[record.name])
      if (fault) throw damage(`${record.name} is damaged in store ${store.name}`, fault)
      bytes += record.stored.bytes
    } catch (error) {
      ctx.signal.throwIfAborted()
      failures.push(asFailure(error, `cannot verify ${record.name} in store ${store.name}`))
    }
  }
  if (level === 'decoded' && failures.length === 0 && !before) await record(store, entry.id, plain, ctx)
  return { ...base, level, bytes, failures }
}

async function decodeAll(
  record: ArtifactRecord,
  store: Store,
  stagesOf: StagesOf,
  ctx: Context,
): Promise<Plain> {
  const counted = tally()
  const reader = artifactReader(store, stagesOf, edge(ctx))
  for await (const _ of counted.through(reader.open(record)));
  return counted.total()
}

/** Why the plain bytes are not the ones that were backed up, or null. */
function plainFault(
  record: ArtifactRecord,
  found: Plain | undefined,
  before: Plain | undefined,
): string | null {
  if (!found) return null
  const known = record.plain.sha256 ?? before?.sha256
  if (known && known !== found.sha256) return 'the SHA-256 of its plain bytes is not the one on record'
  return null
}

/** The plain digests that an earlier full reading wrote down; null when there was none. */
async function recordedDigests(
  store: Store,
  id: string,
  ctx: Context,
): Promise<Record<string, Plain> | null> {
  try {
    for await (const { key } of store.list(`${markPrefix}${id}/`, ctx)) {
      if (parseMarkKey(key)?.mark !== 'verified') continue
      const mark: { plain?: Record<string, Plain> } = JSON.parse(
        (await collect(store.get(key, {}, ctx))).toString(),
      )
      return mark.plain ?? null
    }
  } catch {
    // A mark is a help, not a condition: without it the stored digests and the stages' own checks still hold.
  }
  return null
}

async function record(store: Store, id: string, plain: Record<string, Plain>, ctx: Context): Promise<void> {
  try {
    await putMark(store, id, 'verified', { plain }, ctx)
  } catch {
    ctx.signal.throwIfAborted()
    // An identity that may only read can still verify.
  }
}
