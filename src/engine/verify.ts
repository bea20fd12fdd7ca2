import { createHash } from 'node:crypto'
import { type ContentCheck, NotWhole } from '../model/content.ts'
import type { Context } from '../model/context.ts'
import { asFailure, damage, exitCode, type Failure, wrongKey } from '../model/failure.ts'
import { markPrefix, parseMarkKey } from '../model/key.ts'
import type { ArtifactRecord, Manifest } from '../model/manifest.ts'
import type { Bytes } from '../model/step.ts'
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
  /** What is in the artifacts, where their bytes tell: `archive.tar: 3 members`. */
  readonly contents: readonly string[]
  /** One failure for each artifact that is not what was written; empty when the copy is sound. */
  readonly failures: readonly Failure[]
}

interface Plain {
  readonly bytes: number
  readonly sha256: string
}

/** How artifacts are read, and what is known of their bytes. */
export interface Looking {
  readonly stagesOf: StagesOf
  /** Whether there is a key for each of its stages. */
  canDecode(record: ArtifactRecord): boolean
  /** What looks at its plain bytes; null where they do not tell whether they are whole. */
  contentOf(manifest: Manifest, record: ArtifactRecord): ContentCheck | null
}

/**
 * Reads every byte of a copy back from its store, and where it decodes them looks whether they are what they should be. Nothing is changed, except that the first full reading writes down the
 * plain digests in a mark, for later readings to compare with. Throws only when aborted; a manifest that is damaged or
 * a store that does not answer is a failure in the result.
 */
export async function verifyCopy(
  entry: CatalogEntry,
  copy: Copy,
  looking: Looking,
  ctx: Context,
): Promise<Verified> {
  const { store } = copy
  const base = { id: entry.id, store: store.name }
  let manifest: Manifest
  try {
    manifest = (await readManifest(copy, ctx)).manifest
  } catch (error) {
    ctx.signal.throwIfAborted()
    return {
      ...base,
      level: 'stored',
      bytes: 0,
      contents: [],
      failures: [asFailure(error, `cannot verify ${entry.id}`)],
    }
  }
  const level = manifest.artifacts.every(looking.canDecode) ? 'decoded' : 'stored'
  const before = await recordedDigests(store, entry.id, ctx)
  const plain: Record<string, Plain> = {}
  const failures: Failure[] = []
  const contents: string[] = []
  let bytes = 0
  for (const record of manifest.artifacts) {
    try {
      if (level === 'decoded') {
        const { digest, found } = await decodeAll(manifest, record, store, looking, ctx)
        plain[record.name] = digest
        if (found) contents.push(`${record.name}: ${found}`)
      } else for await (const _ of storedBytes(record, store, ctx));
      const fault = plainFault(record, plain[record.name], before?.[record.name])
      if (fault) throw damage(`${record.name} is damaged in store ${store.name}`, fault)
      bytes += record.stored.bytes
    } catch (error) {
      ctx.signal.throwIfAborted()
      failures.push(placed(error, entry.id, record.name, store.name))
    }
  }
  if (level === 'decoded' && failures.length === 0 && !before) await record(store, entry.id, plain, ctx)
  return { ...base, level, bytes, contents, failures }
}

/** A wrong key says nothing of where it was tried. */
function placed(error: unknown, id: string, name: string, store: string): Failure {
  const failure = asFailure(error, `cannot verify ${name} in store ${store}`)
  if (failure.exit !== exitCode.wrongKey) return failure
  return wrongKey(`cannot verify ${name} of ${id} in store ${store}`, failure.why, failure.remedy)
}

/** Reads an artifact to its end, also when its content is wrong: what is wrong with the stored bytes explains more. */
async function decodeAll(
  manifest: Manifest,
  record: ArtifactRecord,
  store: Store,
  { stagesOf, contentOf }: Looking,
  ctx: Context,
): Promise<{ digest: Plain; found: string }> {
  const counted = tally()
  const inner = edge(ctx)
  const bytes = counted.through(artifactReader(store, stagesOf, inner).open(record))
  const chunks = bytes[Symbol.asyncIterator]()
  async function* rest(): Bytes {
    for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value
  }
  try {
    const check = contentOf(manifest, record)
    const found = check ? await check(rest(), inner).catch(notWhole) : ''
    for await (const _ of rest());
    if (found instanceof NotWhole)
      throw damage(`${record.name} is damaged in store ${store.name}`, found.message, unfinished)
    return { digest: counted.total(), found }
  } finally {
    await chunks.return?.()
  }
}

const unfinished =
  'its bytes can be read and decoded, but whoever wrote them did not finish: try another backup'

function notWhole(error: unknown): NotWhole {
  if (error instanceof NotWhole) return error
  throw error
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

/** The plain digests that an earlier full reading wrote down; null when there was none, and where the mark itself is not what was written. */
async function recordedDigests(
  store: Store,
  id: string,
  ctx: Context,
): Promise<Record<string, Plain> | null> {
  try {
    for await (const { key } of store.list(`${markPrefix}${id}/`, ctx)) {
      if (parseMarkKey(key)?.mark !== 'verified') continue
      const mark: { plain?: Record<string, Plain>; digest?: string } = JSON.parse(
        (await collect(store.get(key, {}, ctx))).toString(),
      )
      if (mark.plain && mark.digest === digestOf(mark.plain)) return mark.plain
    }
  } catch {
    // A mark is a help, not a condition: without it the stored digests and the stages' own checks still hold.
  }
  return null
}

/** A mark has no digest in its name: without this, one that rotted would call a sound backup damaged. */
function digestOf(plain: Readonly<Record<string, Plain>>): string {
  return createHash('sha256').update(JSON.stringify(plain)).digest('hex').slice(0, 16)
}

async function record(store: Store, id: string, plain: Record<string, Plain>, ctx: Context): Promise<void> {
  try {
    await putMark(store, id, 'verified', { plain, digest: digestOf(plain) }, ctx)
  } catch {
    ctx.signal.throwIfAborted()
    // An identity that may only read can still verify.
  }
}
