import type { Entry, Store } from '../../model/store.ts'

/**
 * The keys of a bucket that begin with a slash, and beside them those at its root that have none: tools that wrote to the
 * folder "/" meant the same by both, and some servers take the slash off. It writes with the slash. `bare` is the same
 * bucket without a prefix; of two objects of one name, the one with the slash counts. In folders, both are looked for
 * only where nothing has the slash.
 */
export function eitherSlash(slashed: Store, bare: Store): Store {
  /** Keys that were listed without a slash: nobody knows of others. */
  const withoutSlash = new Set<string>()
  const storeOf = (key: string): Store => (withoutSlash.has(key) ? bare : slashed)

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
    get: (key, options, ctx) => storeOf(key).get(key, options, ctx),
    list: (prefix, ctx) => both(prefix, store => store.list(prefix, ctx)),
    listVersions: (prefix, ctx) =>
      both(prefix, store => store.listVersions?.(prefix, ctx) ?? store.list(prefix, ctx)),
    remove: (key, version, ctx) => storeOf(key).remove(key, version, ctx),
    async lockUntil(key, version, until, ctx) {
      return (await storeOf(key).lockUntil?.(key, version, until, ctx)) ?? until
    },
    shell: key => storeOf(key).shell(key),
    async close() {
      await Promise.all([slashed.close?.(), bare.close?.()])
    },
  }
}
