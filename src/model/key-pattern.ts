import { type LocalTime, localTime, momentOf } from './local-time.ts'

/**
 * The name that the objects of a job have, in the words of strftime and `${DB}`, as the tools had them that Cairn
 * replaces: `${DB}-%Y-%m-%dT%H-%M-%SZ.sql`. `%%` and `$$` are the characters. What the stages add (`.gz`, `.age`) follows it.
 */
export interface KeyPattern {
  /** What every key begins with, up to a `/`: `''` where nothing is certain. */
  readonly prefix: string
  /** False where two runs of one unit, a second apart, may have the same key. */
  readonly isUnique: boolean
  /** True where the name of the unit stands in it. */
  readonly namesUnit: boolean
  key(unit: string, at: Date): string
  /** What a key says that this pattern made, whatever the stages added; null for others. What it does not say is null. */
  match(key: string): { readonly unit: string | null; readonly at: Date | null } | null
}

export interface KeyPatternOptions {
  /** The zone of the clocks that the times in it are read from. */
  readonly zone: string
  /** Turns every run of characters but `A-Z a-z 0-9 _ . /` into one `-`, and cuts one from each end. */
  readonly plain: boolean
}

/** The pattern of a text that is taken as it stands. */
export function literalPattern(text: string): string {
  return text.replaceAll('%', '%%').replaceAll('$', '$$$$')
}

/** Throws an Error that says what is wrong with the pattern. */
export function keyPattern(text: string, { zone, plain }: KeyPatternOptions): KeyPattern {
  const parts = partsOf(text)
  const known = new Set(parts.flatMap(part => (part.field ? [part.field] : [])))
  const expression = expressionOf(parts, plain)
  const beginning = parts[0]?.literal ?? ''
  const prefix = plain ? spelled(beginning, true).replace(/^-/, '') : beginning
  return {
    prefix: prefix.slice(0, prefix.lastIndexOf('/') + 1),
    isUnique: hasSecond(known),
    namesUnit: known.has('unit'),
    key(unit, at) {
      const written = parts.map(part => writtenPart(part, unit, at, zone)).join('')
      return plain ? spelled(written, true).replace(/^-|-$/g, '') : written
    },
    match(key) {
      const found = expression.exec(key)
      const fields = found?.groups ?? {}
      return found && { unit: fields.unit ?? null, at: timeOf(fields, known, zone) }
    },
  }
}

/** Of the week that %V counts, which may be the first of the next year or the last of the one before. */
function isoWeek(t: LocalTime): { year: number; week: number } {
  const day = Date.UTC(t.year, t.month - 1, t.day)
  const thursday = day + (4 - (weekday(t) || 7)) * 86_400_000
  const year = new Date(thursday).getUTCFullYear()
  return { year, week: Math.floor((thursday - Date.UTC(year, 0, 1)) / (7 * 86_400_000)) + 1 }
}

/** Weeks that begin on the first Sunday (0) or Monday (1) of the year. */
function weekFrom(t: LocalTime, first: 0 | 1): number {
  return Math.floor((dayOfYear(t) - 1 + 7 - ((weekday(t) - first + 7) % 7)) / 7)
}

/** What a directive of strftime stands for. */
interface Directive {
  readonly field: string
  readonly digits: string
  write(t: LocalTime, at: Date): string
}

const pad = (n: number, width = 2): string => String(n).padStart(width, '0')
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const longMonths = [
  ...['January', 'February', 'March', 'April', 'May', 'June'],
  ...['July', 'August', 'September', 'October', 'November', 'December'],
]
const longDays = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const weekday = (t: LocalTime): number => new Date(Date.UTC(t.year, t.month - 1, t.day)).getUTCDay()
const dayOfYear = (t: LocalTime): number =>
  (Date.UTC(t.year, t.month - 1, t.day) - Date.UTC(t.year, 0, 1)) / 86_400_000 + 1
const hour12 = (t: LocalTime): number => ((t.hour + 11) % 12) + 1

