import { createHash, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { BSON, type Document, MongoClient } from 'mongodb'
import { MongodbOptions } from '../../../src/sources/mongodb/index.ts'
import type { MongodbFacts } from '../../services/facts.ts'
import { service } from '../../services/index.ts'
import { goPrograms } from '../../services/places.ts'

/** Why the tests that need a server are skipped here. */
export const excuses = existsSync(join(goPrograms, 'ferretdb'))
  ? {}
  : { skip: 'FerretDB has to be built by Go, which is not here' }

export interface FreshMongo extends MongodbFacts {
  name: string
  /** With the database. Holds the password. */
  url: string
}

/** An empty database of its own, on a server shared with other tests: users are common. */
export async function freshMongo(name = `db_${randomBytes(6).toString('hex')}`): Promise<FreshMongo> {
  const facts = await service('mongodb')
  return { ...facts, name, url: facts.uri.replace('/?', `/${encodeURIComponent(name)}?`) }
}

export function optionsOf(
  database: { readonly url: string },
  more: Partial<Omit<MongodbOptions, 'uri'>> = {},
): MongodbOptions {
  return MongodbOptions.parse({ uri: database.url, ...more })
}

export async function withClient<T>(
  { uri }: { readonly uri: string },
  work: (client: MongoClient) => Promise<T>,
): Promise<T> {
  const client = new MongoClient(uri)
  try {
    return await work(client)
  } finally {
    await client.close()
  }
}

/** Everything in a database: each collection's options, indexes and documents, which are not decoded. */
export async function contents(database: FreshMongo): Promise<Record<string, unknown>> {
  return await withClient(database, async client => {
    const db = client.db(database.name)
    const found: Record<string, unknown> = {}
    for (const { name, type, ...rest } of await db.listCollections().toArray()) {
      const { options } = rest as { options?: Document }
      const documents = await db.collection(name).find({}, { raw: true }).toArray()
      const indexes = await db.collection(name).listIndexes().toArray()
      found[name] = {
        ...{ type, options },
        indexes: indexes.sort((a, b) => (a.name < b.name ? -1 : 1)),
        documents: documents.map(one => shown(one as unknown as Uint8Array)).sort(),
      }
    }
    return Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)))
  })
}

function shown(bytes: Uint8Array): string {
  return bytes.length > 10_000
    ? createHash('sha256').update(bytes).digest('hex')
    : Buffer.from(bytes).toString('hex')
}

/** What FerretDB can hold, in the shapes that are easily lost. */
export async function fillHostile(database: FreshMongo): Promise<void> {
  await withClient(database, async client => {
    const db = client.db(database.name)
    await db.collection<Document>('types').insertMany(hostile())
    await db.createCollection('empty')
    await db.createCollection('capped', { capped: true, size: 1_048_576, max: 100 })
    await db.collection('capped').insertMany([{ n: 1 }, { n: 2 }, { n: 3 }])
    const indexed = db.collection('indexed')
    await indexed.insertMany(Array.from({ length: 300 }, (_, n) => ({ n, s: `s${n % 7}`, at: new Date(n) })))
    await indexed.createIndex({ n: 1 }, { unique: true, name: 'only once' })
    await indexed.createIndex({ s: -1, n: 1 })
    for (const name of oddNames) await db.collection(name).insertOne({ name })
  })
}

/** A name with dots is left out: FerretDB renames no such collection, MongoDB does. */
const oddNames = ['with space', 'pct%41+plus', 'é😀', 'a/b', "it's", `long${'x'.repeat(110)}`]

function hostile(): Document[] {
  const { Binary, Long, Int32, Double, ObjectId, Timestamp, BSONRegExp } = BSON
  return [
    {
      _id: 1,
      double: new Double(1.5),
      tiny: new Double(5e-324),
      zero: new Int32(0),
      negative: new Int32(-1),
    },
    { _id: 'text', empty: '', nul: 'a\0b', emoji: '😀', rtl: '\u202eabc' },
    { _id: new ObjectId(), long: Long.MAX_VALUE, least: Long.MIN_VALUE, small: Long.fromNumber(1) },
    { _id: 3.25, early: new Date(-62_135_596_800_000), late: new Date(253_402_300_799_999) },
    {
      _id: new Date(0),
      binary: new Binary(Buffer.from([0, 255, 0])),
      uuid: new Binary(Buffer.alloc(16, 7), 4),
    },
    { _id: 6, md5: new Binary(Buffer.alloc(16, 1), 5), user: new Binary(Buffer.from('x'), 128) },
    { _id: 7, regex: new BSONRegExp('^a.*"/', 'im'), nothing: null, stamp: new Timestamp({ t: 1, i: 2 }) },
    { _id: 8, deep: { a: { b: { c: [1, { d: [] }] } } }, yes: true, no: false, none: {} },
    { _id: 9, 2: 'numbers', 1: 'as', 10: 'names' },
    { _id: { compound: 1, key: 'x' }, array: [] },
  ]
}

/** A document with its fields in the order given, whatever JavaScript makes of their names. */
export function inOrder(...fields: readonly (readonly [string, unknown])[]): Uint8Array {
  return BSON.serialize(new Map(fields) as unknown as Document)
}

/** The name that FerretDB does not rename, and so a restore of ours that fails at its end. */
export const dotted = 'dots.in.it'

/** Two documents of 5 MB, which take FerretDB a while. */
export async function addLarge(database: FreshMongo): Promise<void> {
  const large = [1, 2].map(n => ({ n, text: 'é'.repeat(2_500_000) }))
  await withClient(database, client => client.db(database.name).collection('large').insertMany(large))
}
