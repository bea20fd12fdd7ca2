/** Sizes and durations as people write and read them. */

const units: Readonly<Record<string, number>> = {
  s: 1000,
  second: 1000,
  seconds: 1000,
  sec: 1000,
  m: 60_000,
  min: 60_000,
  minute: 60_000,
  minutes: 60_000,
  h: 3_600_000,
  hour: 3_600_000,
  hours: 3_600_000,
  d: 86_400_000,
  day: 86_400_000,
  days: 86_400_000,
  w: 604_800_000,
  week: 604_800_000,
  weeks: 604_800_000,
}

/** `30 days`, `12h`, `1 week` in milliseconds; null for anything else, a bare number and months among it (how long is a month?). */
export function parseDuration(text: string): number | null {
  const match = /^\s*(\d{1,6})\s*([a-z]+)\s*$/.exec(text)
  const unit = units[match?.[2] ?? '']
  return match && unit ? Number(match[1]) * unit : null
}

/** The shortest text that `parseDuration` reads as so many milliseconds: `90 min`, `30 days`. */
export function writeDuration(ms: number): string {
  const unit = (['days', 'h', 'min', 's'] as const).find(each => ms % (units[each] ?? 1) === 0) ?? 's'
  return `${ms / (units[unit] ?? 1)} ${unit}`
}

/** `8 s`, `3 min 20 s`, `2 h 5 min`, `3 days`. */
export function showDuration(ms: number): string {
  const seconds = ms / 1000
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 60) return `${Math.round(seconds)} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return `${hours} h ${minutes % 60} min`
  return `${Math.round(hours / 24)} days`
}

/** `0 B`, `980 B`, `1.2 MB`, `84 GB`: powers of 1000, two or three digits. */
export function showBytes(bytes: number): string {
  const names = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
  let value = bytes
  let power = 0
  while (value >= 999.5 && power < names.length - 1) {
    value /= 1000
    power++
  }
  return `${power === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${names[power]}`
}

/** `1 backup`, `3 backups`. */
export function showCount(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}
