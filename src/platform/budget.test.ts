import assert from 'node:assert/strict'
import { test } from 'node:test'
import { memoryBudget } from './budget.ts'

test('a budget gives what is wanted while it lasts, then what is left, then the least', () => {
  const budget = memoryBudget(100)
  assert.equal(budget.claim(60, 10).bytes, 60)
  assert.equal(budget.claim(60, 10).bytes, 40)
  assert.equal(budget.claim(60, 10).bytes, 10)
  assert.equal(budget.claim(60, 20).bytes, 20)
})

test('what is given back can be claimed again, and is given back once only', () => {
  const budget = memoryBudget(100)
  const first = budget.claim(100, 1)
  {
    using second = budget.claim(50, 5)
    assert.equal(second.bytes, 5)
  }
  first[Symbol.dispose]()
  first[Symbol.dispose]()
  assert.equal(budget.claim(500, 1).bytes, 100)
  assert.equal(budget.claim(500, 1).bytes, 1)
})

test('an overdrawn budget must be paid back before it gives more than the least', () => {
  const budget = memoryBudget(10)
  const large = budget.claim(40, 40)
  const small = budget.claim(5, 1)
  assert.deepEqual([large.bytes, small.bytes], [40, 1])
  small[Symbol.dispose]()
  assert.equal(budget.claim(5, 1).bytes, 1)
  large[Symbol.dispose]()
  assert.equal(budget.claim(50, 1).bytes, 9)
})
