import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Context } from '../model/context.ts'
import { damage, Failure } from '../model/failure.ts'
import type { Bytes } from '../model/step.ts'
import {
  AlreadyExists,
  type Entry,
  type GetOptions,
  NotFound,
  type Store,
  Transient,
} from '../model/store.ts'

export interface Patience {
  /** How often something is tried in all, without getting any further. */
  readonly attempts: number
  /** The first wait; each that follows is twice as long, up to a minute. */
  readonly baseMs: number
  /** Which part of a wait is random, from 0 to 1, so that many clients do not come back at once. */
  readonly jitter: number
}

const longestMs = 60_000

/**
 * A store that tries again where trying again is safe, when the store under it throws Transient.
 *
 * `get` goes on at the byte it had reached, `list` starts again and leaves out what it has given, `remove`,
 * `lockUntil` and the `put` of a buffer are repeated. The put of a stream is not: a stream comes once, and an
 * adapter that can repeat a part of it does so itself. `probe` and `sweep` are not either: they tell how things are.
 * Attempts are counted anew whenever a get or a list got further. Each retry emits a warning. Waits end at an
 * abort, with its reason. When patience ends, or that of `ctx`, the last Transient is thrown.
 *
 * A put that failed may have arrived all the same, so AlreadyExists at a later attempt may be our own object.
 * It counts as success when the object reads back equal; or, where nobody can read, when the key carries the
 * start of the body's SHA-256, as a manifest's does: then whoever wrote it wrote these bytes. Otherwise it is a
 * Failure that says what is not known: a false alarm does less harm than a backup that is not there. Such a
 * success tells no version.
 */
export function retrying(store: Store, options: Partial<Patience> = {}): Store {
  const patience = { attempts: 5, baseMs: 500, jitter: 0.5, ...options }
  const lockUntil = store.lockUntil?.bind(store)
  const close = store.close?.bind(store)
  const advice = store.advice?.bind(store)
  const now = store.now?.bind(store)
  const trying = (doing: string, ctx: Context): Tries => new Tries(store.name, doing, patience, ctx)
  return {
    name: store.name,
    can: store.can,
    shell: key => store.shell(key),
    probe: ctx => store.probe(ctx),
    put(key, body, putOptions, ctx) {
      if (!(body instanceof Uint8Array)) return store.put(key, body, putOptions, ctx)
      const readBack = (): Bytes => get(store, key, {}, trying(`reading ${key} back`, ctx), ctx)
      return trying(`writing ${key}`, ctx).until(async isFirst => {
        try {
          return await store.put(key, body, putOptions, ctx)
        } catch (error) {
          if (isFirst || !(error instanceof AlreadyExists)) throw error
          await mustBeOurs(store, key, body, error, readBack)
          return { key, bytes: body.byteLength }
        }
      })
    },
    get: (key, getOptions, ctx) => get(store, key, getOptions, trying(`reading ${key}`, ctx), ctx),
    list: (prefix, ctx) => list(store, prefix, trying(`listing ${prefix}`, ctx), ctx),
    ...(store.listVersions
      ? { listVersions: (prefix, ctx) => store.listVersions?.(prefix, ctx) ?? store.list(prefix, ctx) }
      : {}),
    remove: (key, version, ctx) =>
      trying(`removing ${key}`, ctx).until(() => store.remove(key, version, ctx)),
    sweep: (prefix, ctx) => store.sweep(prefix, ctx),
    ...(lockUntil && {
      lockUntil: (key, version, until, ctx) =>
        trying(`locking ${key}`, ctx).until(() => lockUntil(key, version, until, ctx)),
    }),
    ...(advice && { advice }),
    ...(now && { now: ctx => trying('asking for the time', ctx).until(() => now(ctx)) }),
    ...(close && { close }),
  }
}

/** Counts the attempts at one thing, and waits between them. */
class Tries {
  readonly #store: string
  readonly #doing: string
  readonly #patience: Patience
  readonly #ctx: Context
  #failed = 0
  #since = performance.now()

  constructor(store: string, doing: string, patience: Patience, ctx: Context) {
    this.#store = store
    this.#doing = doing
    this.#patience = patience
    this.#ctx = ctx
  }