const directives: Readonly<Record<string, Directive>> = {
  Y: { field: 'year', digits: '\\d{4}', write: t => pad(t.year, 4) },
  y: { field: 'shortYear', digits: '\\d{2}', write: t => pad(t.year % 100) },
  m: { field: 'month', digits: '\\d{2}', write: t => pad(t.month) },
  d: { field: 'day', digits: '\\d{2}', write: t => pad(t.day) },
  e: { field: 'spacedDay', digits: '.?\\d{1,2}', write: t => String(t.day).padStart(2, ' ') },
  H: { field: 'hour', digits: '\\d{2}', write: t => pad(t.hour) },
  I: { field: 'hour12', digits: '\\d{2}', write: t => pad(hour12(t)) },
  p: { field: 'half', digits: '[AP]M', write: t => (t.hour < 12 ? 'AM' : 'PM') },
  M: { field: 'minute', digits: '\\d{2}', write: t => pad(t.minute) },
  S: { field: 'second', digits: '\\d{2}', write: t => pad(t.second) },
  C: { field: 'century', digits: '\\d{2}', write: t => pad(Math.floor(t.year / 100)) },
  k: { field: 'spacedHour', digits: '.?\\d{1,2}', write: t => String(t.hour).padStart(2, ' ') },
  l: { field: 'spacedHour12', digits: '.?\\d{1,2}', write: t => String(hour12(t)).padStart(2, ' ') },
  P: { field: 'smallHalf', digits: '[ap]m', write: t => (t.hour < 12 ? 'am' : 'pm') },
  G: { field: 'isoYear', digits: '\\d{4}', write: t => pad(isoWeek(t).year, 4) },
  g: { field: 'shortIsoYear', digits: '\\d{2}', write: t => pad(isoWeek(t).year % 100) },
  V: { field: 'isoWeek', digits: '\\d{2}', write: t => pad(isoWeek(t).week) },
  U: { field: 'weekFromSunday', digits: '\\d{2}', write: t => pad(weekFrom(t, 0)) },
  W: { field: 'weekFromMonday', digits: '\\d{2}', write: t => pad(weekFrom(t, 1)) },
  L: { field: 'millisecond', digits: '\\d{3}', write: (_, at) => pad(at.getUTCMilliseconds(), 3) },
  s: { field: 'epoch', digits: '\\d+', write: (_, at) => String(Math.floor(at.getTime() / 1000)) },
  j: { field: 'dayOfYear', digits: '\\d{3}', write: t => pad(dayOfYear(t), 3) },
  b: { field: 'monthName', digits: '[A-Z][a-z]{2}', write: t => months[t.month - 1] ?? '' },
  B: { field: 'longMonth', digits: '[A-Z][a-z]+', write: t => longMonths[t.month - 1] ?? '' },
  a: { field: 'weekdayName', digits: '[A-Z][a-z]{2}', write: t => (longDays[weekday(t)] ?? '').slice(0, 3) },
  A: { field: 'longWeekday', digits: '[A-Z][a-z]+', write: t => longDays[weekday(t)] ?? '' },
  u: { field: 'isoWeekday', digits: '[1-7]', write: t => String(weekday(t) || 7) },
  w: { field: 'weekday', digits: '[0-6]', write: t => String(weekday(t)) },
  Z: {
    field: 'zoneName',
    digits: '[A-Za-z0-9:+-]+',
    write: t => (/^GMT(\+00:00)?$/.test(t.offset) ? 'UTC' : t.offset),
  },
  z: {
    field: 'offset',
    digits: '[+-]?\\d{4}',
    write: t => t.offset.replace('GMT', '').replace(':', '') || '+0000',
  },
}

const abbreviations: Readonly<Record<string, string>> = {
  F: '%Y-%m-%d',
  T: '%H:%M:%S',
  R: '%H:%M',
  D: '%m/%d/%y',
  c: '%a %b %e %H:%M:%S %Y',
  x: '%m/%d/%y',
  X: '%H:%M:%S',
  r: '%I:%M:%S %p',
  n: '\n',
  t: '\t',
  h: '%b',
}

/** A piece of a pattern: text as it stands, the name of the unit, or a directive. */
interface Part {
  readonly literal?: string
  readonly field?: string
  readonly directive?: Directive
}

