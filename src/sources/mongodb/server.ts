import { createRequire } from 'node:module'
import { BSON, type Document, MongoClient, type MongoClientOptions } from 'mongodb'
import type { Context } from '../../model/context.ts'
import type { Secret } from '../../model/secret.ts'
import type { Bytes } from '../../model/step.ts'
import { type Batch, batchOf } from './batch.ts'
import { int32 } from './documents.ts'
import { explain, explainConnect, explainUri } from './explain.ts'

/**
 * A section of a message that holds documents as they are (OP_MSG, kind 1). The driver keeps it for its own bulk writes; without
 * it each document would have to be decoded and encoded again, which is slow and reorders fields whose names are numbers.
 */
interface DocumentSequence {
  push(document: object, bytes: Uint8Array): number
}
const { DocumentSequence } = createRequire(import.meta.url)('mongodb/lib/cmap/commands.js') as {
  DocumentSequence: new (field: string) => DocumentSequence
}

/** How long to look for a server, unless the URI says so. */
const selectionMs = 10_000

/** A server, replica set or cluster that was reached. Everything it throws is a Failure, or the reason of an abort. */
export interface Server extends AsyncDisposable {
  /** `mongodb://host:port`, without secrets. */
  readonly where: string
  /** The hosts of the URI, in order. */
  readonly hosts: readonly string[]
  /** The database that the URI names. */
  readonly database: string | undefined
  readonly version: string
  readonly isReplicaSet: boolean
  readonly isSharded: boolean
  /** `signal` in place of the context's: for what must still be done after an abort. */
  command(database: string, command: Document, signal?: AbortSignal): Promise<Document>
  /** The documents of a cursor, as they are. Holds two batches, 16 MiB each at the most. */
  documents(database: string, command: Document): Bytes
  /** Puts whole documents into a collection, in their order where that counts. Validators are not asked. */
  insert(
    database: string,
    collection: string,
    documents: readonly Uint8Array[],
    ordered?: boolean,
  ): Promise<number>
}

/** What a URI says, as far as it is not secret. */
export interface Address {
  readonly where: string
  readonly hosts: readonly string[]
  readonly database: string | undefined
  readonly hasLogin: boolean
}

/** Reads a URI. Throws a usage Failure that never quotes it. `from`: where it was taken from. */
export function addressOf(uri: Secret, from: string): Address {
  return addressIn(clientFor(uri, from), uri)
}

function clientFor(uri: Secret, from: string): MongoClient {
  const text = uri.reveal().trim()
  // Commands follow one another; a second connection reads the census.
  const ours = { appName: 'cairn', maxPoolSize: 4, serverSelectionTimeoutMS: selectionMs }
  const said = (name: string): boolean => new RegExp(`[?&]${name}=`, 'i').test(text)
  const unsaid: MongoClientOptions = Object.fromEntries(Object.entries(ours).filter(([name]) => !said(name)))
  try {
    return new MongoClient(text, unsaid)
  } catch (error) {
    throw explainUri(error, text, from)
  }
}

function addressIn(client: MongoClient, uri: Secret): Address {
  const { srvHost, hosts, credentials } = client.options
  // The driver says "test" where the URI says nothing.
  const path = /^mongodb(?:\+srv)?:\/\/[^/?]*\/([^?]+)/.exec(uri.reveal().trim())?.[1]
  const names = srvHost ? [srvHost] : hosts.map(host => host.toString())
  return {
    where: `mongodb${srvHost ? '+srv' : ''}://${names.join(',')}`,
    hosts: names,
    database: path === undefined ? undefined : decodeURIComponent(path),
    hasLogin: credentials !== undefined,
  }
}

/** Logs in. Throws a Failure that says why not; nothing is left open then. */
export async function connect(uri: Secret, from: string, ctx: Context): Promise<Server> {
  const client = clientFor(uri, from)
  const { where, hosts, database } = addressIn(client, uri)
  const close = (): Promise<void> => client.close().catch(() => {})
  try {
    const { signal } = ctx
    const { readPreference } = client
    const hello = await client.db('admin').command({ hello: 1 }, { signal, readPreference })
    const { version } = await client.db('admin').command({ buildInfo: 1 }, { signal, readPreference })
    const isSharded = hello.msg === 'isdbgrid'
    const reached: Reached = { client, where, isPinned: isPinned(client, isSharded), ctx }
    return {
      ...{ where, hosts, database, isSharded },
      version: String(version),
      isReplicaSet: typeof hello.setName === 'string',
      command: (name, command, signal) => run(reached, name, command, signal),
      documents: (name, command) =>
        reached.isPinned ? batches(reached, name, command) : cursor(reached, name, command),
      insert: (name, collection, documents, ordered = false) =>
        insert(reached, name, { insert: collection, ordered }, documents),
      [Symbol.asyncDispose]: close,
    }
  } catch (error) {
    await close()
    ctx.signal.throwIfAborted()
    throw explainConnect(error, where)
  }
}

interface Reached {
  readonly client: MongoClient
  readonly where: string
  /** All commands go to the same server. */
  readonly isPinned: boolean
  readonly ctx: Context
}

