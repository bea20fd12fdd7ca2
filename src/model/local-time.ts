/** What the clocks of a time zone show at a moment. */
export interface LocalTime {
  readonly year: number
  readonly month: number
  readonly day: number
  readonly hour: number
  readonly minute: number
  readonly second: number
  /** `GMT+02:00`; `GMT` for UTC. */
  readonly offset: string
}

const formats = new Map<string, Intl.DateTimeFormat>()

export function localTime(at: Date, zone: string): LocalTime {
  const format =
    formats.get(zone) ??
    new Intl.DateTimeFormat('en-US', {
      ...{ timeZone: zone, calendar: 'gregory', numberingSystem: 'latn', hourCycle: 'h23' },
      ...{ year: 'numeric', month: 'numeric', day: 'numeric' },
      ...{ hour: 'numeric', minute: 'numeric', second: 'numeric', timeZoneName: 'longOffset' },
    })
  formats.set(zone, format)
  const parts = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, value]))
  return {
    year: Number(parts.year),
    month: Number(parts.month),
    day: Number(parts.day),
    hour: Number(parts.hour),
    minute: Number(parts.minute),
    second: Number(parts.second),
    offset: parts.timeZoneName ?? '',
  }
}

/**
 * The moment at which the clocks of a zone show this; of the two when they show it twice, the first. A time that they
 * skip is taken as if they had not been moved yet.
 */
export function momentOf(local: Omit<LocalTime, 'offset'>, zone: string): Date {
  const { year, month, day, hour, minute, second } = local
  const asUtc = Date.UTC(year, month - 1, day, hour, minute, second)
  const candidates = [-86_400_000, 86_400_000].map(apart => asUtc - offsetAt(new Date(asUtc + apart), zone))
  const right = candidates.filter(ms => ms + offsetAt(new Date(ms), zone) === asUtc)
  return new Date(right.length > 0 ? Math.min(...right) : (candidates[0] ?? asUtc))
}

/** How far the clocks of a zone are ahead of UTC at a moment, in milliseconds. */
function offsetAt(at: Date, zone: string): number {
  const { year, month, day, hour, minute, second } = localTime(at, zone)
  return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(at.getTime() / 1000) * 1000
}
