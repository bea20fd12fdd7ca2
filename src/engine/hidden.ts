// Backups that somebody hid: where a store keeps versions, a deletion without one leaves everything in place, out of sight.

import type { Store, VersionEntry } from '../model/store.ts'
import { type Catalog, isSilent, readCatalog } from './catalog.ts'

/** Backups that listings do not show, with the copies that are hidden; and the stores in which no version was to be seen. */
export interface Hidden extends Catalog {
  readonly blind: readonly string[]
}

/**
 * The backups whose manifests, or objects of `named`, are hidden by delete markers, store by store. What prune removed is gone
 * with its versions, and not among them. Throws as {@link readCatalog} does.
 */
export async function readHidden(...asked: Parameters<typeof readCatalog>): Promise<Hidden> {
  const [stores, jobs, ctx, named] = asked
  const seeing = new Set<string>()
  const whole = await readCatalog(
    stores.map(store => withHidden(store, () => seeing.add(store.name))),
    jobs,
    ctx,
    named,
  )
  const answering = stores.filter(({ name }) => !isSilent(name, whole))
  const open = await readCatalog(answering, jobs, ctx, named)
  const shown = new Set(open.entries.flatMap(({ id, copies }) => copies.map(({ store }) => place(id, store))))
  const entries = whole.entries.flatMap(entry => {
    const copies = entry.copies.filter(({ store }) => !shown.has(place(entry.id, store)))
    return copies.length > 0 ? [{ ...entry, copies }] : []
  })
  const blind = answering.flatMap(({ name }) => (seeing.has(name) ? [] : [name]))
  return { entries, silent: [...whole.silent, ...open.silent], blind }
}

function place(id: string, { name }: Store): string {
  return JSON.stringify([id, name])
}

/** Lists the newest version of everything, whether it is hidden or not. `seen` is called where there are versions. */
function withHidden(store: Store, seen: () => void): Store {
  return {
    ...store,
    async *list(prefix, ctx) {
      const newest = new Map<string, VersionEntry>()
      for await (const entry of store.listVersions?.(prefix, ctx) ?? store.list(prefix, ctx)) {
        if ('version' in entry && entry.version !== undefined) seen()
        const known = newest.get(entry.key)
        if (!known || known.modified < entry.modified) newest.set(entry.key, entry)
      }
      yield* newest.values()
    },
  }
}
