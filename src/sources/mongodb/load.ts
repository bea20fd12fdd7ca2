import type { Document } from 'mongodb'
import type { Context } from '../../model/context.ts'
import { dataOf, type Listed, type Met } from './archive.ts'
import { metadataOf } from './contents.ts'
import { unordered } from './inventory.ts'
import type { Server } from './server.ts'
import { type Goal, type Loaded, scratchNames } from './target.ts'

/** What is sent at once: a server takes 48 MB and 100,000 documents. */
const most = { bytes: 4 * 1024 * 1024, documents: 50_000 }

/** A collection that is wanted, and where it goes. */
export interface Wanted {
  readonly listed: Listed
  readonly goal: Goal
}

export interface LoadResult {
  readonly loaded: readonly Loaded[]
  readonly rows: number
  readonly warnings: readonly string[]
}

/**
 * Loads everything that is wanted beside what is there, with its indexes. `made` gets each collection before it is made, so that
 * the caller can clear away whatever happens. `others` gets what is no collection's that is wanted. Returns only when the backup
 * was read whole and was right.
 */
export async function load(
  server: Server,
  wanted: readonly Wanted[],
  contents: AsyncIterable<Met>,
  made: Loaded[],
  others: (met: Met) => Promise<void>,
  ctx: Context,
): Promise<LoadResult> {
  const name = scratchNames()
  const places = new Map<string, Loaded>()
  const warnings: string[] = []
  for (const [ordinal, { listed, goal }] of wanted.entries()) {
    const metadata = metadataOf(listed.metadata, `the metadata of ${listed.collection}`)
    const { collection, type } = listed
    const options = withoutOld(metadata.options ?? {})
    const { indexes, lost } = indexesIn(metadata)
    warnings.push(
      ...lost.map(
        index => `the index ${index} of ${collection} has fields whose names are numbers: build it by hand`,
      ),
    )
    const one: Loaded = { goal, collection, type, options, indexes, scratch: name(ordinal) }
    made.push(one)
    const { database, collection: stored } = dataOf(listed)
    places.set(`${database}\0${stored}`, one)
    if (type !== 'view')
      await server.command(goal.target, {
        create: one.scratch,
        ...(type === 'timeseries' ? {} : options),
      })
  }
  const rows = await pour(server, places, contents, others)
  for (const one of made) if (one.type === 'collection') await buildIndexes(server, one, ctx)
  return { loaded: made, rows, warnings }
}

/** What old servers wrote and new ones refuse. */
function withoutOld({ autoIndexId: _gone, ...options }: Document): Document {
  return options
}

async function pour(
  server: Server,
  places: ReadonlyMap<string, Loaded>,
  contents: AsyncIterable<Met>,
  others: (met: Met) => Promise<void>,
): Promise<number> {
  let rows = 0
  let held: { to: Loaded; runs: Uint8Array[]; bytes: number; count: number } | null = null
  let sending: Promise<number> = Promise.resolve(0)
  const send = async (): Promise<void> => {
    rows += await sending
    if (!held) return
    const { to, runs } = held
    held = null
    // A capped collection has the order in which its documents came.
    sending = server.insert(to.goal.target, to.scratch, runs, to.options.capped === true)
    // It is awaited before the next, or at the end.
    sending.catch(() => {})
  }
  try {
    for await (const met of contents) {
      if (met.type !== 'documents') continue
      const to = places.get(`${met.database}\0${met.collection}`)
      if (!to) await others(met)
      if (!to || to.type === 'view') continue
      if (held && (held.to !== to || held.count + met.count > most.documents)) await send()
      held ??= { to, runs: [], bytes: 0, count: 0 }
      held.runs.push(met.bytes)
      held.bytes += met.bytes.length
      held.count += met.count
      if (held.bytes >= most.bytes) await send()
    }
    await send()
  } finally {
    await sending.catch(() => 0)
  }
  return rows + (await sending)
}

/** How often a server that builds indexes is asked whether it is there. */
const askMs = 10_000

async function buildIndexes(server: Server, one: Loaded, ctx: Context): Promise<void> {
  const { goal, collection, scratch, indexes } = one
  if (indexes.length === 0) return
  const asking = setInterval(() => {
    server
      .command('admin', { ping: 1 })
      .then(() => ctx.alive(`building the indexes of ${collection}`))
      .catch(() => {})
  }, askMs)
  try {
    await server.command(goal.target, { createIndexes: scratch, indexes })
  } finally {
    clearInterval(asking)
  }
}

/** The indexes to build; `lost`: the names of those that would be built in another order. */
function indexesIn({ indexes: all = [], options }: Document): { indexes: Document[]; lost: string[] } {
  const lost = unordered(all)
  const indexes = (all as Document[])
    // One that was still being built has no key.
    .filter(
      ({ name, key, clustered }) => name !== '_id_' && key && !clustered && !lost.includes(String(name)),
    )
    // The server chooses the version of its indexes, as with mongorestore.
    .map(({ ns: _place, v: _version, ...index }) => index)
    // Without its own, an index would get the collation of the collection.
    .map(index => (options?.collation ? { collation: { locale: 'simple' }, ...index } : index))
  return { indexes, lost }
}
