import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from '../../src/model/failure.ts'
import type { Bytes } from '../../src/model/step.ts'
import { type Entry, type Store, Transient } from '../../src/model/store.ts'

/** What goes wrong in a put. */
export type PutFault =
  /** The store fails once it has taken so many bytes. */
  | { readonly failAfter: number; readonly error?: Error }
  /** It takes so many bytes and then no more, until it is told to stop. */
  | { readonly hangAfter: number }
  /** It takes so many bytes a second. */
  | { readonly bytesPerSecond: number }

/** What goes wrong in a get. */
export type GetFault =
  /** The stream throws after so many bytes, if it has as many. Transient unless another error is given. */
  | { readonly cutAfter: number; readonly error?: Error }
  /** One bit, counted from the beginning of what is read, comes the other way round. */
  | { readonly flipBit: number }
  /** The stream ends after so many bytes, as if that were all. */
  | { readonly endAfter: number }
  /** The bytes of another object come. */
  | { readonly insteadOf: string }

export type Method = 'put' | 'get' | 'list' | 'remove' | 'lockUntil'

export interface Faults {
  readonly put?: PutFault
  readonly get?: GetFault
  /** A listing fails with this after so many entries. */
  readonly list?: { readonly after?: number; readonly error?: Error }
  readonly remove?: Error
  /** Only calls for keys, or prefixes, that match suffer; else all do. */
  readonly only?: RegExp
  /** Calls that fail with Transient, and nothing else goes wrong in them. */
  readonly transient?: {
    readonly method: Method
    /** Which of the calls of this method that `only` matches, counted from 1. */
    readonly calls: readonly number[]
    /** `after`: what was asked for is done, and only the answer is lost. */
    readonly when?: 'before' | 'after'
  }
  /** `put`, `get` and `list` faults happen in these calls only, counted like those of `transient`. */
  readonly calls?: readonly number[]
}

/** A store in which things go wrong as planned. Everything else is the store's own doing. */
export function faulty(store: Store, faults: Faults): Store {
  const plan = new Plan(faults)
  const lockUntil = store.lockUntil?.bind(store)
  return {
    ...store,
    put(key, body, options, ctx) {
      const call = plan.count('put', key)
      const fault = call.isFaulty ? faults.put : undefined
      const taken = fault ? misput(body, fault, ctx.signal) : body
      return call.run(() => store.put(key, taken, options, ctx))
    },
    async *get(key, options, ctx) {
      const call = plan.count('get', key)
      call.failBefore()
      const fault = call.isFaulty ? faults.get : undefined
      const from = fault && 'insteadOf' in fault ? fault.insteadOf : key
      const bytes = store.get(from, options, ctx)
      yield* fault ? misread(bytes, fault) : bytes
      call.failAfter()
    },
    async *list(prefix, ctx) {
      const call = plan.count('list', prefix)
      call.failBefore()
      const entries = store.list(prefix, ctx)
      yield* call.isFaulty && faults.list ? mislist(entries, faults.list) : entries
      call.failAfter()
    },
    async remove(key, version, ctx) {
      const call = plan.count('remove', key)
      if (faults.remove && call.isFaulty) throw faults.remove
      return call.run(() => store.remove(key, version, ctx))
    },
    ...(lockUntil && {
      lockUntil: (key, version, until, ctx) =>
        plan.count('lockUntil', key).run(() => lockUntil(key, version, until, ctx)),
    }),
  }
}

const planned = (what: string): Failure => new Failure({ what, why: 'a planned fault' })
const passing = (what: string): Transient => new Transient({ what, why: 'a planned fault that passes' })

/** Counts the calls. */
class Plan {
  readonly #faults: Faults
  readonly #counts = new Map<Method, number>()

  constructor(faults: Faults) {
    this.#faults = faults
  }

