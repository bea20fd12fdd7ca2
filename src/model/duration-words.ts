/** A duration in words. Years and months are those of the calendar, so only together with a date it is so many hours. */
export interface DurationWords {
  readonly months: number
  readonly ms: number
}

const hour = 3_600_000

/** What each unit is worth, with every way to write it. `m` is not among them: minutes or months? */
const units: readonly { readonly names: readonly string[]; readonly months: number; readonly ms: number }[] =
  [
    { names: ['minute', 'minutes', 'min', 'mins'], months: 0, ms: 60_000 },
    { names: ['hour', 'hours', 'h', 'hr', 'hrs'], months: 0, ms: hour },
    { names: ['day', 'days', 'd'], months: 0, ms: 24 * hour },
    { names: ['week', 'weeks', 'w', 'wk', 'wks'], months: 0, ms: 7 * 24 * hour },
    { names: ['month', 'months', 'mo', 'mos'], months: 1, ms: 0 },
    { names: ['year', 'years', 'y', 'yr', 'yrs'], months: 12, ms: 0 },
  ]

/** `30` and `days`, at the beginning of a text. */
const term = /^(?:(\d{1,6})\s*|(an?)\s+)([a-z]+)/
/** What may stand between two of them. */
const joint = /^(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s+)/

/**
 * `30 days`, `1 month`, `an hour`, `1 day, 2 hours and 5 min`: whole numbers, "a" or "an", of minutes to years, each
 * unit once, joined by spaces, commas or "and". Null for anything else, and for nothing (`0 days`).
 */
export function parseDurationWords(text: string): DurationWords | null {
  let rest = text.trim().toLowerCase()
  const seen = new Set<object>()
  let sum: DurationWords = { months: 0, ms: 0 }
  for (;;) {
    const [whole = '', digits, , name = ''] = term.exec(rest) ?? []
    const unit = units.find(({ names }) => names.includes(name))
    if (!unit || seen.has(unit)) return null
    seen.add(unit)
    const count = digits === undefined ? 1 : Number(digits)
    sum = { months: sum.months + count * unit.months, ms: sum.ms + count * unit.ms }
    rest = rest.slice(whole.length)
    if (rest === '') break
    const between = joint.exec(rest)?.[0]
    if (between === undefined) return null
    rest = rest.slice(between.length)
  }
  return sum.months + sum.ms > 0 ? sum : null
}

/** The date so much later, in UTC: the months first, on the same day or the last one of a shorter month, then the rest. */
export function addDuration(date: Date, { months, ms }: DurationWords): Date {
  const later = new Date(date)
  later.setUTCDate(1)
  later.setUTCMonth(later.getUTCMonth() + months)
  const last = new Date(Date.UTC(later.getUTCFullYear(), later.getUTCMonth() + 1, 0)).getUTCDate()
  later.setUTCDate(Math.min(date.getUTCDate(), last))
  return new Date(later.getTime() + ms)
}
