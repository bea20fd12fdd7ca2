import { type Entry, NotFound, type Store } from '../../model/store.ts'
import { BadRequest } from './error.ts'

/**
 * The keys of a bucket that begin with a slash, and beside them those at its root that have none: tools that wrote to the
 * folder "/" meant the same by both, and some servers take the slash off. It writes with the slash; without, once a server
 * has refused it for bytes in memory, which can be sent again: a run's first object is such. `bare` is the same bucket
 * without a prefix; of two objects of one name, the one with the slash counts. In folders, both are looked for only where
 * nothing has the slash.
 */
export function eitherSlash(slashed: Store, bare: Store): Store {
  let slashRefused = false
  /** Keys that were listed without a slash: nobody knows of others. */
  const withoutSlash = new Set<string>()
  const isBare = (key: string): boolean => slashRefused || withoutSlash.has(key)

  async function at<T>(key: string, ask: (store: Store) => Promise<T>): Promise<T> {
    if (isBare(key)) return await ask(bare)
    try {
      return await ask(slashed)
    } catch (error) {
      if (!(error instanceof BadRequest)) throw error
      return await ask(bare)
    }
  }

  async function* both<E extends Entry>(prefix: string, list: (store: Store) => AsyncIterable<E>) {
    const keys = new Set<string>()
    for await (const entry of list(slashed)) {
      keys.add(entry.key)
      withoutSlash.delete(entry.key)
      yield entry
    }
    const inFolder = prefix.includes('/')
    if (inFolder && keys.size > 0) return
    for await (const entry of list(bare)) {
      // What lies in folders that were not asked for is somebody else's.
      if (keys.has(entry.key) || (!inFolder && entry.key.includes('/'))) continue
      withoutSlash.add(entry.key)
      yield entry
    }
  }

  return {
    ...slashed,
    async put(key, body, options, ctx) {
      if (!slashRefused) {
        try {
          return await slashed.put(key, body, options, ctx)
        } catch (error) {
          if (!(error instanceof BadRequest && body instanceof Uint8Array)) throw error
        }
      }
      const stored = await bare.put(key, body, options, ctx)
      slashRefused = true
      return stored
    },
    async *get(key, options, ctx) {
      if (isBare(key)) return yield* bare.get(key, options, ctx)
      let begun = false
      try {
        for await (const chunk of slashed.get(key, options, ctx)) {
          begun = true
          yield chunk
        }
      } catch (error) {
        if (begun || !(error instanceof BadRequest || error instanceof NotFound)) throw error
        yield* bare.get(key, options, ctx)
      }
    },
    list: (prefix, ctx) => both(prefix, store => store.list(prefix, ctx)),
    listVersions: (prefix, ctx) =>
      both(prefix, store => store.listVersions?.(prefix, ctx) ?? store.list(prefix, ctx)),
    remove: (key, version, ctx) => at(key, store => store.remove(key, version, ctx)),
    lockUntil: (key, version, until, ctx) =>
      at(key, async store => (await store.lockUntil?.(key, version, until, ctx)) ?? until),
    sweep: (prefix, ctx) => (slashRefused ? bare : slashed).sweep(prefix, ctx),
    shell: key => (isBare(key) ? bare : slashed).shell(key),
    async close() {
      await Promise.all([slashed.close?.(), bare.close?.()])
    },
  }
}
