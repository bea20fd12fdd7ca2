import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { Bytes } from '../../../src/model/step.ts'
import { NotFound, type PutOptions, type Store } from '../../../src/model/store.ts'
import { testContext } from '../context.ts'
import { collect, sameBytes } from './bytes.ts'

/** A store to hold to the contract, empty, and what can be known about it besides. */
export interface Opened {
  readonly store: Store
  /** The same objects for somebody who may read and list, where `store` may not. */
  readonly reader?: Store
  /** Names what lies in the store beside its objects: temporary files, unfinished uploads. */
  leftovers?(): Promise<readonly string[]>
  /** What the store has recorded with an object. */
  facts?(key: string): Promise<{ readonly tags?: Readonly<Record<string, string>>; readonly expires?: Date }>
}

/** What a store is excused from, each time with the reason, which the test run shows. */
export interface Excuses {
  /** Keys that the server itself refuses or changes. */
  readonly keys?: readonly { readonly matching: RegExp; readonly because: string }[]
  /** Of simultaneous puts to one key more than one may win. */
  readonly sameKeyRace?: string
  /** The server keeps no tags, and refuses them. */
  readonly noTags?: string
  /** The whole suite is skipped: the server is not there. */
  readonly skip?: string
  /** For servers that are slow to answer; 60 s. */
  readonly timeoutMs?: number
}

/** Registers one test of the suite. */
export type Rule = (title: string, check: (s: Subject, t: TestContext) => Promise<void>) => void

/** One folder for all tests of a file. */
const shared = testContext()

/** The store under test, and how a test looks at it. */
export class Subject {
  readonly opened: Opened
  readonly store: Store
  readonly reading: Store
  readonly ctx = this.context()
  readonly #t: TestContext

  constructor(opened: Opened, t: TestContext) {
    this.opened = opened
    this.store = opened.store
    this.reading = opened.reader ?? opened.store
    this.#t = t
  }

  /** A context like `ctx`, with another signal. */
  context(signal = new AbortController().signal): ReturnType<typeof testContext> {
    return testContext({ signal, dir: shared.dir, spool: shared.dir })
  }

  put(key: string, body: Bytes | Uint8Array, options: PutOptions = {}): ReturnType<Store['put']> {
    return this.store.put(key, body, options, this.ctx)
  }

  read(key: string): Promise<Buffer> {
    return collect(this.store.get(key, {}, this.ctx))
  }

  /** The key holds exactly these bytes. */
  async holds(key: string, bytes: Uint8Array): Promise<void> {
    if (!this.reading.can.read) return this.#t.diagnostic(`nobody can read ${key} back`)
    sameBytes(await collect(this.reading.get(key, {}, this.ctx)), bytes, key)
  }

  /** These keys, in any order, each once. */
  async lists(prefix: string, keys: readonly string[]): Promise<void> {
    if (!this.reading.can.list) return
    const entries = await Array.fromAsync(this.reading.list(prefix, this.ctx))
    assert.deepEqual(entries.map(entry => entry.key).sort(), [...keys].sort(), `the listing of "${prefix}"`)
  }

  /** The key is neither listed nor readable. */
  async isAbsent(key: string): Promise<void> {
    if (this.reading.can.list) {
      const entries = await Array.fromAsync(this.reading.list('', this.ctx))
      assert(!entries.some(entry => entry.key === key), `${key} is listed`)
    }
    if (this.reading.can.read) await assert.rejects(collect(this.reading.get(key, {}, this.ctx)), NotFound)
  }

  /** A put of the key that failed left nothing: no object, and after a sweep nothing else. */
  async isNotLeft(key: string): Promise<void> {
    if (!this.store.can.hidesPartial) return this.#t.diagnostic('this store shows what is half written')
    await this.isAbsent(key)
    await this.hasNoLeftovers('job/')
  }

  async hasNoLeftovers(prefix: string): Promise<void> {
    if (!this.opened.leftovers) return
    await this.store.sweep(prefix, this.ctx)
    assert.deepEqual(await this.opened.leftovers(), [])
  }
}
