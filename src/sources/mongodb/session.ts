import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import type { Warning } from '../../model/manifest.ts'
import type { Artifact, CensusLevel, Session, SourceFacts } from '../../model/source.ts'
import type { Bytes } from '../../model/step.ts'
import { toolVersion } from '../../model/version.ts'
import { accountCollections } from './accounts.ts'
import { blocks, dataOf, prelude } from './archive.ts'
import { takeCensus } from './census.ts'
import { codeOf } from './explain.ts'
import { type Collection, takeInventory } from './inventory.ts'
import { fileOf } from './names.ts'
import type { Server } from './server.ts'
import { asOf, type Moment, takeMoment } from './snapshot.ts'

export interface SessionOptions {
  readonly server: Server
  readonly databases: readonly string[]
  /** What the backup is of: a database's name, or `all`. */
  readonly unit: string
  /** Whether it is a backup of all databases. */
  readonly whole: boolean
  readonly census: CensusLevel
  readonly layout: 'archive' | 'directory'
  readonly accounts: boolean
  readonly snapshot: boolean | undefined
}

interface Held extends Omit<SessionOptions, 'snapshot' | 'accounts'> {
  readonly collections: readonly Collection[]
  readonly moment: Moment
  readonly warnings: Warning[]
  readonly openedAt: Date
  readonly accounts: 'full' | 'missing' | 'none'
}

/**
 * Holds the connection, which is closed with it, and one moment of the server where it offers that. Throws a Failure; the
 * connection is the caller's then.
 */
export async function openSession(options: SessionOptions, ctx: Context): Promise<Session> {
  return sessionOf(await look(options, ctx), ctx)
}

async function look(options: SessionOptions, ctx: Context): Promise<Held> {
  const { server } = options
  const openedAt = ctx.clock.now()
  const collections: Collection[] = []
  const warnings: Warning[] = []
  for (const database of options.databases) {
    const found = await takeInventory(server, database)
    collections.push(...found.collections)
    warnings.push(...found.warnings)
  }
  const sample = collections.find(({ type }) => type === 'collection')
  const bytes = options.snapshot === undefined ? await sizeOf(server, options.databases) : 0
  const moment = await takeMoment(server, options.snapshot, sample, bytes)
  const found = options.accounts ? await accountsOf(options, warnings, ctx) : null
  return {
    ...options,
    ...{ moment, openedAt },
    // In an archive, mongorestore finds users and roles only before everything else.
    collections: [...(found ?? []), ...collections],
    warnings: [...moment.warnings, ...warnings],
    accounts: found ? 'full' : options.accounts ? 'missing' : 'none',
  }
}

/** Bytes of documents, as far as the server tells. */
export async function sizeOf(server: Server, databases: readonly string[]): Promise<number> {
  let bytes = 0
  for (const database of databases) {
    const stats = await server.command(database, { dbStats: 1 }).catch(() => null)
    bytes += Number(stats?.dataSize ?? 0)
  }
  return bytes
}

/** Null, with a warning, where they may not be read. */
async function accountsOf(
  { whole, unit, server }: SessionOptions,
  warnings: Warning[],
  ctx: Context,
): Promise<Collection[] | null> {
  try {
    return await accountCollections(server, whole ? null : unit)
  } catch (error) {
    ctx.signal.throwIfAborted()
    if (![13, 8000].includes(codeOf(error))) throw error
    warnings.push({
      what: 'users and roles are not saved: they may not be read (grant the backup user the role "backup" on admin, or say "accounts: false")',
    })
    return null
  }
}

