import { BSON, type Document, type UUID } from 'mongodb'
import type { Warning } from '../../model/manifest.ts'
import { dataOf, type Listed } from './archive.ts'
import { codeOf } from './explain.ts'
import { decoded, type Server } from './server.ts'

/** A collection, view or time series that goes into a backup. */
export interface Collection extends Listed {
  /** Where its documents are read; null where it has none of its own. */
  readonly data: Reading | null
}

export interface Reading {
  readonly database: string
  readonly collection: string
  readonly filter: Document
  /** The documents of a time series as they are stored, on servers that keep no collection of buckets beside it. */
  readonly rawData: boolean
}

export interface Inventory {
  readonly collections: readonly Collection[]
  readonly warnings: readonly Warning[]
}

/** All databases but those of the server itself; with their sizes in bytes. */
export async function listDatabases(server: Server): Promise<Map<string, number>> {
  const { databases } = await server.command('admin', { listDatabases: 1 })
  const own = ['admin', 'local', 'config']
  return new Map(
    (databases as Document[])
      .filter(({ name }) => !own.includes(name))
      .map(({ name, sizeOnDisk }): [string, number] => [String(name), Number(sizeOnDisk ?? 0)])
      .sort(([left], [right]) => (left < right ? -1 : 1)),
  )
}

/** What is in a database, with everything that is needed to make it again. */
export async function takeInventory(server: Server, database: string): Promise<Inventory> {
  const all = await decoded(server, database, { listCollections: 1, cursor: {} })
  const names = new Set(all.map(({ name }) => String(name)))
  const warnings: Warning[] = []
  const collections: Collection[] = []
  for (const one of all.sort((left, right) => (left.name < right.name ? -1 : 1))) {
    if (isOwn(one.name)) continue
    const indexes = one.type === 'view' ? [] : await indexesOf(server, database, one.name)
    const listed: Listed = {
      database,
      collection: String(one.name),
      metadata: metadata(one, indexes),
      type: String(one.type ?? 'collection'),
    }
    for (const name of unordered(indexes))
      warnings.push({
        what: `the index ${name} of ${database}.${listed.collection} has fields whose names are numbers: their order may not survive, and it has to be built by hand`,
      })
    collections.push({ ...listed, data: readingOf(listed, names) })
  }
  return { collections, warnings }
}

/**
 * What mongodump leaves out, because the server makes it itself or keeps it elsewhere; and what a restore of ours that was killed
 * has left.
 */
export function isOwn(name: string): boolean {
  return (name.startsWith('system.') && name !== 'system.js') || /^cairn_restore_[0-9a-f]{6}_\d+$/.test(name)
}

function readingOf(listed: Listed, names: ReadonlySet<string>): Reading | null {
  if (listed.type === 'view') return null
  const { database, collection } = dataOf(listed)
  const rawData = listed.type === 'timeseries' && !names.has(collection)
  return { database, collection: rawData ? listed.collection : collection, filter: {}, rawData }
}

/** Empty for a collection that has gone meanwhile. */
async function indexesOf(server: Server, database: string, collection: string): Promise<Document[]> {
  try {
    return await decoded(server, database, { listIndexes: collection, cursor: {} })
  } catch (error) {
    if (codeOf(error) === 26) return []
    throw error
  }
}

/** As mongodump writes it: canonical Extended JSON. */
function metadata(one: Document, indexes: readonly Document[]): string {
  const { options, info, name, type } = one
  const uuid = (info?.uuid as UUID | undefined)?.toString('hex').replaceAll('-', '')
  return BSON.EJSON.stringify(
    {
      ...(options && Object.keys(options).length > 0 ? { options } : {}),
      indexes,
      ...(uuid ? { uuid } : {}),
      collectionName: name,
      type: type ?? 'collection',
    },
    { relaxed: false },
  )
}

/** Indexes whose fields JavaScript would put into another order. */
export function unordered(indexes: readonly Document[]): string[] {
  return indexes
    .filter(({ key }) => Object.keys(key ?? {}).length > 1 && Object.keys(key).some(isNumber))
    .map(({ name }) => String(name))
}

function isNumber(name: string): boolean {
  return /^(0|[1-9]\d*)$/.test(name)
}
