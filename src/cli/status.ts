import type { App } from '../app.ts'
import {
  type Arrival,
  arrivalsOf,
  describeArrival,
  describePlace,
  isOverdue,
  storeIn,
  unitIn,
} from '../daemon/arrivals.ts'
import { firstSeen, readJobState } from '../daemon/job-state.ts'
import { lastRun } from '../daemon/run-record.ts'
import type { Context } from '../model/context.ts'
import { type ExitCode, exitCode } from '../model/failure.ts'
import { writeDuration } from '../model/quantity.ts'
import { nextRun } from '../model/schedule.ts'
import { type Global, isoLocal, out, outJson, paint, sayFailure, showTime, table } from './io.ts'
import { awaited, withApp } from './work.ts'

/** `cairn status [JOB…]`: asks the stores when something good last arrived. Exit 1 when what is expected has not. */
export function run(jobs: readonly string[], options: Global & { watched?: boolean }): Promise<ExitCode> {
  return withApp(options, async ({ app, ctx }) => {
    if (options.watched) return await alarms(app.jobNames(jobs), app, options)
    const rows = (await Promise.all(app.jobNames(jobs).map(job => statusOf(job, app, awaited(ctx))))).flat()
    if (options.json) await outJson({ cairn: 1, stores: rows.map(toJson) })
    else await out(toTable(rows))
    for (const row of rows.filter(isFirstUnasked)) sayFailure(unaskedOf(row), 'warning')
    const overdue = rows.filter(row => row.overdue)
    for (const row of overdue) sayFailure(overdueOf(row, ctx))
    return overdue.length > 0 ? exitCode.failed : exitCode.ok
  })
}

/** What `cairn serve` has written down: a look that costs nothing. */
async function alarms(jobs: readonly string[], { state }: App, options: Global): Promise<ExitCode> {
  const raised = jobs.flatMap(job =>
    Object.entries(readJobState(state, job)?.alarms ?? {}).map(([place, { raised: since }]) => ({
      ...{ job, store: storeIn(place), place, since },
    })),
  )
  if (options.json)
    await outJson({
      cairn: 1,
      alarms: raised.map(({ place, ...each }) => ({ ...each, unit: unitIn(place) })),
    })
  else
    await out(
      raised
        .map(({ job, place, since }) => `${job} ${describePlace(place)}: alarm since ${since}\n`)
        .join(''),
    )
  return raised.length > 0 ? exitCode.failed : exitCode.ok
}

/** A job, or a unit of it, in one of its stores. */
interface Row extends Arrival {
  readonly job: string
  readonly expectMs: number | null
  readonly overdue: boolean
  readonly lastRun: string
  readonly next: Date | null
}

async function statusOf(job: string, app: App, ctx: Context): Promise<Row[]> {
  const now = ctx.clock.now()
  const { expectMs, schedule, zone } = app.timing(job)
  const last = lastRun(app.state, job, now)
  // Nobody has watched it yet: a store that never got anything is not given time here.
  const since = firstSeen(app.state, job, now) ?? new Date(0)
  const arrivals = await arrivalsOf(job, app, ctx)
  return arrivals.map(arrival => ({
    job,
    ...arrival,
    expectMs,
    overdue: expectMs !== null && isOverdue(arrival, expectMs, since, now),
    lastRun: last?.end ? (last.end.exit === 0 ? 'ok' : `exit ${last.end.exit}`) : last ? 'no end' : '',
    next: schedule === null ? null : nextRun(schedule, zone, now),
  }))
}

function toTable(rows: readonly Row[]): string {
  const cells = rows.map(row => [
    nameOf(row),
    row.store,
    row.at ? showTime(row.at) : 'never',
    row.expectMs === null ? '' : `every ${writeDuration(row.expectMs)}`,
    row.overdue ? paint('red', 'OVERDUE', process.stdout) : row.expectMs === null ? '' : 'ok',
    row.lastRun,
    row.next ? showTime(row.next) : '',
  ])
  return table(['JOB', 'STORE', 'LAST GOOD', 'EXPECTED', 'STATE', 'LAST RUN', 'NEXT RUN'], cells)
}

/** As in handles: `shop/customers@latest`. */
function nameOf({ job, unit }: Row): string {
  return unit === null ? job : `${job}/${unit}`
}

function overdueOf(row: Row, ctx: Context) {
  return {
    what: `${nameOf(row)} is overdue`,
    why: describeArrival(row, ctx.clock.now()),
    remedy: `cairn runs ${row.job} shows the last runs here; cairn backup ${row.job} makes a backup now`,
  }
}

/** A store is told of once, however many units a job has. */
function isFirstUnasked({ job, store, unasked }: Row, index: number, rows: readonly Row[]): boolean {
  return unasked !== null && index === rows.findIndex(each => each.job === job && each.store === store)
}

function unaskedOf({ job, store, unasked }: Row) {
  return {
    what: `store ${store} was not asked about ${job}`,
    why: unasked ?? '',
    remedy: 'what is shown comes from the runs of this host',
  }
}

function toJson({ job, unit, store, at, unasked, expectMs, overdue, next }: Row) {
  return {
    job,
    unit,
    store,
    lastGood: at ? isoLocal(at) : null,
    asked: unasked === null,
    expectSeconds: expectMs === null ? null : expectMs / 1000,
    overdue,
    nextRun: next ? isoLocal(next) : null,
  }
}