function partsOf(text: string): Part[] {
  const whole = text.replaceAll(
    /%(%|[FTRDhcxXrnt])/g,
    (same, letter: string) => abbreviations[letter] ?? same,
  )
  const parts: Part[] = []
  for (const [piece] of whole.matchAll(/\$\$|\$\{DB\}|\$DB(?![A-Za-z0-9_])|%[-_0^#]?.|[^$%]+|[$%]/gs)) {
    if (piece === '${DB}' || piece === '$DB') parts.push({ field: 'unit' })
    else if (piece === '%%' || piece === '$$') parts.push({ literal: piece.slice(1) })
    else if (/^%./s.test(piece)) parts.push(directivePart(piece))
    else parts.push({ literal: piece })
  }
  return parts
}

function directivePart(piece: string): Part {
  const [, flag, letter = ''] = /^%(-?)(.)$/s.exec(piece) ?? []
  const directive = directives[letter]
  if (directive) return { field: directive.field, directive: flag ? unpadded(directive) : directive }
  throw new Error(`${piece} is none of strftime's directives that are known: ${knownDirectives()}`)
}

/** GNU's `%-d`. */
function unpadded(directive: Directive): Directive {
  return {
    ...directive,
    digits: directive.digits.replace(/^(\.\?)?\\d\{(?:\d,)?(\d)\}$/, '\\d{1,$2}'),
    write: (t, at) => directive.write(t, at).replace(/^[ 0]+(?=.)/, ''),
  }
}

function knownDirectives(): string {
  return [...Object.keys(directives), ...Object.keys(abbreviations), '%']
    .map(letter => `%${letter}`)
    .join(' ')
}

function writtenPart({ literal, directive }: Part, unit: string, at: Date, zone: string): string {
  return literal ?? directive?.write(localTime(at, zone), at) ?? unit
}

function spelled(text: string, plain: boolean): string {
  return plain ? text.replaceAll(/[^A-Za-z0-9_./]+/g, '-') : text
}

/** What the stages, and the tools before us, put behind a name. */
const suffixes = '(?:\\.(?:sql|tar|gz|zst|age|gpg|aes))*'

function expressionOf(parts: readonly Part[], plain: boolean): RegExp {
  const seen = new Set<string>()
  const source = parts.map(({ literal, field = '', directive }) => {
    if (literal !== undefined) return literalSource(literal, plain)
    const expression = directive?.digits ?? (plain ? '[A-Za-z0-9_./-]*?' : '.+?')
    if (seen.has(field)) return `(?:${expression})`
    seen.add(field)
    return `(?<${field}>${expression})`
  })
  return new RegExp(`^${source.join('')}${suffixes}$`, 's')
}

/** In a plain name, a run of other characters has become one `-` with its neighbours', and is cut at the ends. */
function literalSource(literal: string, plain: boolean): string {
  const escaped = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\/]/g, '\\$&')
  if (!plain) return escaped(literal)
  const pieces = literal.split(/[^A-Za-z0-9_./]+/)
  return pieces
    .map((piece, index) => {
      if (index === 0) return escaped(piece)
      const first = index === 1 && pieces[0] === ''
      const last = index === pieces.length - 1 && piece === ''
      return runSource(first, last) + escaped(piece)
    })
    .join('')
}

/** A run that begins a literal may be one with what stands before it; one that ends it may be cut. */
function runSource(first: boolean, last: boolean): string {
  const elsewhere = [...(first ? ['(?<=^|-)'] : []), ...(last ? [`(?=${suffixes}$)`] : [])]
  return elsewhere.length === 0 ? '-' : `(?:-|${elsewhere.join('|')})`
}

function hasSecond(known: ReadonlySet<string>): boolean {
  if (known.has('epoch')) return true
  const day = known.has('dayOfYear') || (hasDay(known) && hasMonth(known))
  const hour = known.has('hour') || (known.has('hour12') && known.has('half'))
  const year = known.has('year') || known.has('shortYear')
  return year && day && hour && known.has('minute') && known.has('second')
}

const hasDay = (known: ReadonlySet<string>): boolean => known.has('day') || known.has('spacedDay')
const hasMonth = (known: ReadonlySet<string>): boolean =>
  known.has('month') || known.has('monthName') || known.has('longMonth')

/** The moment that the fields of a key stand for, as exactly as they tell; null where not even the day is told. */
function timeOf(
  found: Readonly<Record<string, string | undefined>>,
  known: ReadonlySet<string>,
  zone: string,
): Date | null {
  if (found.epoch) return new Date(Number(found.epoch) * 1000)
  const year = found.year ? Number(found.year) : found.shortYear ? 2000 + Number(found.shortYear) : null
  const month = monthOf(found)
  const ordinal = found.dayOfYear ? Number(found.dayOfYear) : null
  const day = found.day ?? found.spacedDay?.trim()
  if (year === null || (ordinal === null && (month === null || day === undefined))) return null
  const half = found.half === 'PM' ? 12 : 0
  const hour = found.hour ? Number(found.hour) : found.hour12 ? (Number(found.hour12) % 12) + half : 0
  const local = {
    ...{ year, month: ordinal === null ? (month ?? 1) : 1, day: ordinal ?? Number(day) },
    ...{ hour, minute: Number(found.minute ?? 0), second: Number(found.second ?? 0) },
  }
  const at = momentOf(local, known.has('offset') ? 'UTC' : zone)
  return new Date(at.getTime() + Number(found.millisecond ?? 0))
}

function monthOf(found: Readonly<Record<string, string | undefined>>): number | null {
  if (found.month) return Number(found.month)
  const name = months.indexOf(found.monthName ?? '') + 1 || longMonths.indexOf(found.longMonth ?? '') + 1
  return name > 0 ? name : null
}
