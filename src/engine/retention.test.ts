import assert from 'node:assert/strict'
import { test } from 'node:test'
import { randomFrom, rounds } from '../../test/support/random.ts'
import { newId } from '../model/key.ts'
import { type Candidate, decide } from './retention.ts'

const now = new Date('2026-11-21T12:00:00Z')
const hour = 3_600_000

function backupAt(hoursAgo: number, changes: Partial<Candidate> = {}): Candidate {
  const startedAt = new Date(now.getTime() - hoursAgo * hour)
  const id = newId(startedAt, Buffer.from([0, 0, 0, 0, Math.abs(hoursAgo) % 256]))
  return {
    id,
    startedAt,
    group: 'a',
    held: false,
    provedAt: null,
    lockedUntil: null,
    parent: null,
    ...changes,
  }
}

function kept(
  backups: readonly Candidate[],
  keep: Parameters<typeof decide>[1],
  begun?: ReadonlySet<string>,
): number[] {
  const decisions = decide(backups, keep, now, begun)
  return decisions.flatMap(({ keep: stays }, index) => (stays ? [index] : []))
}

const five = [1, 2, 3, 4, 5].map(age => backupAt(age * 10))

test('the last n and those within a time stay, together', () => {
  assert.deepEqual(kept(five, { last: 2 }), [0, 1])
  assert.deepEqual(kept(five, { withinMs: 35 * hour }), [0, 1, 2])
  assert.deepEqual(kept(five, { last: 4, withinMs: 15 * hour }), [0, 1, 2, 3])
})

test('without a rule everything stays', () => {
  assert.deepEqual(kept(five, {}), [0, 1, 2, 3, 4])
})

test('the newest stays however old it is', () => {
  assert.deepEqual(kept(five, { withinMs: hour }), [0])
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

test('every decision has a reason', () => {
  const decisions = decide(five, { last: 1 }, now)
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
    const decisions = new Map(decide(backups, keep, now).map(({ id, keep: stays }) => [id, stays]))
    for (const group of Map.groupBy(backups, backup => backup.group).values()) {
      const [newest] = group.toSorted((a, b) => (a.id < b.id ? 1 : -1))
      assert.equal(decisions.get(newest?.id ?? ''), true, `seed ${seed}`)
    }
    for (const { id, parent } of backups) {
      if (decisions.get(id) && parent) assert.equal(decisions.get(parent), true, `seed ${seed}`)
    }
  }
})
