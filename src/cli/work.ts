import { type App, openApp, stallOf } from '../app.ts'
import { whereElse } from '../engine/astray.ts'
import { type Catalog, type CatalogEntry, newestNamed, readCatalog, resolve } from '../engine/catalog.ts'
import { readHidden } from '../engine/hidden.ts'
import type { Context } from '../model/context.ts'
import { type ExitCode, exitCode, Failure, usage } from '../model/failure.ts'
import { idPattern } from '../model/key.ts'
import { parseDuration, showCount } from '../model/quantity.ts'
import type { Store } from '../model/store.ts'
import type { Reading } from '../stages/index.ts'
import { answerHangUps, endAtHangUp } from './hang-up.ts'
import { beVerbose, type Global, interruptSignal, sayFailure } from './io.ts'
import { type Reporter, reporter } from './reporter.ts'

/** What a command works with. */
export interface Work {
  readonly app: App
  readonly ctx: Context
  readonly report: Reporter
}

/**
 * Opens what the command line names, does the work, and leaves nothing behind whatever happens: no process, no folder.
 * `live`: it is done while somebody waits, so that a progress line is shown and SIGHUP ends it; else it answers SIGHUP itself.
 */
export async function withApp(
  global: Global,
  work: (work: Work) => Promise<ExitCode>,
  open: () => App | Promise<App> = () => openApp(global.config),
  live = true,
): Promise<ExitCode> {
  const stallMs = stallFlag(global)
  const app = await open()
  for (const note of app.notes)
    if (!global.quiet) sayFailure({ what: 'the environment', why: note, remedy: '' }, 'warning')
  if (app.isVerbose || global.verbose) beVerbose()
  const report = reporter(global, live)
  try {
    using ctx = app.context(interruptSignal(), report.emit, stallMs)
    if (live) answerHangUps(endAtHangUp)
    try {
      return await work({ app, ctx, report })
    } finally {
      await app.close()
    }
  } finally {
    report.end()
  }
}

function stallFlag({ stall }: Global): number | undefined {
  if (stall === undefined) return undefined
  const ms = parseDuration(stall)
  if (ms === null)
    throw usage(
      `"${stall}" is not a duration`,
      'a whole number and a unit are needed',
      'for example: --stall 30min',
    )
  return ms
}

/** How long a job may be silent: as the command line says it, else the job. */
export function contextFor(job: string, { app, ctx }: Work, { stall }: Global): Context {
  return stall === undefined ? { ...ctx, stallMs: stallOf(app.config, job) } : ctx
}

const patienceMs = 3_000

/** For what somebody waits for at a terminal, and who can ask again: a store that nobody answers for is soon given up. */
export function awaited(ctx: Context): Context {
  return { ...ctx, patienceMs }
}

/**
 * The backup that a handle names, in these stores. Stores that do not answer are reported on stderr. For who only `reads`, one that
 * delete markers hide is found by its whole id.
 */
export async function findBackup(
  app: App,
  stores: readonly Store[],
  handle: string,
  ctx: Context,
  reads = false,
): Promise<{ catalog: Catalog; entry: CatalogEntry }> {
  const job = newestNamed(handle)?.job ?? null
  const names = job === null ? null : app.namesOf(job)
  const own = await readCatalog(stores, names, awaited(ctx), app.named)
  // Of a job that has none the name may be mistyped: those of the others tell.
  const isAlone = names !== null && own.entries.length === 0
  const catalog = isAlone ? await readCatalog(stores, null, awaited(ctx), app.named) : own
  const found = (entry: CatalogEntry): { catalog: Catalog; entry: CatalogEntry } => {
    saySilent(catalog)
    return { catalog, entry }
  }
  try {
    return found(resolve(catalog, handle, app.namesOf, app.named))
  } catch (error) {
    const isAbsent = error instanceof Failure && error.exit === exitCode.noSuchBackup
    // All that the stores ever held is looked through for a whole id only, or where they show nothing.
    if (!isAbsent || (!idPattern.test(handle) && own.entries.length > 0)) throw error
    const hidden = await hiddenIn(app, stores, names, ctx)
    const entry = hidden.find(({ id }) => id === handle)
    if (entry && reads) return found(entry)
    const { what, why, exit, remedy } = error
    throw new Failure({ what, why, exit, remedy: (await whereElseThan(hidden, stores, ctx)) ?? remedy })
  }
}

async function hiddenIn(
  app: App,
  stores: readonly Store[],
  names: readonly string[] | null,
  ctx: Context,
): Promise<readonly CatalogEntry[]> {
  try {
    return (await readHidden(stores, names, awaited(ctx), app.named)).entries
  } catch {
    ctx.signal.throwIfAborted()
    return []
  }
}

/**
 * What a person who finds no backup in these stores, under these job names or under all, can do; null when they show nothing else, or
 * do show backups.
 */
export async function whereToLook(
  app: App,
  stores: readonly Store[],
  names: readonly string[] | null,
  ctx: Context,
): Promise<string | null> {
  return await whereElseThan(await hiddenIn(app, stores, names, ctx), stores, ctx)
}

async function whereElseThan(
  hidden: readonly CatalogEntry[],
  stores: readonly Store[],
  ctx: Context,
): Promise<string | null> {
  if (hidden.length > 0)
    return `${showCount(hidden.length, 'backup')} hidden by delete markers: cairn list --hidden shows them, and each is restored by its whole ID`
  for (const store of stores.filter(({ can }) => can.list)) {
    const clue = await whereElse(store, awaited(ctx))
    if (clue !== null) return clue
  }
  return null
}

/** What can be read with the keys at hand. Those of the configuration that cannot be read are reported on stderr. */
export async function readingOf(app: App, identity: string | undefined): Promise<Reading> {
  const reading = await app.reading(identity)
  for (const failure of reading.unread) sayFailure(failure, 'warning')
  return reading
}

export function saySilent(catalog: Catalog): void {
  for (const { store, failure } of catalog.silent) {
    sayFailure(
      {
        ...failure,
        what: `store ${store.name} does not answer`,
        why: failure.message,
        remedy: failure.remedy,
      },
      'warning',
    )
  }
}
