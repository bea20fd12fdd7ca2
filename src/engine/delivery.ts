import type { Context } from '../model/context.ts'
import { asFailure, Failure } from '../model/failure.ts'
import type { Destination } from '../model/job.ts'
import { pieceKey } from '../model/key.ts'
import type { StoredPart } from '../model/manifest.ts'
import type { Bytes } from '../model/step.ts'
import { type PutOptions, type Store, type StoredObject, Unkept } from '../model/store.ts'
import { eachOf } from '../platform/each-of.ts'
import { fanOut, type Sink, type SinkOutcome } from '../platform/fan-out.ts'
import { announce } from './outcome.ts'
import { split, tally } from './pieces.ts'
import { progress } from './progress.ts'

/** Bytes held between the fastest and the slowest store. */
const windowBytes = 32 * 1024 * 1024

/** So many listings are asked for at once. */
const listAtOnce = 4

/** What lies in the stores for one artifact, the same in each. */
export interface Stored {
  readonly stored: { readonly bytes: number; readonly sha256: string }
  readonly objects: StoredPart[]
}

/** What is streamed. With `replace` an object that has the key already gives way, once the new one is whole. */
export interface Streamed {
  readonly key: string
  readonly artifact: string
  readonly open: (ctx: Context) => Bytes
  readonly sizeHint?: number | undefined
  readonly replace?: boolean
}

/** The stores that a backup goes to, and which of them still have everything of it. */
export interface Delivery {
  /** The stores that took everything so far. */
  live(): readonly Destination[]
  /** Why each of the others was dropped. */
  readonly lost: ReadonlyMap<string, Failure>
  /** The first object of each live store that is there without the lock or the tags it should have. */
  readonly unkept: ReadonlyMap<string, Unkept>
  /** The stores that took anything at all, or may have when an abort came first. What is lost and not among them has nothing to be cleared away. */
  readonly reached: ReadonlySet<string>
  /** Version ids by key, in a store that keeps versions. */
  versions(store: string): Readonly<Record<string, string>>
  /**
   * Streams bytes into every live store under the key, split where the smallest store's objects end, so that the
   * objects are the same everywhere. A store that fails is dropped with a `failure` event. Throws when none is
   * left, when `ctx.signal` is aborted, or when the bytes fail: then no store that hides partial objects shows anything of it.
   */
  stream(object: Streamed, ctx: Context): Promise<Stored>
  /**
   * Looks, in every live store that can be listed, whether all these objects are there in their sizes: somebody with a
   * wrong clock may have swept them away. A store that lacks one is dropped; throws when none is left.
   */
  confirm(objects: readonly StoredPart[]): Promise<void>
  /** Does this in every live store; one where it throws is dropped. Throws when none is left. */
  inEach(work: (to: Destination) => Promise<void>): Promise<void>
  /** Puts a small object, the same or each store's own, into every live store, and drops stores in the same way. */
  put(key: string, body: (store: string) => Uint8Array): Promise<void>
  /** Does the same with an object that may be missing: a store that does not take it is not dropped. Returns which took it. */
  offer(key: string, body: (store: string) => Uint8Array): Promise<string[]>
}

/** How long a doubtful store may take for a small object. */
const doubtMs = 3_000

/**
 * A server that drops locks or tags makes its store a lost one; with `bare`, where objects count by their names as they do for
 * the tool that made such first, the store stays live and the fault is told in `unkept`, and by a `failure` event. Stores that
 * are `doubtful` have little time to take a small object.
 */
