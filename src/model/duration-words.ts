/** A length of time in the units of the calendar: a month is as long as the month it falls into. */
export interface Span {
  readonly months: number
  readonly ms: number
}

const day = 86_400_000
/** From now on, the year is one of four digits for so long. */
const mostYears = 7_900

const units: readonly (readonly [words: RegExp, Span])[] = [
  [/^(minutes?|mins?|m)$/, { months: 0, ms: 60_000 }],
  [/^(hours?|hrs?|h)$/, { months: 0, ms: 3_600_000 }],
  [/^(days?|d)$/, { months: 0, ms: day }],
  [/^(weeks?|wks?|w)$/, { months: 0, ms: 7 * day }],
  [/^(months?|mos?)$/, { months: 1, ms: 0 }],
  [/^(years?|yrs?|y)$/, { months: 12, ms: 0 }],
]

/**
 * `30 days`, `2 weeks`, `a month`, `1 day, 2 hours and 5 min`: whole numbers, "a" or "an", and units from the minute to
 * the year, joined by spaces, commas or "and". Null for everything else, nothing of it guessed, for no time at all, and for
 * what ends beyond the years that dates are written in.
 */
export function parseWords(text: string): Span | null {
  let span: Span = { months: 0, ms: 0 }
  const used = new Set<Span>()
  let left = text.trim().toLowerCase()
  while (left !== '') {
    const [part, count = '', name = ''] =
      /^(\d{1,5}|an?\b)\s*([a-z]+)(?:\s*,\s*and\s+|\s*,\s*|\s+and\s+|\s+|$)/.exec(left) ?? []
    const unit = units.find(([names]) => names.test(name))?.[1]
    if (part === undefined || !unit || used.has(unit)) return null
    used.add(unit)
    const n = count.startsWith('a') ? 1 : Number(count)
    span = { months: span.months + n * unit.months, ms: span.ms + n * unit.ms }
    left = left.slice(part.length)
    if (left === '' && /[^a-z]$/.test(part)) return null
  }
  const years = span.months / 12 + span.ms / (365 * day)
  return years > 0 && years <= mostYears ? span : null
}

/** The moment so long after another, months first, in UTC; from the 31st to the last day of a shorter month. */
export function addSpan(to: Date, { months, ms }: Span): Date {
  const moved = new Date(to)
  moved.setUTCMonth(to.getUTCMonth() + months, 1)
  const last = new Date(Date.UTC(moved.getUTCFullYear(), moved.getUTCMonth() + 1, 0)).getUTCDate()
  moved.setUTCDate(Math.min(to.getUTCDate(), last))
  return new Date(moved.getTime() + ms)
}

/** The shortest text that `parseWords` reads as the same. */
export function writeWords({ months, ms }: Span): string {
  const parts: string[] = []
  if (months > 0) parts.push(months % 12 === 0 ? count(months / 12, 'year') : count(months, 'month'))
  let left = ms
  for (const [name, each] of [
    ['day', day],
    ['hour', 3_600_000],
    ['minute', 60_000],
  ] as const) {
    const whole = Math.floor(left / each)
    left -= whole * each
    if (whole > 0) parts.push(count(whole, name))
  }
  return parts.join(' ')
}

function count(n: number, name: string): string {
  return `${n} ${name}${n === 1 ? '' : 's'}`
}