  count(method: Method, key: string): Call {
    const { only, calls, transient } = this.#faults
    if (only && !only.test(key)) return new Call(false, undefined)
    const number = (this.#counts.get(method) ?? 0) + 1
    this.#counts.set(method, number)
    const passes = transient?.method === method && transient.calls.includes(number)
    if (passes) return new Call(false, transient.when ?? 'before')
    return new Call(calls?.includes(number) ?? true, undefined)
  }
}

class Call {
  readonly isFaulty: boolean
  readonly #transient: 'before' | 'after' | undefined

  constructor(isFaulty: boolean, transient: 'before' | 'after' | undefined) {
    this.isFaulty = isFaulty
    this.#transient = transient
  }

  failBefore(): void {
    if (this.#transient === 'before') throw passing('the connection broke')
  }

  failAfter(): void {
    if (this.#transient === 'after') throw passing('the answer was lost')
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    this.failBefore()
    const result = await work()
    this.failAfter()
    return result
  }
}

async function* misput(body: Bytes | Uint8Array, fault: PutFault, signal: AbortSignal): Bytes {
  const chunks = body instanceof Uint8Array ? [body] : body
  if ('bytesPerSecond' in fault) {
    yield* slowed(chunks, fault.bytesPerSecond, signal)
    return
  }
  const limit = 'failAfter' in fault ? fault.failAfter : fault.hangAfter
  let left = limit
  for await (const chunk of chunks) {
    if (chunk.byteLength >= left) {
      if (left > 0) yield chunk.subarray(0, left)
      left = 0
      break
    }
    left -= chunk.byteLength
    yield chunk
  }
  // A body that was shorter is stored as it is.
  if (left > 0) return
  if ('failAfter' in fault) throw fault.error ?? planned(`the store failed after ${limit} bytes`)
  await aborted(signal)
}

async function* slowed(
  chunks: Bytes | Iterable<Uint8Array>,
  bytesPerSecond: number,
  signal: AbortSignal,
): Bytes {
  const piece = Math.max(1, Math.ceil(bytesPerSecond / 20))
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.byteLength; at += piece) {
      const part = chunk.subarray(at, at + piece)
      await sleep((part.byteLength / bytesPerSecond) * 1000, undefined, { signal }).catch(() => {})
      signal.throwIfAborted()
      yield part
    }
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}

async function* misread(bytes: Bytes, fault: GetFault): Bytes {
  if ('insteadOf' in fault) yield* bytes
  else if ('flipBit' in fault) yield* flipped(bytes, fault.flipBit)
  else if ('endAfter' in fault) yield* first(bytes, fault.endAfter)
  else {
    const limit = fault.cutAfter
    const sent = yield* first(bytes, limit)
    if (sent === limit) throw fault.error ?? passing(`the connection broke after ${limit} bytes`)
  }
}

/** Returns how many bytes it was: fewer than the limit where there are no more. */
async function* first(bytes: Bytes, limit: number): AsyncGenerator<Uint8Array, number> {
  let left = limit
  if (left === 0) return 0
  for await (const chunk of bytes) {
    yield chunk.subarray(0, left)
    left -= chunk.byteLength
    if (left <= 0) return limit
  }
  return limit - left
}

async function* flipped(bytes: Bytes, bit: number): Bytes {
  let at = 0
  for await (const chunk of bytes) {
    const index = (bit >> 3) - at
    at += chunk.byteLength
    if (index < 0 || index >= chunk.byteLength) yield chunk
    else {
      const changed = Uint8Array.from(chunk)
      changed[index] = (changed[index] ?? 0) ^ (1 << (bit & 7))
      yield changed
    }
  }
}

async function* mislist(
  entries: AsyncIterable<Entry>,
  fault: NonNullable<Faults['list']>,
): AsyncGenerator<Entry> {
  let left = fault.after ?? 0
  for await (const entry of entries) {
    if (left === 0) break
    left--
    yield entry
  }
  throw fault.error ?? planned('the listing broke')
}
