import type { Timestamp } from 'mongodb'
import type { Warning } from '../../model/manifest.ts'
import type { Server } from './server.ts'

/** What a primary keeps of the past unless it was told otherwise (minSnapshotHistoryWindowInSeconds). */
const windowSeconds = 300

/** What is read in a second, carefully guessed. */
const bytesPerSecond = 20 * 1024 * 1024

/** The moment that all reads are of; null where there is none. */
export interface Moment {
  readonly at: Timestamp | null
  readonly warnings: readonly Warning[]
}

/** What to add to a command so that it reads of that moment. */
export function asOf({ at }: Moment): { readConcern?: object } {
  return at ? { readConcern: { level: 'snapshot', atClusterTime: at } } : {}
}

/**
 * One moment for all collections, as replica sets and clusters of version 5.0 and newer offer it. `wanted`: true fails where there
 * is none; undefined takes it where the server is expected to keep that moment for as long as `bytes` take.
 */
export async function takeMoment(
  server: Server,
  wanted: boolean | undefined,
  sample: { readonly database: string; readonly collection: string } | undefined,
  bytes: number,
): Promise<Moment> {
  const none = (why: string): Moment => ({
    at: null,
    warnings: [{ what: `collections are not of one moment: ${why}` }],
  })
  if (wanted === false) return none('snapshot: false')
  if (!sample) return { at: null, warnings: [] }
  if (wanted === undefined) {
    if (!server.isReplicaSet && !server.isSharded) return none('the server is no replica set')
    const window = await historyWindow(server)
    if (bytes > window * bytesPerSecond)
      return none(
        `the server keeps ${window} s of its past, and reading may take longer (raise minSnapshotHistoryWindowInSeconds, then say "snapshot: true")`,
      )
  }
  try {
    const { cursor } = await server.command(sample.database, {
      find: sample.collection,
      ...{ limit: 1, singleBatch: true, projection: { _id: 1 }, readConcern: { level: 'snapshot' } },
    })
    const at: Timestamp | undefined = cursor.atClusterTime
    if (at) return { at, warnings: [] }
    if (wanted)
      throw new Error('the server offers no snapshots: it must be a replica set of version 5.0 or newer')
    return none('the server offers no snapshots')
  } catch (error) {
    if (wanted) throw error
    return none((error as Error).message)
  }
}

async function historyWindow(server: Server): Promise<number> {
  const name = 'minSnapshotHistoryWindowInSeconds'
  const found = await server.command('admin', { getParameter: 1, [name]: 1 }).catch(() => null)
  return Number(found?.[name] ?? windowSeconds)
}
