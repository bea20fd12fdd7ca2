/**
 * The time zone in a file of the system (RFC 9636, TZif): what /etc/localtime holds. Only the part with 64-bit times is read,
 * which every such file of the last twenty years has.
 */
export interface ZoneFile {
  /** How far ahead of UTC it is at a moment, in seconds. */
  offsetAt(seconds: number): number
}

/** A rule by itself, as TZ may be one; without the days it has those that libc takes then. Throws an Error when the text is none. */
export function parseZoneRule(text: string): ZoneFile {
  const isWithoutDays = /^[A-Za-z]{3,}[+-]?[\d:]+[A-Za-z]{3,}[+-]?[\d:]*$/.test(text)
  const rule = parseRule(isWithoutDays ? `${text},M3.2.0,M11.1.0` : text)
  return { offsetAt: seconds => ruleOffset(rule, seconds) }
}

/** Throws an Error when the bytes are no such file. */
export function parseZoneFile(file: Buffer): ZoneFile {
  const first = headerAt(file, 0)
  if (first.version < 2) throw new Error('it is a zone file of version 1')
  const header = headerAt(file, 44 + bodyLength(first, 4))
  const { start, times, types } = header
  const at = start + times * 8
  const transitions = Array.from({ length: times }, (_, index) => ({
    at: Number(file.readBigInt64BE(start + index * 8)),
    type: file.readUInt8(at + index),
  }))
  const offsets = Array.from({ length: types }, (_, index) => file.readInt32BE(at + times + index * 6))
  const footer =
    /^\n([^\n]*)\n/.exec(file.subarray(start + bodyLength(header, 8)).toString('latin1'))?.[1] ?? ''
  const rule = footer === '' ? null : parseRule(footer)
  const last = transitions.at(-1)
  return {
    offsetAt(seconds) {
      if (rule && (!last || seconds >= last.at)) return ruleOffset(rule, seconds)
      return offsets[transitions.findLast(each => each.at <= seconds)?.type ?? 0] ?? 0
    },
  }
}

interface Header {
  readonly version: number
  readonly start: number
  readonly times: number
  readonly types: number
  readonly chars: number
  readonly leaps: number
  readonly std: number
  readonly ut: number
}

function headerAt(file: Buffer, place: number): Header {
  if (file.subarray(place, place + 4).toString('latin1') !== 'TZif') throw new Error('it is not a zone file')
  const version = Number(file.subarray(place + 4, place + 5).toString('latin1')) || 1
  const count = (index: number): number => file.readUInt32BE(place + 20 + index * 4)
  const [ut, std, leaps, times, types, chars] = [0, 1, 2, 3, 4, 5].map(count) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  return { version, start: place + 44, times, types, chars, leaps, std, ut }
}

function bodyLength({ times, types, chars, leaps, std, ut }: Header, size: number): number {
  return times * (size + 1) + types * 6 + chars + leaps * (size + 4) + std + ut
}

/** `CET-1CEST,M3.5.0,M10.5.0/3`: the offsets in seconds, and when summer time begins and ends. */
interface Rule {
  readonly standard: number
  readonly summer: { readonly offset: number; readonly from: Day; readonly to: Day } | null
}

/** A day of the year by its kind, and the time of the clock, in seconds. */
type Day = { readonly time: number } & (
  | { readonly month: number; readonly week: number; readonly weekday: number }
  | { readonly yearDay: number; readonly leapDay: boolean }
)

function parseRule(text: string): Rule {
  const name = '(?:[A-Za-z]{3,}|<[^>]+>)'
  const time = '[+-]?\\d{1,3}(?::\\d\\d){0,2}'
  const day = `(?:M\\d+\\.\\d\\.\\d|J?\\d+)(?:/${time})?`
  const match = new RegExp(`^${name}(${time})(?:${name}(${time})?,(${day}),(${day}))?$`).exec(text)
  if (!match) throw new Error(`the rule "${text}" is not understood`)
  const [, standard = '0', summer, from, to] = match
  // West is positive there.
  const offset = 0 - secondsOf(standard)
  if (from === undefined || to === undefined) return { standard: offset, summer: null }
  const later = summer === undefined ? offset + 3600 : 0 - secondsOf(summer)
  return { standard: offset, summer: { offset: later, from: dayOf(from), to: dayOf(to) } }
}

function secondsOf(text: string): number {
  const [hours = 0, minutes = 0, seconds = 0] = text.replace(/^[+-]/, '').split(':').map(Number)
  return (text.startsWith('-') ? -1 : 1) * (hours * 3600 + minutes * 60 + seconds)
}

function dayOf(text: string): Day {
  const [what = '', at = '2'] = text.split('/')
  const time = secondsOf(at)
  const [, month, week, weekday] = /^M(\d+)\.(\d)\.(\d)$/.exec(what) ?? []
  if (month !== undefined) return { time, month: Number(month), week: Number(week), weekday: Number(weekday) }
  return { time, yearDay: Number(what.replace('J', '')), leapDay: !what.startsWith('J') }
}

function ruleOffset({ standard, summer }: Rule, seconds: number): number {
  if (!summer) return standard
  const year = new Date((seconds + standard) * 1000).getUTCFullYear()
  const from = momentOf(summer.from, year) - standard
  const to = momentOf(summer.to, year) - summer.offset
  const inside = from < to ? seconds >= from && seconds < to : seconds >= from || seconds < to
  return inside ? summer.offset : standard
}

/** When the clocks of a place show that day and time, in seconds as if it were UTC. */
function momentOf(day: Day, year: number): number {
  const seconds = (month: number, date: number): number => Date.UTC(year, month, date) / 1000 + day.time
  if ('yearDay' in day) {
    if (day.leapDay) return seconds(0, 1 + day.yearDay)
    const isLeap = new Date(Date.UTC(year, 1, 29)).getUTCMonth() === 1
    return seconds(0, day.yearDay + (isLeap && day.yearDay >= 60 ? 1 : 0))
  }
  const first = new Date(Date.UTC(year, day.month - 1, 1)).getUTCDay()
  const length = new Date(Date.UTC(year, day.month, 0)).getUTCDate()
  const date = 1 + ((day.weekday - first + 7) % 7) + (day.week - 1) * 7
  return seconds(day.month - 1, date > length ? date - 7 : date)
}