  /** The first result of the work that is not a transient failure. */
  async until<T>(work: (isFirst: boolean) => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work(this.#failed === 0)
      } catch (error) {
        await this.next(error)
      }
    }
  }

  /** It got further: patience begins anew. */
  progress(): void {
    this.#failed = 0
    this.#since = performance.now()
  }

  /** Returns when it is time for the next attempt; throws the error when there is to be none. */
  async next(error: unknown): Promise<void> {
    this.#failed++
    this.#ctx.signal.throwIfAborted()
    if (!(error instanceof Transient) || this.#failed >= this.#patience.attempts) throw error
    const { attempts, baseMs, jitter } = this.#patience
    const full = Math.min(longestMs, baseMs * 2 ** (this.#failed - 1))
    const waitMs = full * (1 - jitter * Math.random())
    const { patienceMs = Number.POSITIVE_INFINITY } = this.#ctx
    if (performance.now() + waitMs - this.#since > patienceMs) throw error
    this.#ctx.emit({
      type: 'warning',
      what: `${this.#doing} failed in the store ${this.#store}`,
      why: error.why,
      remedy: `attempt ${this.#failed + 1} of ${attempts} follows in ${(waitMs / 1000).toFixed(1)} s`,
      store: this.#store,
    })
    await pause(waitMs, this.#ctx.signal)
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal })
  } catch (error) {
    signal.throwIfAborted()
    throw error
  }
}

async function* get(store: Store, key: string, options: GetOptions, tries: Tries, ctx: Context): Bytes {
  const reached = new Reached(options)
  for (;;) {
    try {
      for await (const chunk of store.get(key, reached.rest(), ctx)) {
        const fresh = reached.take(chunk, key)
        if (fresh.byteLength === 0) continue
        tries.progress()
        yield fresh
      }
      return
    } catch (error) {
      await tries.next(error)
      if (reached.isAll) return
    }
  }
}

/** How far a get has come. */
class Reached {
  readonly #options: GetOptions
  readonly #first: number
  readonly #end: number
  #next: number
  #last: number | undefined
  /** The byte that the resumed stream begins with, and that is there already. */
  #overlap: number | undefined

  constructor(options: GetOptions) {
    const [first, last] = options.range ?? [0, Number.MAX_SAFE_INTEGER - 1]
    this.#options = options
    this.#first = first
    this.#next = first
    this.#end = last + 1
  }

  get isAll(): boolean {
    return this.#next >= this.#end
  }

  /**
   * What to ask for now. It begins with the last byte that came: a range that begins at the end of an object
   * is an error to many servers, and the stream may have broken just there.
   */
  rest(): GetOptions {
    this.#overlap = this.#last
    if (this.#next === this.#first) return this.#options
    return { ...this.#options, range: [this.#next - 1, this.#end - 1] }
  }

  /** The new bytes of a chunk. */
  take(chunk: Uint8Array, key: string): Uint8Array {
    if (chunk.byteLength === 0) return chunk
    const fresh = this.#overlap === undefined ? chunk : chunk.subarray(1)
    if (this.#overlap !== undefined && chunk[0] !== this.#overlap) {
      throw damage(`cannot read ${key}`, 'it changed while it was read')
    }
    this.#overlap = undefined
    this.#next += fresh.byteLength
    this.#last = chunk.at(-1)
    return fresh
  }
}

async function* list(store: Store, prefix: string, tries: Tries, ctx: Context): AsyncGenerator<Entry> {
  const given = new Set<string>()
  for (;;) {
    try {
      for await (const entry of store.list(prefix, ctx)) {
        if (given.has(entry.key)) continue
        given.add(entry.key)
        tries.progress()
        yield entry
      }
      return
    } catch (error) {
      await tries.next(error)
    }
  }
}

/** Returns when the object under the key has the body's bytes, whoever wrote it. */
async function mustBeOurs(
  store: Store,
  key: string,
  body: Uint8Array,
  taken: AlreadyExists,
  readBack: () => Bytes,
): Promise<void> {
  if (store.can.read) {
    if (await areSame(readBack(), body)) return
    throw taken
  }
  const digest = createHash('sha256').update(body).digest('hex')
  if (key.includes(digest.slice(0, 16))) return
  throw new Failure({
    what: `cannot tell whether ${key} was stored in ${store.name}`,
    why: 'an attempt failed, the next one found the key taken, and this store cannot be read',
    remedy: 'see with an identity that may read',
    cause: taken,
  })
}

async function areSame(stored: Bytes, body: Uint8Array): Promise<boolean> {
  let at = 0
  try {
    for await (const chunk of stored) {
      if (Buffer.compare(chunk, body.subarray(at, at + chunk.byteLength)) !== 0) return false
      at += chunk.byteLength
    }
  } catch (error) {
    if (error instanceof NotFound) return false
    throw error
  }
  return at === body.byteLength
}
