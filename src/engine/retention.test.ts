import assert from 'node:assert/strict'
import { test } from 'node:test'
import { randomFrom, rounds } from '../../test/support/random.ts'
import type { Retention } from '../model/job.ts'
import { newId } from '../model/key.ts'
import { type Candidate, type Circumstances, decide } from './retention.ts'

const now = new Date('2026-11-21T12:00:00Z')
const hour = 3_600_000

function backupAt(hoursAgo: number, changes: Partial<Candidate> = {}): Candidate {
  const startedAt = new Date(now.getTime() - hoursAgo * hour)
  const id = newId(startedAt, Buffer.from([0, 0, 0, 0, Math.abs(hoursAgo) % 256]))
  return {
    id,
    startedAt,
    group: 'a',
    isComplete: true,
    held: false,
    provedAt: null,
    lockedUntil: null,
    parent: null,
    size: { of: 'bytes', count: 1000 },
    ...changes,
  }
}

function kept(
  backups: readonly Candidate[],
  keep: Parameters<typeof decide>[1],
  begun?: ReadonlySet<string>,
): number[] {
  const decisions = decide(backups, keep, { now, zone: 'UTC', ...(begun ? { begun } : {}) })
  return decisions.flatMap(({ keep: stays }, index) => (stays ? [index] : []))
}

/** The ids of those that stay. */
function stays(backups: readonly Candidate[], keep: Retention, when: Circumstances): string[] {
  return decide(backups, keep, when)
    .filter(decision => decision.keep)
    .map(({ id }) => id)
}

const five = [1, 2, 3, 4, 5].map(age => backupAt(age * 10))

test('the last n and those within a time stay, together', () => {
  assert.deepEqual(kept(five, { last: 2 }), [0, 1])
  // Counted from the newest one, which is ten hours old.
  assert.deepEqual(kept(five, { withinMs: 20 * hour }), [0, 1, 2])
  assert.deepEqual(kept(five, { last: 4, withinMs: 15 * hour }), [0, 1, 2, 3])
})

test('without a rule everything stays', () => {
  assert.deepEqual(kept(five, {}), [0, 1, 2, 3, 4])
})

test('the newest stays however old it is', () => {
  assert.deepEqual(kept(five, { withinMs: hour }), [0])
})

test('after a pause, and with a clock that jumped ahead, no rule lets go more than before', () => {
  const rules: Retention[] = [{ withinMs: 25 * hour }, { daily: 2 }, { last: 2, yearly: 1 }]
  const inTenYears = new Date(now.getTime() + 10 * 365 * 24 * hour)
  for (const rule of rules) {
    const ids = (at: Date): string[] => stays(five, rule, { now: at, zone: 'UTC' })
    assert.deepEqual(ids(inTenYears), ids(now))
  }
})

test('with a clock that was set back nothing is let go', () => {
  const lastYear = new Date(now.getTime() - 365 * 24 * hour)
  assert.equal(stays(five, { last: 1 }, { now: lastYear, zone: 'UTC' }).length, five.length)
})

test('of each hour, day, week, month and year the newest stays, as many as there are with a backup', () => {
  const at = (text: string): Candidate => {
    const startedAt = new Date(text)
    return backupAt(0, { startedAt, id: newId(startedAt, Buffer.alloc(5)) })
  }
  const backups = [
    ...['2026-11-21T10:40Z', '2026-11-21T10:10Z', '2026-11-20T23:00Z', '2026-11-20T01:00Z'].map(at),
    ...['2026-11-16T00:00Z', '2026-11-15T23:59Z', '2026-10-31T12:00Z', '2025-12-31T23:00Z'].map(at),
  ]
  const keptBy = (keep: Retention, zone = 'UTC'): number[] => {
    const left = new Set(stays(backups, keep, { now, zone }))
    return backups.flatMap(({ id }, index) => (left.has(id) ? [index] : []))
  }
  assert.deepEqual(keptBy({ hourly: 3 }), [0, 2, 3])
  assert.deepEqual(keptBy({ daily: 3 }), [0, 2, 4])
  assert.deepEqual(keptBy({ weekly: 2 }), [0, 5])
  assert.deepEqual(keptBy({ monthly: 3 }), [0, 6, 7])
  assert.deepEqual(keptBy({ yearly: 9 }), [0, 7])
  assert.deepEqual(keptBy({ yearly: 9 }, 'Europe/Berlin'), [0])
  assert.deepEqual(keptBy({ daily: 2 }, 'Europe/Berlin'), [0, 3])
  assert.deepEqual(keptBy({ last: 1, daily: 2, yearly: 2 }), [0, 2, 7])
})

