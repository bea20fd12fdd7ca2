// Retention against a slow model of it that could hardly be plainer: it walks through the rules one by one and asks the
// calendar in another way.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Random, randomFrom, rounds } from '../../test/support/random.ts'
import type { Retention } from '../model/job.ts'
import { newId } from '../model/key.ts'
import { type Candidate, decide } from './retention.ts'

const hour = 3_600_000
const zones = [
  'UTC',
  'Europe/Berlin',
  'America/New_York',
  'Australia/Lord_Howe',
  'Pacific/Apia',
  'Asia/Kathmandu',
] as const
/** Around the ends and beginnings of summer time, of years, and of the day that Samoa left out. */
const moments = [
  '2026-10-25T00:30Z',
  '2026-03-29T00:30Z',
  '2026-11-01T05:00Z',
  '2026-04-04T15:00Z',
  '2026-12-31T22:00Z',
  '2011-12-29T12:00Z',
] as const

/** The clock on the wall: `2026-10-25 02:30:00`, and what it is ahead of UTC in minutes. */
function wall(at: Date, zone: string): { text: string; ahead: number } {
  const text = at.toLocaleString('sv-SE', { timeZone: zone })
  return { text, ahead: (Date.parse(`${text.replace(' ', 'T')}Z`) - at.getTime()) / 60_000 }
}

const names: Readonly<Record<string, (at: Date, zone: string) => string>> = {
  hourly: (at, zone) => `${wall(at, zone).text.slice(0, 13)}/${Math.round(wall(at, zone).ahead)}`,
  daily: (at, zone) => wall(at, zone).text.slice(0, 10),
  // The Monday of the week, by going back day by day.
  weekly: (at, zone) => {
    const monday = new Date(`${wall(at, zone).text.slice(0, 10)}T12:00:00Z`)
    while (monday.getUTCDay() !== 1) monday.setTime(monday.getTime() - 24 * hour)
    return monday.toISOString().slice(0, 10)
  },
  monthly: (at, zone) => wall(at, zone).text.slice(0, 7),
  yearly: (at, zone) => wall(at, zone).text.slice(0, 4),
}

function modelKept(backups: readonly Candidate[], keep: Retention, now: Date, zone: string): Set<string> {
  const kept = new Set<string>()
  for (const group of new Set(backups.map(backup => backup.group))) {
    const all = backups.filter(backup => backup.group === group)
    const known = all
      .filter(({ startedAt }) => startedAt.getTime() <= now.getTime() + hour)
      .sort((a, b) => (a.startedAt > b.startedAt || (+a.startedAt === +b.startedAt && a.id > b.id) ? -1 : 1))
    for (const backup of all) if (backup.held || !known.includes(backup)) kept.add(backup.id)
    for (const backup of all) if (backup.lockedUntil && backup.lockedUntil > now) kept.add(backup.id)
    // Once with all, and once as if nobody had ever made an incomplete one.
    for (const past of [known, known.filter(({ isComplete }) => isComplete)])
      for (const backup of modelOf(past, keep, zone)) kept.add(backup.id)
  }
  return kept
}

function modelOf(past: readonly Candidate[], keep: Retention, zone: string): Candidate[] {
  const kept = new Set<Candidate>()
  const [newest] = past
  if (!newest) return []
  kept.add(newest)
  if (Object.keys(keep).length === 0) for (const backup of past) kept.add(backup)
  for (const backup of past.slice(0, keep.last ?? 0)) kept.add(backup)
  for (const backup of past)
    if (+newest.startedAt - +backup.startedAt <= (keep.withinMs ?? -1)) kept.add(backup)
  for (const [rule, nameOf] of Object.entries(names)) {
    const seen: string[] = []
    for (const backup of past) {
      const name = nameOf(backup.startedAt, zone)
      if (seen.includes(name)) continue
      if (seen.length === ((keep as Record<string, number>)[rule] ?? 0)) break
      seen.push(name)
      kept.add(backup)
    }
  }
  const proved = past.find(backup => backup.provedAt)
  if (proved) kept.add(proved)
  const larger = past.find(backup => newest.size.count < backup.size.count / 2)
  if (larger && +newest.startedAt - +larger.startedAt <= 30 * 24 * hour) kept.add(larger)
  return [...kept]
}

function randomBackups(random: Random, from: number): Candidate[] {
  const spacing = random.pick([0.2, 1, 5, 24, 24 * 7, 24 * 40])
  return Array.from({ length: random.int(0, 30) }, () => {
    const startedAt = new Date(from - Math.floor(random.next() * spacing * 30 * hour))
    return {
      id: newId(startedAt, Buffer.from(random.bytes(5))),
      startedAt,
      group: random.pick(['a', 'b']),
      isComplete: random.int(0, 2) > 0,
      held: random.int(0, 9) === 0,
      provedAt: random.int(0, 9) === 0 ? startedAt : null,
      lockedUntil: random.int(0, 9) === 0 ? new Date(from + random.int(-5, 5) * hour) : null,
      parent: null,
      size: { of: 'bytes' as const, count: random.pick([900, 1000, 1100, 1500, 100]) },
    }
  })
}

function randomRules(random: Random): Retention {
  const some = (most: number): number | undefined =>
    random.int(0, 2) === 0 ? random.int(1, most) : undefined
  const rules = {
    ...{
      last: some(5),
      hourly: some(30),
      daily: some(10),
      weekly: some(6),
      monthly: some(6),
      yearly: some(3),
    },
    withinMs: random.int(0, 3) === 0 ? random.int(0, 100) * hour : undefined,
  }
  return Object.fromEntries(Object.entries(rules).filter(([, n]) => n !== undefined))
}

test(`what stays is what the model keeps, in any zone, around every change of the clocks (${rounds * 25} rounds)`, () => {
  for (let seed = 1; seed <= rounds * 25; seed++) {
    const random = randomFrom(seed)
    const zone = random.pick(zones)
    const from = Date.parse(random.pick(moments)) + random.int(0, 72) * hour
    const now = new Date(from + random.pick([0, 0, 0, -20 * hour, 10 * 365 * 24 * hour]))
    const backups = randomBackups(random, from)
    const keep = randomRules(random)
    const decided = decide(backups, keep, { now, zone })
    const stays = decided.flatMap(({ id, keep: kept }) => (kept ? [id] : [])).sort()
    assert.deepEqual(stays, [...modelKept(backups, keep, now, zone)].sort(), `seed ${seed}: ${zone}`)

    for (const group of ['a', 'b']) {
      const [newest] = backups
        .filter(each => each.group === group && each.isComplete && +each.startedAt <= +now + hour)
        .sort((a, b) => +b.startedAt - +a.startedAt)
      const isThere =
        newest && backups.some(({ id, startedAt }) => stays.includes(id) && +startedAt === +newest.startedAt)
      assert.ok(!newest || isThere, `seed ${seed}: the last complete one went`)
    }

    // What is left is what stays when it is asked again; and another rule never lets more go.
    const left = backups.filter(({ id }) => stays.includes(id))
    const again = decide(left, keep, { now, zone })
    assert.ok(
      again.every(decision => decision.keep),
      `seed ${seed}: pruned twice`,
    )
    if (Object.keys(keep).length === 0) continue
    const more = decide(backups, { ...keep, last: (keep.last ?? 0) + 2 }, { now, zone })
    for (const { id, keep: kept } of more)
      assert.ok(kept || !stays.includes(id), `seed ${seed}: another rule let ${id} go`)
  }
})
