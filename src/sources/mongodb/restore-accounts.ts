import { BSON, type Document } from 'mongodb'
import type { Context } from '../../model/context.ts'
import { asFailure, damage } from '../../model/failure.ts'
import { isAccounts } from './accounts.ts'
import type { Listed, Met } from './archive.ts'
import { int32 } from './documents.ts'
import { codeOf } from './explain.ts'
import { decoded, type Server } from './server.ts'
import { dropAll } from './target.ts'

/** What a restore is to do with the users and roles of a backup. */
export interface AccountsPlan {
  /** The database whose they are; '' for those of the whole server. */
  readonly database: string
  /** Why they cannot be restored; null: they are. */
  readonly obstacle: string | null
  /** Those of the target, as `users shop.reader`; null where they may not be read. */
  readonly there: ReadonlySet<string> | null
}

const kinds = ['users', 'roles'] as const
type Kind = (typeof kinds)[number]

/** What the role "restore" may write, and mongorestore writes to. */
const temporary: Readonly<Record<Kind, string>> = { users: 'tempusers', roles: 'temproles' }

/** Of users and roles of these versions all servers know what to make (authSchemaVersion; 5 since MongoDB 3.0). */
const knownVersions = [3, 5]

/**
 * Looks at what the target can do; changes nothing. Null for a backup without users and roles. `renamed`: the data comes into a
 * database of another name.
 */
export async function planAccounts(
  server: Server,
  listed: readonly Listed[],
  renamed: boolean,
): Promise<AccountsPlan | null> {
  const one = listed.find(({ collection, database }) => isAccounts(collection, database))
  if (!one) return null
  const database = one.database === 'admin' ? '' : one.database
  const obstacle = renamed
    ? `they are those of the database ${one.database}, and the target has another name`
    : await obstacleAt(server)
  return { database, obstacle, there: await accountsAt(server) }
}

/** Nothing is merged without a collection: the server only tells what it thinks of it. */
async function obstacleAt(server: Server): Promise<string | null> {
  try {
    await server.command('admin', { _mergeAuthzCollections: 1, db: '', drop: false })
    return null
  } catch (error) {
    const code = codeOf(error)
    if (code === 13 || code === 8000)
      return 'who restores may not do it: grant the role "restore" on admin, or make them by hand'
    if (code === 59 || code === 115)
      return 'this server takes none that were saved (it knows no _mergeAuthzCollections): make them by hand'
    if (code === 0) throw error
    // It knows the command, and misses the collections.
    return null
  }
}

async function accountsAt(server: Server): Promise<Set<string> | null> {
  const found = new Set<string>()
  for (const kind of kinds) {
    const find = { find: `system.${kind}`, projection: { _id: 1 } }
    const all = await decoded(server, 'admin', find).catch(error => {
      const code = codeOf(error)
      if (code === 0) throw error
      return code === 26 ? [] : null
    })
    if (!all) return null
    for (const { _id } of all) found.add(`${kind} ${_id}`)
  }
  return found
}

/** Users and roles on their way: kept aside, and merged when everything else is in its place. */
export interface Accounts {
  /** Takes what an archive holds of them; what the server refuses is told by `merge`. */
  take(met: Met): Promise<void>
  /** Makes those that are missing. What could not be done is returned in sentences: the data stands. */
  merge(): Promise<string[]>
  /** Leaves nothing aside. */
  clear(): Promise<void>
}

export function openAccounts(server: Server, plan: AccountsPlan, ctx: Context): Accounts {
  const missing = new Set<string>()
  const kept = new Set<string>()
  const aside = new Set<Kind>()
  let { obstacle } = plan

  async function put(kind: Kind, documents: readonly Uint8Array[]): Promise<void> {
    if (obstacle !== null || documents.length === 0) return
    try {
      const name = temporary[kind]
      // One that was killed may have left it.
      if (!aside.has(kind)) await dropAll(server, [{ database: 'admin', name }])
      aside.add(kind)
      await server.insert('admin', name, documents)
    } catch (error) {
      ctx.signal.throwIfAborted()
      obstacle = asFailure(error, '').why
    }
  }

  async function merge(): Promise<void> {
    const collections = kinds
      .filter(kind => aside.has(kind))
      .map(kind => [
        kind === 'users' ? 'tempUsersCollection' : 'tempRolesCollection',
        `admin.${temporary[kind]}`,
      ])
    await server.command('admin', {
      _mergeAuthzCollections: 1,
      ...Object.fromEntries(collections),
      // Those that are there stay as they are.
      ...{ drop: false, db: plan.database, writeConcern: { w: 'majority' } },
    })
  }

  return {
    async take(met) {
      if (met.type !== 'documents' || !isAccounts(met.collection, met.database)) return
      const kind = kinds.find(each => met.collection.endsWith(`system.${each}`))
      const documents = apart(met.bytes).map(bytes => ({ bytes, of: decode(bytes) }))
      if (!kind) {
        const version = documents.find(one => one.of._id === 'authSchema')?.of.currentVersion
        if (version !== undefined && !knownVersions.includes(Number(version)))
          obstacle ??= `they are of version ${version}, which is not known`
        return
      }
      const wanted: Uint8Array[] = []
      for (const { bytes, of } of documents) {
        const name = `${kind} ${of._id}`
        const isThere = plan.there?.has(name) === true
        ;(isThere ? kept : missing).add(name)
        if (!isThere) wanted.push(bytes)
      }
      await put(kind, wanted)
    },
    async merge() {
      const told = kept.size > 0 ? [`${named(kept)}: there already, and stay as they are`] : []
      if (missing.size === 0) return told
      const refused = (why: string): string[] => [...told, `${named(missing)}: not restored, because ${why}`]
      if (obstacle !== null) return refused(obstacle)
      try {
        await merge()
        const there = await accountsAt(server)
        const absent = new Set([...missing].filter(name => there && !there.has(name)))
        return absent.size > 0
          ? [...told, `${named(absent)}: the server did not take them; see its log`]
          : told
      } catch (error) {
        ctx.signal.throwIfAborted()
        return refused(asFailure(error, '').why)
      }
    },
    async clear() {
      await dropAll(
        server,
        [...aside].map(kind => ({ database: 'admin', name: temporary[kind] })),
      )
    },
  }
}

function decode(bytes: Uint8Array): Document {
  try {
    return BSON.deserialize(bytes)
  } catch (error) {
    throw damage('users or roles are damaged', (error as Error).message, 'use another copy or another backup')
  }
}

/** Documents that lie one after another. */
function apart(run: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = []
  for (let at = 0; at < run.length; at += int32(run, at)) found.push(run.subarray(at, at + int32(run, at)))
  return found
}

/** `users shop.reader, shop.writer; roles admin.auditor`, some of them. */
function named(accounts: ReadonlySet<string>): string {
  const most = 10
  const parts = kinds.flatMap(kind => {
    const names = [...accounts]
      .filter(name => name.startsWith(`${kind} `))
      .map(name => name.slice(kind.length + 1))
    const more = names.length > most ? ` and ${names.length - most} more` : ''
    return names.length > 0 ? [`${kind} ${names.slice(0, most).join(', ')}${more}`] : []
  })
  return parts.join('; ')
}
