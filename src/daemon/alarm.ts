import type { App } from '../app.ts'
import type { Context } from '../model/context.ts'
import { asFailure } from '../model/failure.ts'
import type { Moment } from '../model/notifier.ts'
import { writeDuration } from '../model/quantity.ts'
import { secretsRead } from '../platform/secret-source.ts'
import {
  type Arrival,
  arrivalsOf,
  countedFrom,
  describeArrival,
  describePlace,
  isOverdue,
  placeOf,
  storeIn,
  unitIn,
} from './arrivals.ts'
import { firstSeen, type JobState, readJobState, updateJobState } from './job-state.ts'
import { withoutSecrets } from './log-line.ts'

/** What a look at a job's stores found. */
export interface Look {
  readonly arrivals: readonly Arrival[]
  /** The places for which there is an alarm ({@link placeOf}): stores, or units in stores. */
  readonly alarms: readonly string[]
  /** When to look again at the latest; null when nothing is expected of the job. */
  readonly next: Date | null
}

/** While there is an alarm, somebody may put it right from elsewhere. */
const againMs = 5 * 60_000
/** The clock may be put forward while we wait. */
const atMostMs = 3_600_000
const atLeastMs = 1_000

/**
 * Looks whether what is expected of a job has arrived in each of its stores. What is overdue raises an alarm: it is
 * reported, told, and written down before, so that it is told once, by this process or the next one; being over is told once
 * as well. An alarm that could not be delivered is told again at the next look. Throws only when the context is aborted.
 */
export async function lookAt(job: string, app: App, ctx: Context): Promise<Look> {
  const arrivals = await arrivalsOf(job, app, ctx)
  const now = ctx.clock.now()
  if (!firstSeen(app.state, job, now)) save(job, { since: now.toISOString() }, app, ctx)
  const known = readJobState(app.state, job)?.alarms ?? {}
  const { expectMs } = app.timing(job)
  if (expectMs === null) {
    // What was expected of it before is not any more.
    if (Object.keys(known).length > 0) save(job, { alarms: {} }, app, ctx)
    return { arrivals, alarms: [], next: null }
  }
  const since = firstSeen(app.state, job, now) ?? now
  const overdue = arrivals.filter(arrival => isOverdue(arrival, expectMs, since, now))
  const alarms = settled(known, overdue, now)
  await tellOver(job, arrivals, known, alarms, app, ctx)
  const told = await tellAlarm(job, overdue, known, alarms, app, ctx)
  const names = Object.keys(told)
  return { arrivals, alarms: names, next: nextLook(arrivals, names, expectMs, since, now) }
}

type Alarms = JobState['alarms']

/** A state folder that cannot be written must not silence an alarm: it is told once more after a restart, that is all. */
function save(job: string, change: Partial<JobState>, app: App, ctx: Context): void {
  try {
    updateJobState(app.state, job, change, ctx.clock.now())
  } catch (error) {
    const { what, why } = asFailure(error, `cannot write down the alarms of ${job}`)
    ctx.emit({ type: 'warning', what, why, remedy: 'check the state folder (CAIRN_STATE)' })
  }
}

/** Those that go on, and new ones; what is not overdue any more is not among them. */
function settled(before: Alarms, overdue: readonly Arrival[], now: Date): Alarms {
  const raised = now.toISOString()
  return Object.fromEntries(
    overdue
      .map(placeOf)
      .map(place => [
        place,
        before[place] ?? { raised: before[storeIn(place)]?.raised ?? raised, told: false },
      ]),
  )
}

async function tellOver(
  job: string,
  arrivals: readonly Arrival[],
  before: Alarms,
  after: Alarms,
  app: App,
  ctx: Context,
): Promise<void> {
  const gone = Object.keys(before).filter(place => !after[place])
  if (gone.length === 0) return
  // Written down first: a webhook that is broken must not have it said at every look.
  save(job, { alarms: after }, app, ctx)
  const over = gone.filter(place => !goesOn(place, after))
  if (over.length === 0) return
  const text = `the alarm is over: ${whyOver(over, arrivals)}`
  ctx.emit({ type: 'notice', text, job })
  if (Object.keys(after).length === 0) await tell(job, 'over', `${job}: ${text}`, app, ctx)
}

/** An alarm for a store goes on as those for units in it, which an older Cairn did not know, and the other way round. */
function goesOn(place: string, after: Alarms): boolean {
  return Object.keys(after).some(other => storeIn(other) === place || other === storeIn(place))
}

function whyOver(over: readonly string[], arrivals: readonly Arrival[]): string {
  const asked = new Set(arrivals.map(placeOf))
  const isLost = (place: string): boolean => unitIn(place) !== null && !asked.has(place)
  const arrived = over.filter(place => !isLost(place))
  const lost = over.filter(isLost)
  return [
    ...(arrived.length > 0 ? [`a good backup has arrived ${inPlaces(arrived)}`] : []),
    ...(lost.length > 0 ? [`nothing is expected any more ${inPlaces(lost)}`] : []),
  ].join('; ')
}

/** `in disk, nas`; `of shop in disk, of wiki in disk`. */
function inPlaces(places: readonly string[]): string {
  return places.some(place => place.includes('/'))
    ? places.map(describePlace).join(', ')
    : `in ${places.join(', ')}`
}

async function tellAlarm(
  job: string,
  overdue: readonly Arrival[],
  before: Alarms,
  alarms: Alarms,
  app: App,
  ctx: Context,
): Promise<Alarms> {
  const untold = overdue.filter(arrival => !alarms[placeOf(arrival)]?.told)
  if (untold.length === 0) return alarms
  const now = ctx.clock.now()
  save(job, { alarms }, app, ctx)
  const why = untold.map(arrival => describeArrival(arrival, now)).join('; ')
  const what = `alarm for ${job}: what is expected every ${writeDuration(app.timing(job).expectMs ?? 0)} has not come`
  const remedy = `cairn runs ${job} shows the last runs, cairn doctor ${job} tries everything a backup needs`
  if (untold.some(arrival => !before[placeOf(arrival)])) ctx.emit({ type: 'failure', what, why, remedy })
  if (!(await tell(job, 'alarm', `${what}: ${why}`, app, ctx))) return alarms
  const told = Object.fromEntries(
    Object.entries(alarms).map(([place, alarm]) => [place, { ...alarm, told: true }]),
  )
  save(job, { alarms: told }, app, ctx)
  return told
}

/** Whether everybody who wants to know was told. */
async function tell(job: string, moment: Moment, text: string, app: App, ctx: Context): Promise<boolean> {
  const message = withoutSecrets(text, secretsRead())
  let all = true
  for (const notifier of app.notifiers(job)) {
    try {
      await notifier.tell({ moment, message, log: '' }, ctx)
    } catch (error) {
      ctx.signal.throwIfAborted()
      const { what, why, remedy } = asFailure(error, 'nobody could be told')
      ctx.emit({ type: 'warning', what, why, remedy })
      all = false
    }
  }
  return all
}

function nextLook(
  arrivals: readonly Arrival[],
  alarms: readonly string[],
  expectMs: number,
  since: Date,
  now: Date,
): Date {
  const deadlines = arrivals
    .filter(arrival => !alarms.includes(placeOf(arrival)))
    .map(arrival => countedFrom(arrival, since).getTime() + expectMs - now.getTime() + 1)
  const again = alarms.length > 0 ? [againMs] : []
  const ms = Math.max(atLeastMs, Math.min(atMostMs, expectMs, ...deadlines, ...again))
  return new Date(now.getTime() + ms)
}
