import { createHash } from 'node:crypto'
import type { Context } from '../model/context.ts'
import { asFailure, damage, Failure, isDamage } from '../model/failure.ts'
import { parseManifestKey } from '../model/key.ts'
import { decodeManifest, type Manifest, manifestLimit, NewerFormat } from '../model/manifest.ts'
import { NotFound } from '../model/store.ts'
import type { CatalogEntry, Copy } from './entry.ts'
import { withFirstVersions } from './first-versions.ts'
import { foreignManifest } from './foreign.ts'
import { collect } from './objects.ts'

/**
 * The manifest of a copy, read from its store and checked against its key: a file that was changed but still parses
 * is damage (exit 20), as is one that is gone. Of a backup that is known by its name alone: what a manifest would say, and
 * no file.
 */
export async function readManifest(
  copy: Pick<Copy, 'store' | 'manifestKey' | 'foreign'>,
  ctx: Context,
): Promise<{ manifest: Manifest; file: Uint8Array }> {
  if (copy.foreign) return { manifest: foreignManifest(copy.foreign), file: new Uint8Array() }
  const parsed = parseManifestKey(copy.manifestKey)
  const which = `the manifest of ${parsed?.id} in store ${copy.store.name}`
  const what = `${which} is damaged`
  let file: Buffer
  try {
    file = await collect(copy.store.get(copy.manifestKey, {}, ctx), manifestLimit)
  } catch (error) {
    if (error instanceof NotFound) throw damage(what, 'it is missing', elsewhere)
    throw asFailure(error, `cannot read ${which}`)
  }
  const digest = createHash('sha256').update(file).digest('hex').slice(0, 16)
  if (digest !== parsed?.digest) throw damage(what, 'its SHA-256 is not the one in its name', elsewhere)
  try {
    const manifest = decodeManifest(file)
    if (manifest.id !== parsed.id || manifest.job !== parsed.job)
      throw new Error('it belongs to another backup')
    return { manifest, file }
  } catch (error) {
    const why = (error as Error).message
    if (error instanceof NewerFormat)
      throw new Failure({ what: `cannot read ${which}`, why, remedy: 'use a newer Cairn' })
    throw damage(what, why, elsewhere)
  }
}

const elsewhere = 'take its copy in another store, or an older backup: cairn list shows what there is'

/**
 * The manifest of a backup, from the first copy that gives a sound one, else as it was first written, where somebody has
 * overwritten or hidden it in a store that keeps versions; throws the first copy's failure when none does.
 */
export async function manifestFrom(
  entry: CatalogEntry,
  ctx: Context,
): Promise<{ manifest: Manifest; file: Uint8Array }> {
  let first: Failure | null = null
  for (const copy of entry.copies) {
    try {
      return await readManifest(copy, ctx)
    } catch (error) {
      ctx.signal.throwIfAborted()
      first ??= asFailure(error, `cannot read the manifest of ${entry.id}`)
    }
  }
  const earlier = isDamage(first) ? await firstManifest(entry, ctx) : null
  if (earlier) return earlier
  throw first ?? new Failure({ what: `cannot read ${entry.id}`, why: 'no store has a copy' })
}

async function firstManifest(entry: CatalogEntry, ctx: Context) {
  for (const copy of entry.copies) {
    const store = await withFirstVersions(copy.store, [copy.manifestKey], ctx)
    const read = store && (await readManifest({ ...copy, store }, ctx).catch(() => null))
    ctx.signal.throwIfAborted()
    if (!read) continue
    const what = `somebody has overwritten or hidden the manifest of ${entry.id}`
    ctx.emit({ type: 'warning', what, why: 'its first version is right', remedy, store: copy.store.name })
    return read
  }
  return null
}

const remedy = 'find out who writes to the store beside Cairn: docs/how-to/s3.md'
