import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nextRun, scheduleFault } from './schedule.ts'

/** The next moments of a schedule, in UTC to the second. */
function next(text: string, zone: string, after: string, count = 1): string[] {
  const moments: Date[] = []
  for (let at = new Date(after); moments.length < count; ) {
    at = nextRun(text, zone, at)
    moments.push(at)
  }
  return moments.map(moment => moment.toISOString().slice(0, 19))
}

const spring = { 'Europe/Berlin': '2026-03-28T12:00:00Z', 'America/New_York': '2026-03-07T12:00:00Z' }

test('a time that the clocks skip is due once, at the moment they are put forward', () => {
  assert.deepEqual(next('30 2 * * *', 'Europe/Berlin', spring['Europe/Berlin'], 2), [
    '2026-03-29T01:00:00',
    '2026-03-30T00:30:00',
  ])
  assert.deepEqual(next('30 2 * * *', 'America/New_York', spring['America/New_York'], 2), [
    '2026-03-08T07:00:00',
    '2026-03-09T06:30:00',
  ])
  // Several times in the gap are one moment.
  assert.deepEqual(next('0,30 2,3 * * *', 'Europe/Berlin', spring['Europe/Berlin'], 3), [
    '2026-03-29T01:00:00',
    '2026-03-29T01:30:00',
    '2026-03-30T00:00:00',
  ])
})

test('a time that the clocks show twice is due once, the first time', () => {
  const once = ['2026-10-25T00:30:00', '2026-10-26T01:30:00']
  assert.deepEqual(next('30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z', 2), once)
  assert.deepEqual(next('0 30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z', 2), once)
  // Asked between the two, and after the second one.
  for (const after of ['2026-10-25T00:30:00Z', '2026-10-25T01:10:00Z', '2026-10-25T01:30:00Z'])
    assert.deepEqual(next('30 2 * * *', 'Europe/Berlin', after), ['2026-10-26T01:30:00'])
  assert.deepEqual(next('30 1 * * *', 'America/New_York', '2026-10-31T12:00:00Z', 2), [
    '2026-11-01T05:30:00',
    '2026-11-02T06:30:00',
  ])
  assert.deepEqual(next('0,30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z', 3), [
    '2026-10-25T00:00:00',
    '2026-10-25T00:30:00',
    '2026-10-26T01:00:00',
  ])
})

test('every hour goes on through both', () => {
  assert.deepEqual(next('0 * * * *', 'Europe/Berlin', '2026-10-24T22:30:00Z', 4), [
    '2026-10-24T23:00:00',
    '2026-10-25T00:00:00',
    '2026-10-25T01:00:00',
    '2026-10-25T02:00:00',
  ])
  assert.deepEqual(next('0 * * * *', 'Europe/Berlin', '2026-03-28T23:30:00Z', 3), [
    '2026-03-29T00:00:00',
    '2026-03-29T01:00:00',
    '2026-03-29T02:00:00',
  ])
})

test('zones whose clocks change by half an hour, at midnight, or never', () => {
  // Lord Howe: 02:00 becomes 02:30.
  assert.deepEqual(next('15 2 * * *', 'Australia/Lord_Howe', '2026-10-03T00:00:00Z'), ['2026-10-03T15:30:00'])
  // Santiago: 00:00 becomes 01:00.
  assert.deepEqual(next('30 0 * * *', 'America/Santiago', '2026-09-05T10:00:00Z'), ['2026-09-06T04:00:00'])
  assert.deepEqual(next('30 2 * * *', 'UTC', '2026-03-28T12:00:00Z'), ['2026-03-29T02:30:00'])
})

test('fields are read as cron reads them', () => {
  const from = '2026-11-21T00:00:00Z' // a Saturday
  const table: Record<string, string[]> = {
    '*/5 * * * * *': ['2026-11-21T00:00:05', '2026-11-21T00:00:10'],
    '0 0 * * 7': ['2026-11-22T00:00:00', '2026-11-29T00:00:00'],
    '0 0 * * SUN': ['2026-11-22T00:00:00', '2026-11-29T00:00:00'],
    '0 0 * jan-mar mon': ['2027-01-04T00:00:00', '2027-01-11T00:00:00'],
    '0/15 1 * * *': ['2026-11-21T01:00:00', '2026-11-21T01:15:00'],
    // Day of month or weekday, when both are given.
    '0 0 1 * 1': ['2026-11-23T00:00:00', '2026-11-30T00:00:00', '2026-12-01T00:00:00'],
    '0 0 29 2 *': ['2028-02-29T00:00:00'],
    '0 12 L * *': ['2026-11-30T12:00:00', '2026-12-31T12:00:00'],
    '@daily': ['2026-11-22T00:00:00', '2026-11-23T00:00:00'],
    ' 0  2\t* * * ': ['2026-11-21T02:00:00'],
  }
  for (const [text, moments] of Object.entries(table)) {
    assert.equal(scheduleFault(text), null, text)
    assert.deepEqual(next(text, 'UTC', from, moments.length), moments, text)
  }
})

test('what is no schedule, or never comes, is refused with the reason', () => {
  const wrong = ['', '* * * *', '* * * * * * *', '60 * * * *', '0 24 * * *', '0 0 30 2 *', '5-1 * * * *']
  const more = [
    '*/0 * * * *',
    'a b c d e',
    '@reboot',
    '@every 1h',
    '2026-12-01T00:00:00',
    '0 2 * * 8',
    '0 0 0 * *',
  ]
  for (const text of [...wrong, ...more]) assert.ok(scheduleFault(text), text)
  assert.match(scheduleFault('0 0 30 2 *') ?? '', /never/)
})