test('the last backup before the size fell by more than half stays for thirty days', () => {
  const sized = (daysAgo: number, count: number, of: 'rows' | 'bytes' = 'rows'): Candidate =>
    backupAt(daysAgo * 24, { size: { of, count } })
  const backups = [sized(0, 40), sized(1, 45), sized(2, 100), sized(3, 100)]
  assert.deepEqual(kept(backups, { last: 1 }), [0, 2])
  const decisions = decide(backups, { last: 1 }, { now, zone: 'UTC' })
  assert.equal(decisions[2]?.reason, 'the last one before the rows fell by 60 %')
  assert.deepEqual(kept([sized(0, 60), sized(1, 100)], { last: 1 }), [0])
  assert.deepEqual(kept([sized(0, 40), sized(31, 100)], { last: 1 }), [0])
  assert.deepEqual(kept([sized(0, 40), sized(1, 100, 'bytes')], { last: 1 }), [0])
})

test('held, locked and newest proven backups stay', () => {
  const backups = [
    backupAt(1),
    backupAt(2, { held: true }),
    backupAt(3, { lockedUntil: new Date(now.getTime() + hour) }),
    backupAt(4, { lockedUntil: new Date(now.getTime() - hour) }),
    backupAt(5, { provedAt: now }),
    backupAt(6, { provedAt: now }),
  ]
  assert.deepEqual(kept(backups, { last: 1 }), [0, 1, 2, 4])
})

test('what a kept backup builds on stays, however long the chain; so does what a running one builds on', () => {
  const full = backupAt(30)
  const first = backupAt(20, { parent: full.id })
  const second = backupAt(10, { parent: first.id })
  const other = backupAt(40)
  assert.deepEqual(kept([second, first, full, other], { last: 1 }), [0, 1, 2])
  assert.deepEqual(kept([second, first, full, other], { last: 1 }, new Set([other.id])), [0, 1, 2, 3])
})

test('groups are counted apart: another unit or another host with the same job name loses nothing', () => {
  const mine = [1, 2, 3].map(age => backupAt(age))
  const theirs = [4, 5, 6].map(age => backupAt(age, { group: 'b' }))
  assert.deepEqual(kept([...mine, ...theirs], { last: 1 }), [0, 3])
})

test('a backup from the future is neither deleted nor counted as one of the last', () => {
  const future = backupAt(-100)
  assert.deepEqual(kept([future, ...five], { last: 1 }), [0, 1])
})

test('incomplete backups push no complete one out, whatever the rules', () => {
  const lacking = Array.from({ length: 21 }, (_, n) => backupAt(n * 24 + 1, { isComplete: false }))
  const whole = [22, 23, 24, 25].map(days => backupAt(days * 24))
  const all = [...lacking, ...whole]
  assert.deepEqual(kept(all, { last: 3 }), [0, 1, 2, 21, 22, 23])
  assert.deepEqual(kept(all, { daily: 2 }), [0, 1, 21, 22])
  assert.deepEqual(kept(all, { withinMs: 25 * hour }), [0, 1, 21, 22])
  assert.deepEqual(kept(all, { yearly: 1 }), [0, 21])
  const [newest, complete] = decide(
    [lacking[0] ?? never(), whole[0] ?? never()],
    { yearly: 1 },
    { now, zone: 'UTC' },
  )
  assert.match(complete?.reason ?? '', /of the complete ones$/)
  assert.doesNotMatch(newest?.reason ?? '', /complete|good/)
})

function never(): never {
  throw new Error('there is none')
}

test('every decision has a reason', () => {
  const decisions = decide(five, { last: 1 }, { now, zone: 'UTC' })
  assert.deepEqual(
    decisions.map(({ reason }) => reason),
    ['last 1', 'no rule keeps it', 'no rule keeps it', 'no rule keeps it', 'no rule keeps it'],
  )
})

test('whatever the backups and the rules, each group keeps its newest, and nothing kept loses its parent', () => {
  for (let seed = 1; seed <= rounds * 10; seed++) {
    const random = randomFrom(seed)
    const backups: Candidate[] = []
    for (let n = random.int(1, 12); n > 0; n--) {
      const candidates = backups.map(({ id }) => id)
      const parent =
        random.int(0, 2) === 0 ? (candidates[random.int(0, candidates.length - 1)] ?? null) : null
      backups.push(backupAt(n * 10 + random.int(0, 9), { group: random.int(0, 1) === 0 ? 'a' : 'b', parent }))
    }
    const keep = { last: random.int(1, 3), withinMs: random.int(0, 50) * hour }
    const decided = decide(backups, keep, { now, zone: 'UTC' })
    const decisions = new Map(decided.map(({ id, keep: remains }) => [id, remains]))
    for (const group of Map.groupBy(backups, backup => backup.group).values()) {
      const [newest] = group.toSorted((a, b) => (a.id < b.id ? 1 : -1))
      assert.equal(decisions.get(newest?.id ?? ''), true, `seed ${seed}`)
    }
    for (const { id, parent } of backups) {
      if (decisions.get(id) && parent) assert.equal(decisions.get(parent), true, `seed ${seed}`)
    }
  }
})
