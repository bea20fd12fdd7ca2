import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addSpan, parseWords, writeWords } from './duration-words.ts'

const day = 86_400_000

test('durations in words are read', () => {
  const expected: [string, number, number][] = [
    ['30 days', 0, 30 * day],
    ['2 weeks', 0, 14 * day],
    ['1 month', 1, 0],
    ['a year', 12, 0],
    ['an hour', 0, 3_600_000],
    ['1 day, 2 hours and 5 min', 0, day + 7_200_000 + 300_000],
    ['1 year 2 months', 14, 0],
    ['90min', 0, 5_400_000],
    [' 3D ', 0, 3 * day],
    ['1 week, and 1 day', 0, 8 * day],
    ['2mo', 2, 0],
  ]
  for (const [text, months, ms] of expected) assert.deepEqual(parseWords(text), { months, ms }, text)
})

test('what is not certain is no duration', () => {
  const wrong = [
    '',
    '30',
    'days',
    'next monday',
    '1.5 days',
    '-1 day',
    '0 days',
    '1 day 1 day',
    'two weeks',
    '5 s',
    '1 fortnight',
    'in 30 days',
    '1 day 2',
    '1 and day',
    '999999 days',
    '1 day or 2 hours',
    '10 seconds',
  ]
  for (const text of wrong) assert.equal(parseWords(text), null, text)
})

test('months are those of the calendar', () => {
  const after = (from: string, text: string): string =>
    addSpan(new Date(from), parseWords(text) ?? { months: 0, ms: 0 }).toISOString()
  assert.equal(after('2026-01-31T10:00:00Z', '1 month'), '2026-02-28T10:00:00.000Z')
  assert.equal(after('2024-02-29T00:00:00Z', '1 year'), '2025-02-28T00:00:00.000Z')
  assert.equal(after('2026-12-15T00:00:00Z', '2 months 1 day'), '2027-02-16T00:00:00.000Z')
  assert.equal(after('2026-03-01T00:00:00Z', '30 days'), '2026-03-31T00:00:00.000Z')
})

test('what is written is read as the same', () => {
  for (const text of ['1 month', '2 years', '30 days', '1 day 2 hours 5 minutes', '14 months 3 days'])
    assert.equal(writeWords(parseWords(text) ?? { months: 0, ms: 0 }), text)
})
