import { BSON } from 'mongodb'
import { damage } from '../../model/failure.ts'
import type { Bytes } from '../../model/step.ts'
import { Crc64 } from './crc64.ts'
import { DocumentReader, int32, type Run, terminator } from './documents.ts'

// What `mongodump --archive` writes and `mongorestore --archive` reads (mongo-tools, common/archive/spec.md): a magic
// number, a header, the metadata of all collections, a terminator; then blocks, each of them a header that names the
// collection, documents, a terminator. A block without documents ends a collection, with the CRC of its documents.

const magic = 0x8199e26d

/** A collection of an archive. */
export interface Listed {
  readonly database: string
  readonly collection: string
  /** Its metadata as JSON; '' for collections that are the server's own. */
  readonly metadata: string
  /** `collection`, `view`, `timeseries`, or '' for the server's own. */
  readonly type: string
}

/** What stands before the documents. Numbers are what mongodump writes, and mean nothing to us. */
export function prelude(serverVersion: string, tool: string, listed: readonly Listed[]): Uint8Array {
  const start = Buffer.alloc(4)
  start.writeUInt32LE(magic)
  const header = {
    concurrent_collections: 1,
    version: '0.1',
    server_version: serverVersion,
    tool_version: tool,
  }
  const each = listed.map(({ database, collection, metadata, type }) =>
    BSON.serialize({ db: database, collection, metadata, size: 0, type }),
  )
  return Buffer.concat([start, BSON.serialize(header), ...each, terminator])
}

/** One collection's part of an archive; `documents` is anything cut at document boundaries. */
export async function* blocks(database: string, collection: string, documents: Bytes): Bytes {
  const crc = new Crc64()
  yield blockHeader(database, collection, null)
  for await (const chunk of documents) {
    crc.update(chunk)
    yield chunk
  }
  yield Buffer.concat([terminator, blockHeader(database, collection, crc.value()), terminator])
}

function blockHeader(db: string, collection: string, crc: bigint | null): Uint8Array {
  return BSON.serialize({ db, collection, EOF: crc !== null, CRC: BSON.Long.fromBigInt(crc ?? 0n) })
}

/** What is met in an archive, in its order. */
export type Met =
  | ({ readonly type: 'documents' } & Place & Run)
  | ({ readonly type: 'begin' | 'end' } & Place)

export interface Place {
  readonly database: string
  readonly collection: string
}

export interface OpenArchive {
  readonly listed: readonly Listed[]
  /** Ends only when every collection was there whole, with the right CRC. */
  contents(): AsyncIterable<Met>
  close(): Promise<void>
}

/** Reads the beginning of an archive. Throws damage for what is none. `what` is its name for messages. */
export async function openArchive(bytes: Bytes, what: string): Promise<OpenArchive> {
  const reader = new DocumentReader(bytes, what, true)
  const start = await reader.exactly(4)
  if (int32(start, 0) >>> 0 !== magic)
    throw damage(
      `${what} is damaged`,
      'it does not begin as an archive of mongodump does',
      'use another copy',
    )
  await reader.one()
  const listed: Listed[] = []
  for (let one = await reader.one(); one; one = await reader.one()) listed.push(listedOf(one, what))
  return { listed, contents: () => contents(reader, listed, what), close: () => reader.close() }
}

function listedOf(document: Uint8Array, what: string): Listed {
  const { db, collection, metadata, type } = decoded(document, what)
  return {
    database: String(db ?? ''),
    collection: String(collection ?? ''),
    metadata: String(metadata ?? ''),
    type: String(type ?? ''),
  }
}

/** Where the data of a listed collection stands: a time series is kept in buckets. */
export function dataOf({ database, collection, type }: Listed): Place {
  return { database, collection: type === 'timeseries' ? `system.buckets.${collection}` : collection }
}

async function* contents(
  reader: DocumentReader,
  listed: readonly Listed[],
  what: string,
): AsyncGenerator<Met> {
  const waiting = new Set(listed.map(one => nameOf(dataOf(one))))
  const open = new Map<string, Crc64>()
  while (!(await reader.isAtEnd())) {
    const header = await reader.one()
    if (!header) throw damage(`${what} is damaged`, 'a block of it has no header', 'use another copy')
    const { db, collection, EOF, CRC } = decoded(header, what)
    const place = { database: String(db ?? ''), collection: String(collection ?? '') }
    const name = nameOf(place)
    if (EOF === true) {
      await demandEmpty(reader, name, what)
      check(open.get(name), CRC, `${place.database}.${place.collection}`, what)
      open.delete(name)
      waiting.delete(name)
      yield { type: 'end', ...place }
      continue
    }
    if (!open.has(name)) {
      open.set(name, new Crc64())
      yield { type: 'begin', ...place }
    }
    const crc = open.get(name)
    for (let run = await reader.run(); run; run = await reader.run()) {
      crc?.update(run.bytes)
      yield { type: 'documents', ...place, ...run }
    }
  }
  if (waiting.size + open.size > 0) throw cut(what, Math.max(waiting.size, open.size))
}

async function demandEmpty(reader: DocumentReader, name: string, what: string): Promise<void> {
  if ((await reader.run()) === null) return
  throw damage(`${what} is damaged`, `there are documents after the end of ${name}`, 'use another copy')
}

function check(crc: Crc64 | undefined, said: unknown, name: string, what: string): void {
  const right = crc?.value() ?? new Crc64().value()
  const there = typeof said === 'bigint' ? said : BigInt(String(said ?? 0))
  if (there === right) return
  throw damage(`${what} is damaged`, `the checksum of ${name} is wrong`, 'use another copy or another backup')
}

function cut(what: string, collections: number) {
  return damage(
    `${what} is damaged`,
    `it ends before all collections were there: ${collections} are missing or not whole`,
    'use another copy or another backup',
  )
}

function decoded(document: Uint8Array, what: string): Record<string, unknown> {
  try {
    return BSON.deserialize(document, { useBigInt64: true })
  } catch (error) {
    throw damage(`${what} is damaged`, (error as Error).message, 'use another copy or another backup')
  }
}

function nameOf({ database, collection }: Place): string {
  return `${database}\0${collection}`
}
