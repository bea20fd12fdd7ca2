import { BSON, type Document, Timestamp } from 'mongodb'
import type { Server } from '../../../src/sources/mongodb/server.ts'

interface Kept {
  type: string
  options: Document
  documents: Uint8Array[]
  indexes: Document[]
}

/**
 * A server in memory, for what no server that can be had here does: views, time series, validators, snapshots. Its answers are those
 * that the documentation of MongoDB gives; it renames no view and no time series, and never onto what is there. `refuses`: the code
 * with which it refuses to merge users and roles.
 */
export function fakeServer(
  more: { snapshots?: boolean; window?: number; dataSize?: number; refuses?: number } = {},
) {
  const databases = new Map<string, Map<string, Kept>>()
  const commands: Document[] = []
  const at = (database: string): Map<string, Kept> => {
    const found = databases.get(database) ?? new Map<string, Kept>()
    databases.set(database, found)
    return found
  }
  const need = (database: string, name: string): Kept => {
    const found = at(database).get(name)
    if (!found) throw refusal(26, `ns not found: ${database}.${name}`)
    return found
  }

  function create(database: string, { create: name, ...options }: Document): void {
    if (at(database).has(name)) throw refusal(48, `${name} already exists`)
    const type = options.viewOn ? 'view' : options.timeseries ? 'timeseries' : 'collection'
    at(database).set(name, { type, options, documents: [], indexes: [] })
    if (type === 'timeseries')
      at(database).set(`system.buckets.${name}`, {
        type: 'collection',
        options: {},
        documents: [],
        indexes: [],
      })
  }

  function rename(from: string, to: string): void {
    const [database = '', ...rest] = from.split('.')
    const [name, target] = [rest.join('.'), to.slice(database.length + 1)]
    const kept = need(database, name)
    if (kept.type !== 'collection') throw refusal(166, `cannot rename ${kept.type} ${name}`)
    if (at(database).has(target)) throw refusal(48, 'target namespace exists')
    at(database).delete(name)
    at(database).set(target, kept)
  }

  /** As MongoDB does it for mongorestore, without `drop`: who is there stays. */
  function merge({ tempUsersCollection, tempRolesCollection, db }: Document): void {
    if (more.refuses) throw refusal(more.refuses, 'cannot merge')
    if (!tempUsersCollection && !tempRolesCollection) throw refusal(2, 'Must provide at least one')
    for (const [from, to] of [
      [tempUsersCollection, 'system.users'],
      [tempRolesCollection, 'system.roles'],
    ]) {
      if (!from) continue
      const kept = at('admin').get(to)?.documents ?? []
      const ids = new Set(kept.map(one => BSON.deserialize(one)._id))
      const added = need('admin', from.slice('admin.'.length)).documents.filter(one => {
        const found = BSON.deserialize(one)
        return !ids.has(found._id) && (db === '' || found.db === db)
      })
      at('admin').set(to, { type: 'collection', options: {}, indexes: [], documents: [...kept, ...added] })
    }
  }

  function answer(database: string, command: Document): Document {
    if (command._mergeAuthzCollections !== undefined) {
      merge(command)
      return { ok: 1 }
    }
    if (command.create !== undefined) create(database, command)
    if (command.drop !== undefined) {
      need(database, command.drop)
      at(database).delete(command.drop)
      at(database).delete(`system.buckets.${command.drop}`)
    }
    if (command.renameCollection !== undefined) rename(command.renameCollection, command.to)
    if (command.createIndexes !== undefined)
      need(database, command.createIndexes).indexes.push(...command.indexes)
    if (command.getParameter !== undefined) return { minSnapshotHistoryWindowInSeconds: more.window ?? 300 }
    if (command.dbStats !== undefined) return { dataSize: more.dataSize ?? 0 }
    if (command.aggregate !== undefined)
      return { cursor: { firstBatch: [{ n: need(database, command.aggregate).documents.length }] } }
    if (command.find !== undefined && command.readConcern?.level === 'snapshot')
      return { cursor: { firstBatch: [], ...(more.snapshots ? { atClusterTime: moment } : {}) } }
    return { ok: 1 }
  }

  function listed(database: string): Uint8Array[] {
    return [...at(database)].map(([name, { type, options }]) =>
      BSON.serialize({ name, type, options, info: {} }),
    )
  }

  function answers(database: string, command: Document): Uint8Array[] {
    if (command.listCollections !== undefined) return listed(database)
    if (command.listIndexes !== undefined)
      return [{ v: 2, key: { _id: 1 }, name: '_id_' }, ...need(database, command.listIndexes).indexes].map(
        one => BSON.serialize(one),
      )
    const { filter = {} } = command
    return need(database, command.find).documents.filter(
      one => filter.db === undefined || BSON.deserialize(one).db === filter.db,
    )
  }

  const server: Server = {
    where: 'mongodb://fake:27017',
    hosts: ['fake:27017'],
    database: undefined,
    version: '7.0.0',
    isReplicaSet: more.snapshots === true,
    isSharded: false,
    async command(database, command, signal) {
      signal?.throwIfAborted()
      commands.push(command)
      return answer(database, command)
    },
    async *documents(database, command) {
      commands.push(command)
      yield* answers(database, command)
    },
    async insert(database, collection, documents) {
      const each = documents.flatMap(apart)
      if (!at(database).has(collection)) create(database, { create: collection })
      need(database, collection).documents.push(...each)
      return each.length
    },
    async [Symbol.asyncDispose]() {},
  }
  return { server, databases, commands }
}

export const moment = new Timestamp({ t: 1_800_000_000, i: 1 })

/** Documents that lie one after another. */
function apart(run: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = []
  for (let at = 0; at < run.length; at += found.at(-1)?.length ?? run.length)
    found.push(run.subarray(at, at + Buffer.from(run.subarray(at, at + 4)).readInt32LE()))
  return found
}

function refusal(code: number, message: string): Error {
  return Object.assign(new Error(message), { code })
}