export function delivery(
  to: readonly Destination[],
  options: (to: Destination) => PutOptions,
  ctx: Context,
  { bare = false, doubtful }: { bare?: boolean; doubtful?: ReadonlySet<string> } = {},
): Delivery {
  const lost = new Map<string, Failure>()
  const unkept = new Map<string, Unkept>()
  const reached = new Set<string>()
  const versions = new Map<string, Record<string, string>>()
  const live = (): Destination[] => to.filter(({ store }) => !lost.has(store.name))
  /** Aborted when no store is left: of several streams one may know first. */
  const gone = new AbortController()
  const whileAny = (inner: Context): Context => ({
    ...inner,
    signal: AbortSignal.any([inner.signal, gone.signal]),
  })

  const drop = (store: string, error: Error): void => {
    // Of several artifacts on their way at once, the first to fail says why.
    if (lost.has(store)) return
    const failure = asFailure(error, `store ${store} failed`)
    lost.set(store, failure)
    announce(failure, undefined, ctx, store)
    if (live().length === 0) gone.abort(noneLeft(lost))
  }
  /** Puts into one store; there, a lock or tags that are dropped may be no reason to fail. */
  const putInto = async (
    dest: Destination,
    key: string,
    body: Bytes | Uint8Array,
    more: PutOptions,
    putCtx: Context,
  ): Promise<StoredObject> => {
    const { store } = dest
    try {
      return await store.put(key, body, { ...options(dest), ...more }, putCtx)
    } catch (error) {
      if (!(bare && error instanceof Unkept)) throw error
      if (!unkept.has(store.name)) {
        unkept.set(store.name, error)
        announce(error, undefined, ctx, store.name)
      }
      return error.object
    }
  }
  const settle = (outcomes: readonly SinkOutcome<StoredObject>[], key: string, bytes: number): void => {
    for (const outcome of outcomes) {
      if (!outcome.ok) drop(outcome.name, outcome.error)
      else if (outcome.value.bytes !== bytes)
        drop(outcome.name, wrongSize(outcome.name, outcome.value, bytes))
      else if (outcome.value.version) {
        versions.set(outcome.name, { ...versions.get(outcome.name), [key]: outcome.value.version })
      }
    }
    if (live().length === 0) throw noneLeft(lost)
  }

  const hurrying = (name: string): Context => {
    if (!doubtful?.has(name)) return ctx
    return { ...ctx, signal: AbortSignal.any([ctx.signal, tooLate(name)]) }
  }
  const putAll = async (key: string, body: (store: string) => Uint8Array) => {
    const outcomes = await Promise.all(
      live().map(async (dest): Promise<SinkOutcome<StoredObject>> => {
        const { name } = dest.store
        try {
          return { name, ok: true, value: await putInto(dest, key, body(name), {}, hurrying(name)) }
        } catch (error) {
          return { name, ok: false, error: asFailure(error, `store ${name} failed`) }
        }
      }),
    )
    for (const { name, ok } of outcomes) if (ok || ctx.signal.aborted) reached.add(name)
    ctx.signal.throwIfAborted()
    return outcomes
  }
  const warn = (key: string, store: string, error: Error): void => {
    const { why } = asFailure(error, `store ${store} failed`)
    const what = `store ${store} does not take what Cairn records beside the backup (${key})`
    ctx.emit({ type: 'warning', what, why, remedy: 'the backup itself is not touched by that', store })
  }

  return {
    live,
    lost,
    reached,
    unkept,
    versions: store => versions.get(store) ?? {},
    async stream({ key, artifact, open, sizeHint, replace }, streamCtx) {
      const running = whileAny(streamCtx)
      running.signal.throwIfAborted()
      const abandon = new AbortController()
      const inner = { ...running, signal: AbortSignal.any([running.signal, abandon.signal]) }
      const more = { ...(sizeHint === undefined ? {} : { sizeHint }), ...(replace ? { replace } : {}) }
      const store = storing(artifact, live(), ctx)
      const counted = tally(store.report)
      const objects: StoredPart[] = []
      const largest = Math.min(...live().map(({ store }) => store.can.maxObjectBytes))
      for await (const piece of split(open(inner), largest)) {
        const part = pieceKey(key, objects.length + 1)
        const sinks = live().map(
          (dest): Sink<StoredObject> => ({
            name: dest.store.name,
            take: (bytes, sinkCtx) =>
              putInto(dest, part, store.counting(bytes, dest.store.name), more, sinkCtx),
          }),
        )
        const input = (fanCtx: Context): Bytes => {
          fanCtx.signal.addEventListener('abort', () => abandon.abort(fanCtx.signal.reason), { once: true })
          return counted.through(piece)
        }
        const outcomes = await fanOut(input, sinks, windowBytes, running)
        settle(outcomes, part, counted.piece().bytes)
        objects.push({ key: part, ...counted.piece() })
      }
      store.done()
      return { stored: counted.total(), objects }
    },
    async confirm(objects) {
      for (const { store } of live()) {
        const missing = store.can.list ? await missingFrom(store, objects, ctx) : null
        if (missing === null) continue
        const why = `${missing} is not there any more, or not whole`
        drop(store.name, new Failure({ what: `store ${store.name} failed`, why }))
      }
      if (live().length === 0) throw noneLeft(lost)
    },
    async inEach(work) {
      await Promise.all(
        live().map(dest =>
          work(dest).catch(error => {
            ctx.signal.throwIfAborted()
            drop(dest.store.name, asFailure(error, `store ${dest.store.name} failed`))
          }),
        ),
      )
      if (live().length === 0) throw noneLeft(lost)
    },
    async put(key, body) {
      for (const outcome of await putAll(key, body)) if (!outcome.ok) drop(outcome.name, outcome.error)
      if (live().length === 0) throw noneLeft(lost)
    },
    async offer(key, body) {
      const outcomes = await putAll(key, body)
      for (const outcome of outcomes) if (!outcome.ok) warn(key, outcome.name, outcome.error)
      return outcomes.filter(({ ok }) => ok).map(({ name }) => name)
    },
  }
}

