import type { Census, CensusLevel } from '../../model/source.ts'
import type { Collection } from './inventory.ts'
import type { Server } from './server.ts'
import { asOf, type Moment } from './snapshot.ts'

/**
 * What the databases hold: exact counts, of the moment of the backup where there is one. Views are named without a count, and so
 * are time series, whose documents are not what is stored.
 */
export async function takeCensus(
  server: Server,
  collections: readonly Collection[],
  nameOf: (collection: Collection) => string,
  level: CensusLevel,
  moment: Moment,
): Promise<Census> {
  const at = moment.at ? 'snapshot' : 'near'
  if (level === 'none') return { level, at, objects: [], unseen: [] }
  const objects: { name: string; rows: number | null }[] = []
  for (const collection of collections) {
    const counted = level === 'counts' && collection.type === 'collection'
    objects.push({
      name: nameOf(collection),
      rows: counted ? await countOf(server, collection, moment) : null,
    })
  }
  return { level, at, objects, unseen: [] }
}

async function countOf(
  server: Server,
  { database, collection }: Collection,
  moment: Moment,
): Promise<number> {
  const { cursor } = await server.command(database, {
    aggregate: collection,
    pipeline: [{ $group: { _id: null, n: { $sum: 1 } } }],
    cursor: {},
    ...asOf(moment),
  })
  return Number(cursor.firstBatch[0]?.n ?? 0)
}