function sessionOf(held: Held, ctx: Context): Session {
  const { server, collections, layout, moment, whole, census } = held
  return {
    concurrency: 1,
    async *artifacts() {
      if (layout === 'archive') yield archiveArtifact(held)
      else for (const collection of collections) yield* files(held, collection)
    },
    census: async () =>
      await takeCensus(
        server,
        collections.filter(({ type }) => type !== ''),
        ({ database, collection }) => (whole ? `${database}.${collection}` : collection),
        census,
        moment,
      ),
    finish: () => finish(held, ctx),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

function archiveArtifact(held: Held): Artifact {
  const { server, collections, unit } = held
  return {
    name: `mongodb/${unit}.archive`,
    media: 'mongodump-archive',
    role: 'data',
    async *open() {
      yield prelude(server.version, `cairn ${toolVersion}`, collections)
      for (const collection of collections) {
        const { database, collection: name } = dataOf(collection)
        yield* blocks(database, name, documents(held, collection))
      }
    },
  }
}

/** As mongodump lays them out in a folder. */
function* files(held: Held, one: Collection): Generator<Artifact> {
  const { database, collection, metadata, data } = one
  const role = 'data'
  if (metadata !== '') {
    const open = async function* () {
      yield Buffer.from(metadata)
    }
    yield { name: `${database}/${fileOf(collection)}.metadata.json`, media: 'json', role, open }
  }
  if (!data) return
  const file = collection.startsWith('$') ? collection : fileOf(dataOf(one).collection)
  yield { name: `${database}/${file}.bson`, media: 'bson', role, open: () => documents(held, one) }
}

/** Of a collection, as they are stored; none where it has none of its own. */
async function* documents({ server, moment }: Held, { data }: Collection): Bytes {
  if (!data) return
  const { database, collection, filter, rawData } = data
  yield* server.documents(database, {
    find: collection,
    ...(Object.keys(filter).length > 0 ? { filter } : {}),
    ...(rawData ? { rawData } : {}),
    ...(database === 'admin' ? {} : asOf(moment)),
  })
}

/** The last word. A collection that was made or dropped meanwhile is not in it, or not whole. */
async function finish(held: Held, ctx: Context): Promise<SourceFacts> {
  const { server, moment, openedAt, databases, whole, layout } = held
  const captured = moment.at ? new Date(moment.at.getHighBits() * 1000) : openedAt
  return {
    kind: 'logical',
    capturedAt: captured,
    consistentAt: moment.at ? captured : ctx.clock.now(),
    client: `cairn ${toolVersion}`,
    options: {
      server: `MongoDB ${server.version}`,
      scope: whole ? 'whole' : 'database',
      databases: listable(databases),
      layout,
      accounts: held.accounts,
      snapshot: moment.at !== null,
    },
    warnings: [...held.warnings, ...(await changes(held))],
  }
}

async function changes({ server, databases, collections }: Held): Promise<Warning[]> {
  const key = (database: string, collection: string): string => `${database}.${collection}`
  const before = new Map(collections.map(one => [key(one.database, one.collection), one]))
  const found: Warning[] = []
  for (const database of databases) {
    for (const after of (await takeInventory(server, database)).collections) {
      const name = key(database, after.collection)
      const was = before.get(name)
      before.delete(name)
      if (!was) found.push({ what: `${name} was made while the backup ran, and is not in it` })
      else if (was.metadata !== after.metadata)
        found.push({
          what: `${name} got other indexes or options while the backup ran: it has the earlier ones`,
        })
    }
  }
  for (const [name, { type }] of before)
    if (type !== '')
      found.push({ what: `${name} was dropped while the backup ran: it may not be whole in it` })
  return found
}

/** A manifest is small: of more databases than fit, a restore of all names them by --only. */
function listable(databases: readonly string[]): readonly string[] | undefined {
  return Buffer.byteLength(JSON.stringify(databases)) > 16_384 ? undefined : databases
}

/** Throws for a database that is not there. */
export function missing(server: Server, name: string, there: readonly string[]): Failure {
  return new Failure({
    what: `cannot back up ${server.where}/${name}`,
    why: `there is no database ${JSON.stringify(name)} that this user may see`,
    remedy:
      there.length === 0
        ? 'check its name, and grant the user the role "read" on it'
        : `check its name; there are ${there.slice(0, 20).join(', ')}`,
  })
}
