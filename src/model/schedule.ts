import { Cron } from 'croner'
import { localTime } from './local-time.ts'

/** What each field of a schedule with seconds means; without seconds it begins with the minute. */
const hourField = { 5: 1, 6: 2 } as const

const nicknames: Readonly<Record<string, string>> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
}

/** Why a text is no schedule; null when it is one. A schedule has 5 or 6 fields, or is `@daily` and the like, and comes due some day. */
export function scheduleFault(text: string): string | null {
  const fields = fieldsOf(text)
  if (fields.length !== 5 && fields.length !== 6)
    return 'write 5 fields (minute, hour, day, month, weekday), or 6 with the second first'
  try {
    return cron(text, 'UTC').nextRun(new Date()) ? null : 'that never comes'
  } catch (error) {
    return (error as Error).message.replace(/^CronPattern: /, '')
  }
}

/**
 * When a schedule comes due next, after a moment, on the clocks of a zone.
 *
 * Where the hour is given, each time of the clock counts once: skipped when clocks are put forward, it is due at the
 * moment they are; shown twice, it is due the first time. A schedule of every hour (`*`, `*` with a step) is not about times
 * of the clock, and simply goes on.
 */
export function nextRun(text: string, zone: string, after: Date): Date {
  const fields = fieldsOf(text)
  const hour = fields[hourField[fields.length as 5 | 6]] ?? '*'
  if (hour.startsWith('*')) return due(cron(text, zone), after)
  const onPaper = cron(text, 'UTC')
  // As if the clock on the wall were UTC; what it shows twice may lie behind us already.
  for (let wall = onTheWall(after, zone); ; ) {
    wall = due(onPaper, wall)
    const moment = momentOf(wall, zone)
    if (moment > after) return moment
  }
}

function fieldsOf(text: string): string[] {
  const plain = text.trim()
  return (nicknames[plain.toLowerCase()] ?? plain).split(/\s+/)
}

/** `0/15` is taken, as some write it; day of month and weekday both given: either, as cron has it. */
function cron(text: string, timezone: string): Cron {
  return new Cron(fieldsOf(text).join(' '), { timezone, paused: true, sloppyRanges: true })
}

function due(pattern: Cron, after: Date): Date {
  const next = pattern.nextRun(after)
  if (!next) throw new Error('a schedule that never comes')
  return next
}

/** The moment at which clocks there first show this, or, where they skip it, at which they are put forward. */
function momentOf(wall: Date, zone: string): Date {
  const day = 24 * 3_600_000
  const [before, later] = [-day, day].map(apart => offsetAt(new Date(wall.getTime() + apart), zone))
  for (const offset of [before, later]) {
    const moment = new Date(wall.getTime() - (offset ?? 0))
    if (offsetAt(moment, zone) === offset) return moment
  }
  return changeBetween(wall.getTime() - (later ?? 0), wall.getTime() - (before ?? 0), zone)
}

/** When the offset of a zone changes between two moments, to the second. */
function changeBetween(from: number, to: number, zone: string): Date {
  const old = offsetAt(new Date(from), zone)
  let [low, high] = [Math.floor(from / 1000), Math.ceil(to / 1000)]
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (offsetAt(new Date(middle * 1000), zone) === old) low = middle
    else high = middle
  }
  return new Date(high * 1000)
}

/** What the clocks of a zone show, written as if it were UTC. */
function onTheWall(moment: Date, zone: string): Date {
  return new Date(moment.getTime() + offsetAt(moment, zone))
}

/** How far a zone is ahead of UTC, in milliseconds. */
export function offsetAt(moment: Date, zone: string): number {
  const { offset } = localTime(moment, zone)
  const [, sign, hours = 0, minutes = 0, seconds = 0] = /([+-])(\d\d):(\d\d)(?::(\d\d))?/.exec(offset) ?? []
  const ms = ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1000
  return sign === '-' ? -ms : ms
}
