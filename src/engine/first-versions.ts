import type { Context } from '../model/context.ts'
import type { ArtifactRecord } from '../model/manifest.ts'
import type { Store, VersionEntry } from '../model/store.ts'

/** The keys of an artifact whose first version can be told to be the right one: by its digest. */
export function keysToTell({ objects }: ArtifactRecord): string[] {
  return objects.flatMap(({ key, sha256, version }) => (sha256 === null || version !== undefined ? [] : key))
}

/**
 * The store as it was before somebody overwrote or hid these objects, where it keeps versions: no key of a
 * backup is written twice, so the first version is the backup's, and who reads it checks its digest. Its `get` gives that, unless
 * a version is named. Null when there is nothing else to read than what shows, or versions may not be listed.
 */
export async function withFirstVersions(
  store: Store,
  keys: readonly string[],
  ctx: Context,
): Promise<Store | null> {
  const first = new Map<string, string>()
  let isChanged = false
  try {
    for (const key of keys) {
      const versions = await versionsOf(store, key, ctx)
      const version = oldest(versions)?.version
      if (version === undefined) continue
      first.set(key, version)
      isChanged ||= versions.length > 1 || !(await isShown(store, key, ctx))
    }
  } catch {
    ctx.signal.throwIfAborted()
    return null
  }
  if (!isChanged) return null
  return {
    ...store,
    name: `${store.name} (the versions that were there first)`,
    get(key, options, at) {
      const version = options.version ?? first.get(key)
      return store.get(key, version === undefined ? options : { ...options, version }, at)
    },
  }
}

async function versionsOf(store: Store, key: string, ctx: Context): Promise<VersionEntry[]> {
  const found: VersionEntry[] = []
  for await (const entry of store.listVersions?.(key, ctx) ?? []) if (entry.key === key) found.push(entry)
  return found
}

/** Of the same second, the one that is listed last: servers list the newest first. */
function oldest(versions: readonly VersionEntry[]): VersionEntry | undefined {
  return versions.reduce<VersionEntry | undefined>(
    (known, each) => (known === undefined || each.modified <= known.modified ? each : known),
    undefined,
  )
}

async function isShown(store: Store, key: string, ctx: Context): Promise<boolean> {
  for await (const entry of store.list(key, ctx)) if (entry.key === key) return true
  return false
}
