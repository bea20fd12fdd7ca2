// A store that shows no backup, though somebody looks for one there: the wrong folder, bucket or prefix, or half a copy.

import type { Context } from '../model/context.ts'
import { manifestPrefix } from '../model/key.ts'
import type { Store } from '../model/store.ts'

/** Enough to come past what else may lie there, and soon done. */
const mostKeys = 10_000
const mostMs = 5_000

/**
 * A sentence on where the backups may be, by the first keys that the store lists; null when they say nothing, or there are
 * backups. Never throws but for an abort.
 */
export async function whereElse(store: Store, ctx: Context): Promise<string | null> {
  const until = performance.now() + mostMs
  let seen = 0
  let data: string | null = null
  try {
    for await (const _ of store.list(manifestPrefix, ctx)) return null
    for await (const { key } of store.list('', ctx)) {
      const clue = clueIn(key)
      if (clue !== null && clue !== 'data') return clue
      if (clue === 'data') data ??= key
      if (++seen >= mostKeys || performance.now() > until) break
    }
  } catch {
    ctx.signal.throwIfAborted()
  }
  return data === null
    ? null
    : `what lies there is the data of backups (${data}) without the folder .cairn, whose manifests say what they are: copy that too, or look one folder or prefix higher`
}

/** A sentence; `data` for what looks like an artifact of a backup. */
function clueIn(key: string): string | null {
  const at = `/${key}`.indexOf(`/${manifestPrefix}`)
  if (at > 0) return `there is a store below it, in ${key.slice(0, at - 1)}`
  if (aboveIt.test(key)) return 'this is a folder of a store: look one folder or prefix higher, or two'
  return dataKey.test(key) ? 'data' : null
}

const aboveIt = /^(v1\/)?(manifests|marks|begin)\/.*\.json$/
const dataKey = /(^|\/)\d{8}T\d{6}Z-[a-z2-7]{8}\/\d{4}-/
