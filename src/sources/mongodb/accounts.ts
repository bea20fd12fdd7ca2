import type { Document } from 'mongodb'
import type { Collection } from './inventory.ts'
import type { Server } from './server.ts'

/** The server's own collections of users and roles, and the version of what is in them. */
const own = ['system.users', 'system.roles', 'system.version'] as const

/**
 * Users and roles as mongodump keeps them: those of the whole server in the database `admin`; those of one database beside its
 * collections, as `$admin.system.users`. Throws a Failure where they may not be read.
 */
export async function accountCollections(server: Server, database: string | null): Promise<Collection[]> {
  await server.command('admin', { find: 'system.users', limit: 1, singleBatch: true })
  return own.map(collection => ({
    database: database ?? 'admin',
    collection: database === null ? collection : `$admin.${collection}`,
    metadata: '',
    type: '',
    data: { database: 'admin', collection, filter: filterOf(collection, database), rawData: false },
  }))
}

function filterOf(collection: string, database: string | null): Document {
  return database === null || collection === 'system.version' ? {} : { db: database }
}

/** Whether a collection of an archive holds accounts. */
export function isAccounts(collection: string, database: string): boolean {
  const name = collection.replace(/^\$admin\./, '')
  return (collection !== name || database === 'admin') && own.some(each => each === name)
}
