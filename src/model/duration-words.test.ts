import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addDuration, parseDurationWords } from './duration-words.ts'

const after = (text: string, from = '2026-01-31T12:00:00Z'): string | null => {
  const parsed = parseDurationWords(text)
  return parsed && addDuration(new Date(from), parsed).toISOString().slice(0, 16)
}

test('a duration in words is added to a date', () => {
  const table: Record<string, string> = {
    '30 days': '2026-03-02T12:00',
    '2 weeks': '2026-02-14T12:00',
    'an hour': '2026-01-31T13:00',
    'a week': '2026-02-07T12:00',
    '1 day, 2 hours and 5 min': '2026-02-01T14:05',
    '1 day 2 hours, and 5 minutes': '2026-02-01T14:05',
    ' 90 MINS ': '2026-01-31T13:30',
    '12h': '2026-02-01T00:00',
    '2 yrs': '2028-01-31T12:00',
  }
  for (const [text, date] of Object.entries(table)) assert.equal(after(text), date, text)
})

test('months and years are those of the calendar, and end on the last day of a shorter month', () => {
  assert.equal(after('1 month'), '2026-02-28T12:00')
  assert.equal(after('1 mo', '2028-01-31T12:00:00Z'), '2028-02-29T12:00')
  assert.equal(after('13 months'), '2027-02-28T12:00')
  assert.equal(after('1 year', '2028-02-29T12:00:00Z'), '2029-02-28T12:00')
  assert.equal(after('1 month and 1 day'), '2026-03-01T12:00')
  assert.equal(after('1 month', '2026-12-15T00:00:00Z'), '2027-01-15T00:00')
})

test('what is not plain is refused', () => {
  const wrong = [
    '',
    '30',
    'days',
    '5 m',
    '1.5 days',
    '-1 day',
    '0 days',
    '1 day 2 days',
    '1 day and',
    'and 1 day',
  ]
  const more = [
    '1 day and and 2 h',
    '1 day,, 2 h',
    '3 fortnights',
    '10 seconds',
    'aday',
    'P30D',
    '1 day;',
    '1e3 days',
  ]
  for (const text of [...wrong, ...more]) assert.equal(parseDurationWords(text), null, text)
})