/** The key of the first object that a listing does not show as it was stored; null when all is well, or nobody may list. */
async function missingFrom(
  store: Store,
  objects: readonly StoredPart[],
  ctx: Context,
): Promise<string | null> {
  const sizes = new Map<string, number>()
  // A folder for all of its objects; in the root, where others have theirs, each by itself.
  const folders = new Set(objects.map(({ key }) => key.slice(0, key.lastIndexOf('/') + 1) || key))
  try {
    await eachOf([...folders], listAtOnce, async folder => {
      for await (const { key, bytes } of store.list(folder, ctx)) sizes.set(key, bytes)
    })
  } catch {
    ctx.signal.throwIfAborted()
    return null
  }
  return objects.find(({ key, bytes }) => sizes.get(key) !== bytes)?.key ?? null
}

function wrongSize(store: string, object: StoredObject, bytes: number): Failure {
  return new Failure({
    what: `store ${store} failed`,
    why: `it says that ${object.key} has ${object.bytes} bytes, and ${bytes} were sent`,
  })
}

function tooLate(store: string): AbortSignal {
  const controller = new AbortController()
  const why = `it did not answer before the run, nor for ${doubtMs / 1000} s in it: sources are held up meanwhile`
  const give = (): void => controller.abort(new Failure({ what: `store ${store} failed`, why }))
  setTimeout(give, doubtMs).unref()
  return controller.signal
}

function noneLeft(lost: ReadonlyMap<string, Failure>): Failure {
  const [only] = lost.values()
  if (lost.size === 1 && only) return only
  const reasons = [...lost].map(([store, failure]) => `${store}: ${failure.why}`)
  return new Failure({ what: 'no store took the backup', why: reasons.join('; ') })
}

function storing(artifact: string, to: readonly Destination[], ctx: Context) {
  const stored: Record<string, number> = Object.fromEntries(to.map(({ store }) => [store.name, 0]))
  return {
    ...progress(artifact, ctx, () => ({ read: null, stored: { ...stored } })),
    async *counting(bytes: Bytes, store: string): AsyncGenerator<Uint8Array, void, undefined> {
      for await (const chunk of bytes) {
        yield chunk
        stored[store] = (stored[store] ?? 0) + chunk.byteLength
      }
    },
  }
}