/** A cursor lives in one server; with several to choose from, only the driver's own cursors know which. */
function isPinned(client: MongoClient, isSharded: boolean): boolean {
  const { readPreference, directConnection, loadBalanced, hosts, srvHost } = client.options
  if (loadBalanced) return false
  if (isSharded) return hosts.length === 1 && !srvHost
  return directConnection || readPreference.mode === 'primary'
}

/** What only a primary does, whatever the URI says about reading. */
const writes = ['create', 'drop', 'renameCollection', 'createIndexes', '_mergeAuthzCollections']

async function run(
  { client, where, ctx }: Reached,
  database: string,
  command: Document,
  signal: AbortSignal = ctx.signal,
): Promise<Document> {
  try {
    const [name = ''] = Object.keys(command)
    const readPreference = writes.includes(name) ? 'primary' : client.readPreference
    return await client.db(database).command(command, { signal, readPreference })
  } catch (error) {
    signal.throwIfAborted()
    throw explain(error, `the server at ${where} refused ${Object.keys(command)[0]} in ${database}`)
  }
}

/** How long letting go of a cursor may take. */
const killMs = 5_000

/**
 * Asks for the next batch while this one is read. The cursor belongs to a session: a server keeps it for half an hour without a
 * question, and ends it when we are gone.
 */
async function* batches(reached: Reached, database: string, command: Document): Bytes {
  const { client, where, ctx } = reached
  const session = client.startSession({ causalConsistency: false })
  const ask = async (question: Document): Promise<Batch> => {
    try {
      const { readPreference } = client
      const options = { raw: true, session, signal: ctx.signal, readPreference }
      return batchOf((await client.db(database).command(question, options)).cursor)
    } catch (error) {
      ctx.signal.throwIfAborted()
      throw explain(error, `cannot read ${database}.${nameIn(command)} at ${where}`)
    }
  }
  let pending: Promise<Batch> | null = ask(command)
  let open: Batch | null = null
  try {
    while (pending) {
      const batch: Batch = await pending
      open = batch.id.isZero() ? null : batch
      pending = open ? ask({ getMore: batch.id, collection: batch.collection }) : null
      pending?.catch(() => {})
      if (batch.bytes.length > 0) yield batch.bytes
    }
  } finally {
    const last = await pending?.catch(() => null)
    const id = last ? last.id : open?.id
    if (open && id && !id.isZero()) {
      const kill = { killCursors: open.collection, cursors: [id] }
      const signal = AbortSignal.timeout(killMs)
      await client
        .db(database)
        .command(kill, { session, signal })
        .catch(() => {})
    }
    await session.endSession().catch(() => {})
  }
}

const chunkBytes = 1024 * 1024

/** The same by the driver's own cursor. */
async function* cursor({ client, where, ctx }: Reached, database: string, command: Document): Bytes {
  const { readPreference } = client
  const options = { raw: true, signal: ctx.signal, readPreference }
  let held: Uint8Array[] = []
  let length = 0
  try {
    for await (const document of client.db(database).runCursorCommand(command, options)) {
      held.push(document as Uint8Array)
      length += (document as Uint8Array).length
      if (length < chunkBytes) continue
      yield Buffer.concat(held)
      ;[held, length] = [[], 0]
    }
  } catch (error) {
    ctx.signal.throwIfAborted()
    throw explain(error, `cannot read ${database}.${nameIn(command)} at ${where}`)
  }
  if (length > 0) yield Buffer.concat(held)
}

function nameIn(command: Document): string {
  const name = Object.values(command)[0]
  return typeof name === 'string' ? name : (Object.keys(command)[0] ?? '')
}

async function insert(
  { client, where, ctx }: Reached,
  database: string,
  command: { readonly insert: string; readonly ordered: boolean },
  documents: readonly Uint8Array[],
): Promise<number> {
  const what = `cannot write to ${database}.${command.insert} at ${where}`
  const sequence = new DocumentSequence('documents')
  for (const bytes of documents) sequence.push({}, bytes)
  const writeConcern = client.options.writeConcern ?? { w: 'majority' }
  let reply: Document
  try {
    reply = await client
      .db(database)
      .command(
        { ...command, documents: sequence, bypassDocumentValidation: true, writeConcern },
        { signal: ctx.signal },
      )
  } catch (error) {
    ctx.signal.throwIfAborted()
    throw explain(error, what)
  }
  const [refused] = reply.writeErrors ?? []
  if (refused) throw explain(refusal(refused), what)
  if (reply.writeConcernError) throw explain(refusal(reply.writeConcernError), what)
  return Number(reply.n)
}

function refusal({ code, errmsg }: Document): Error {
  return Object.assign(new Error(String(errmsg)), { code })
}

/** The documents of a cursor that gives few of them, with every type kept as it is. */
export async function decoded(server: Server, database: string, command: Document): Promise<Document[]> {
  const found: Document[] = []
  for await (const chunk of server.documents(database, command))
    for (let at = 0; at < chunk.length; ) {
      const size = int32(chunk, at)
      found.push(BSON.deserialize(chunk.subarray(at, at + size), { promoteValues: false }))
      at += size
    }
  return found
}
