import { type TestContext, test } from 'node:test'
import { exclusivity } from './store-contract/exclusivity.ts'
import { interruptions } from './store-contract/interruptions.ts'
import { keeping, removing } from './store-contract/keeping.ts'
import { listing, reading } from './store-contract/reading.ts'
import { type Excuses, type Opened, type Rule, Subject } from './store-contract/subject.ts'
import { bodies, names } from './store-contract/writing.ts'

export { collect, hostileBytes, inChunks, inOddChunks } from './store-contract/bytes.ts'
export type { Excuses, Opened }

/**
 * Registers tests that hold a store to every sentence of the Store contract, as far as its abilities go.
 * `open` gives each test an empty store of its own and cleans up with `t.after`.
 */
export function storeContract(
  name: string,
  open: (t: TestContext) => Promise<Opened>,
  excuses: Excuses = {},
): void {
  const options = { timeout: excuses.timeoutMs ?? 60_000, ...(excuses.skip && { skip: excuses.skip }) }
  const rule: Rule = (title, check) => {
    test(`${name}: ${title}`, options, async t => check(new Subject(await open(t), t), t))
  }
  bodies(rule)
  names(rule, excuses)
  exclusivity(rule, excuses)
  interruptions(rule)
  reading(rule)
  listing(rule)
  removing(rule)
  keeping(rule, excuses)
}
