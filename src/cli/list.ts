import type { App } from '../app.ts'
import { type CatalogEntry, isIncomplete, isLive, isSilent, readCatalog } from '../engine/catalog.ts'
import { readHidden } from '../engine/hidden.ts'
import type { Context } from '../model/context.ts'
import { type ExitCode, exitCode } from '../model/failure.ts'
import { showBytes } from '../model/quantity.ts'
import { type Global, isoLocal, out, outJson, say, sayFailure, showTime, table } from './io.ts'
import { awaited, saySilent, whereToLook, withApp } from './work.ts'

interface Options extends Global {
  readonly store: readonly string[]
  readonly deleted?: boolean
  readonly hidden?: boolean
}

/** `cairn list [JOB]`: backups, newest first. Exit 3 when a store did not answer: what it holds is missing from the list. */
export function run(job: string | undefined, options: Options): Promise<ExitCode> {
  return withApp(options, async ({ app, ctx }) => {
    if (options.hidden) return await listHidden(job, options, app, ctx)
    const catalog = await readCatalog(
      await app.stores(options.store),
      job ? app.namesOf(job) : null,
      awaited(ctx),
      app.named,
    )
    // What only a store knows is a job too.
    if (job && catalog.entries.length + catalog.silent.length + options.store.length === 0)
      app.jobNames([job])
    const entries = catalog.entries.filter(entry => options.deleted || isLive(entry))
    if (options.json) await outJson(entries.map(toJson))
    else if (entries.length === 0) {
      const asked = options.store.filter(name => !isSilent(name, catalog))
      const names = job ? app.namesOf(job) : null
      const clue = asked.length > 0 ? await whereToLook(app, await app.stores(asked), names, ctx) : null
      say(nothingIn(job, asked, clue))
    } else await out(toTable(entries))
    saySilent(catalog)
    return catalog.silent.length > 0 ? exitCode.partial : exitCode.ok
  })
}

/** What delete markers hide in stores that keep versions. Exit 0 also when there is something. */
async function listHidden(
  job: string | undefined,
  options: Options,
  app: App,
  ctx: Context,
): Promise<ExitCode> {
  const jobs = job ? app.namesOf(job) : null
  const { entries, blind, silent } = await readHidden(
    await app.stores(options.store),
    jobs,
    awaited(ctx),
    app.named,
  )
  if (options.json) await outJson(entries.map(entry => ({ ...toJson(entry), status: 'hidden' })))
  else if (entries.length > 0) await out(toTable(entries, 'hidden'))
  else say('no backup is hidden')
  for (const name of blind) say(`${name} shows no versions: it keeps none, or they may not be listed`)
  if (entries.length > 0 && !options.json)
    sayFailure(
      {
        what: 'these backups are hidden by delete markers',
        why: 'whoever deleted them gave no version',
        remedy: unhiding,
      },
      'warning',
    )
  saySilent({ entries, silent })
  return silent.length > 0 ? exitCode.partial : exitCode.ok
}

const unhiding =
  'restore what is needed by its ID; deleting the delete markers brings all back: docs/how-to/s3.md shows how'

/** Where an address was given that holds nothing, it may be the wrong one: a folder or a prefix above or below. */
function nothingIn(job: string | undefined, stores: readonly string[], clue: string | null): string {
  const none = job ? `no backup of ${job}` : 'no backup'
  return stores.length === 0
    ? `${none} yet`
    : `${none} in ${stores.join(', ')}: ${clue ?? 'is it the right folder, bucket and prefix?'}`
}

function toJson(entry: CatalogEntry) {
  return {
    cairn: 1,
    id: entry.id,
    job: entry.job,
    unit: entry.unit,
    source: entry.engine,
    startedAt: isoLocal(entry.startedAt),
    finishedAt: isoLocal(entry.finishedAt),
    status: statusOf(entry),
    sizeBytes: entry.bytes,
    stores: liveStores(entry),
    encrypted: entry.encryption !== 'none',
    kind: entry.kind,
    held: entry.copies.some(copy => copy.marks.held),
  }
}

function statusOf(entry: CatalogEntry): 'complete' | 'incomplete' | 'deleted' {
  if (!isLive(entry)) return 'deleted'
  return isIncomplete(entry) ? 'incomplete' : 'complete'
}

/** The stores that hold a whole copy and mean to keep it; of a deleted backup, those that still have it. */
function liveStores(entry: CatalogEntry): string[] {
  const live = entry.copies.filter(copy => !copy.marks.deletedAt)
  return (live.length > 0 ? live : entry.copies).map(copy => copy.store.name)
}

function toTable(entries: readonly CatalogEntry[], state = ''): string {
  const rows = entries.map(entry => [
    entry.id,
    entry.job,
    JSON.stringify(entry.unit ?? '').slice(1, -1),
    entry.engine,
    showTime(entry.startedAt),
    showBytes(entry.bytes),
    entry.encryption === 'none' ? 'no' : entry.encryption,
    liveStores(entry).join(', '),
    [
      entry.copies.some(copy => copy.marks.held) ? 'held' : '',
      isIncomplete(entry) ? 'incomplete' : '',
      isLive(entry) ? '' : 'deleted',
      state,
    ]
      .filter(Boolean)
      .join(', '),
  ])
  return table(['ID', 'JOB', 'UNIT', 'SOURCE', 'STARTED', 'SIZE', 'ENCRYPTED', 'STORES', ''], rows, [5])
}
