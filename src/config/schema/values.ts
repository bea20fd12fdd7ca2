// The kinds of values that stand in many places of a configuration.

import * as z from 'zod'
import { parseWords } from '../../model/duration-words.ts'
import { parseDuration } from '../../model/quantity.ts'

/** `30 days`, `12h`: gives milliseconds. */
export const Duration = z
  .string()
  .transform((text, ctx) => {
    const ms = parseDuration(text)
    if (ms !== null) return ms
    ctx.addIssue(
      `"${text}" is not a duration: write a whole number and s, min, h, days or weeks, as in "30 days"`,
    )
    return z.NEVER
  })
  .meta({
    id: 'Duration',
    description: 'a whole number and a unit: s, min, h, days, weeks',
    example: '30 days',
  })

/** `30 days`, `1 month`, `a year and 6 months`. */
export const CalendarSpan = z
  .string()
  .transform((text, ctx) => {
    const ms = parseDuration(text)
    const span = ms === null ? parseWords(text) : { months: 0, ms }
    if (span) return span
    ctx.addIssue(`"${text}" is not a length of time: write it as "30 days", "2 weeks" or "1 month"`)
    return z.NEVER
  })
  .meta({
    id: 'CalendarSpan',
    description: 'a length of time in words, from the minute to the year; months are those of the calendar',
    example: '30 days',
  })

export const name = (what: string) =>
  z.string().regex(/^[a-z0-9][a-z0-9_-]{0,59}$/, {
    message: `the name of a ${what} is made of a-z, 0-9, "-" and "_" (some stores do not tell upper case from lower)`,
  })

export const Zone = z
  .string()
  .refine(isZone, { message: 'is not a time zone: write one like Europe/Berlin, or UTC' })

export const JobName = name('job').refine(text => text !== 'latest', {
  message: '"latest" means the newest backup',
})

function isZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone: name }) !== null
  } catch {
    return false
  }
}
