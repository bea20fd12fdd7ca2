import type { Context } from '../model/context.ts'
import { usage } from '../model/failure.ts'
import type { Manifest } from '../model/manifest.ts'
import type { ArtifactReader, RestorePlan, RestoreReport, Restorer, Selection } from '../model/restore.ts'
import type { Store } from '../model/store.ts'
import { withFirstReadable } from './first-readable.ts'
import { keysToTell } from './first-versions.ts'
import { artifactReader, type StagesOf } from './reader.ts'

/**
 * Restores a backup from the first store whose copy is sound. The restorer commits only what was read whole and right,
 * so a damaged copy leaves the target as it was, and the next store's copy is tried; every other failure ends it.
 * `replace` is a person's consent to what the plan said would be overwritten. `ready` is called once, before anything is
 * touched, and when the key was tried at least. Throws what the last attempt threw.
 */
export async function restore(
  manifest: Manifest,
  from: readonly Store[],
  restorer: Restorer,
  pick: Selection,
  replace: boolean,
  stagesOf: StagesOf,
  ctx: Context,
  ready?: () => Promise<void>,
): Promise<RestoreReport> {
  checkSelection(manifest, restorer, pick)
  const once = ready && onlyOnce(ready)
  const work = async (store: Store): Promise<RestoreReport> => {
    ctx.emit({ type: 'phase', phase: 'restore', job: manifest.job, unit: manifest.unit })
    const reader = artifactReader(store, stagesOf, ctx)
    if (once && !restorer.readsFirst) {
      await tryKeys(manifest, pick, reader)
      await once()
    }
    return measured(await restorer.apply([manifest], pick, replace, reader, ctx, once), manifest, pick)
  }
  return await withFirst(manifest, from, work, ctx)
}

function withFirst<T>(
  manifest: Manifest,
  from: readonly Store[],
  work: (store: Store) => Promise<T>,
  ctx: Context,
): Promise<T> {
  const keys = manifest.artifacts.flatMap(keysToTell)
  return withFirstReadable(from, keys, () => `cannot restore ${manifest.id}`, work, ctx)
}

/** Another store's copy may be tried when all is ready already. */
function onlyOnce(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | null = null
  return () => {
    done ??= work()
    return done
  }
}

/** Reads the beginning of what is wanted: a wrong key shows there. */
async function tryKeys({ artifacts }: Manifest, { only }: Selection, read: ArtifactReader): Promise<void> {
  const named = artifacts.filter(({ name }) => only?.includes(name))
  for (const record of named.length > 0 ? named : artifacts) for await (const _ of read.open(record)) break
}

/** Where the census is not of the dump's own moment, rows come and go between the two: so many of a hundred are no sign. */
const nearPercent = 5

/** The census is the yardstick: what came back whole and is less than the source held is told, and counts as a part. */
function measured(
  report: RestoreReport,
  { census }: Manifest,
  { only, options = {} }: Selection,
): RestoreReport {
  const isPart = only !== undefined || options.schemaOnly === true || options.dataOnly === true
  if (isPart || census?.rows == null || report.rows === null) return report
  const isExact = census.at === 'snapshot'
  const least = isExact ? census.rows : census.rows * (1 - nearPercent / 100)
  if (report.rows >= least) return report
  const held = `the source held ${isExact ? '' : 'about '}${census.rows} rows when it was backed up`
  const warning = `${held}, and ${report.rows} are there now: compare with \`cairn show\` and census.json`
  // Who may not see all that was restored counts less.
  const isShort = isExact && (report.objects ?? 0) >= census.objects
  return { ...report, warnings: [...report.warnings, warning], ...(isShort ? { isShort } : {}) }
}

/** What would happen. Reads the target, and what it must of the backup, from the first store that can be read. */
export async function planRestore(
  manifest: Manifest,
  from: readonly Store[],
  restorer: Restorer,
  pick: Selection,
  stagesOf: StagesOf,
  ctx: Context,
): Promise<RestorePlan> {
  checkSelection(manifest, restorer, pick)
  const work = async (store: Store): Promise<RestorePlan> => {
    const plan = await restorer.plan([manifest], pick, ctx, artifactReader(store, stagesOf, ctx))
    if (!manifest.missing) return plan
    const lacks = manifest.missing.map(why => `the backup is incomplete: ${why}`)
    return { ...plan, warnings: [...lacks, ...plan.warnings] }
  }
  // The restore itself says which copies it passes over.
  const silent = { ...ctx, emit: () => {} }
  return await withFirst(manifest, from, work, silent)
}

function checkSelection(manifest: Manifest, restorer: Restorer, pick: Selection): void {
  const { engine } = manifest.source
  for (const [name, value] of Object.entries(pick.options ?? {})) {
    if (value === undefined || restorer.options?.some(known => known === name)) continue
    const option = `--${name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`
    throw usage(`cannot restore with ${option}`, `it means nothing for a backup of ${engine}`, 'leave it out')
  }
  const names = manifest.artifacts.map(artifact => artifact.name)
  const unknown = pick.only?.find(name => !names.includes(name))
  if (unknown === undefined || restorer.picksInside) return
  throw usage(
    `cannot restore only "${unknown}"`,
    `${manifest.id} has no such artifact`,
    `it has: ${names.join(', ')}`,
  )
}
