import { randomBytes } from 'node:crypto'
import type { Document } from 'mongodb'
import { Failure } from '../../model/failure.ts'
import { codeOf } from './explain.ts'
import { isOwn } from './inventory.ts'
import { decoded, type Server } from './server.ts'

/** A collection, view or time series of a target. */
export interface Existing {
  readonly name: string
  readonly type: string
  readonly options: Document
}

/** What a restore does in one database. */
export interface Goal {
  /** The database's name in the backup. */
  readonly from: string
  readonly target: string
  /** Undefined: all of it. */
  readonly only: ReadonlySet<string> | undefined
  /** What is there and would be replaced. */
  readonly replaced: readonly Existing[]
}

/** Looks at one target; changes nothing. A database that is not there is an empty one. */
export async function survey(
  server: Server,
  from: string,
  target: string,
  only: ReadonlySet<string> | undefined,
): Promise<Goal> {
  const all = await decoded(server, target, { listCollections: 1, cursor: {} })
  const replaced = all
    .map(({ name, type, options }) => ({
      name: String(name),
      type: String(type ?? 'collection'),
      options: options ?? {},
    }))
    .filter(({ name }) => !isOwn(name) && (!only || only.has(name)))
  return { from, target, only, replaced }
}

/** Made anew for a restore, in the database where it is wanted: a rename within a database moves no data. */
export interface Loaded {
  readonly goal: Goal
  readonly collection: string
  readonly type: string
  readonly options: Document
  /** As createIndexes takes them, without the one that every collection has. */
  readonly indexes: readonly Document[]
  readonly scratch: string
}

/** Names beside the collections: `cairn_restore_3f9c01_7`. */
export function scratchNames(): (ordinal: number) => string {
  const mark = randomBytes(3).toString('hex')
  return ordinal => `cairn_restore_${mark}_${ordinal}`
}

/** NamespaceNotFound. */
const notThere = 26

/** How long putting things back may take. */
const cleanupMs = 60_000

/**
 * Puts everything in its place. When it throws, everything is as it was, but for time series that were replaced. Returns what could
 * not be cleared away.
 */
export async function swap(
  server: Server,
  goals: readonly Goal[],
  loaded: readonly Loaded[],
): Promise<string[]> {
  const undo: (() => Promise<unknown>)[] = []
  const mark = randomBytes(3).toString('hex')
  try {
    const aside = await moveAside(server, goals, mark, undo)
    // What cannot be moved aside stands in the way of its namesakes only.
    const fixed = goals.flatMap(goal => goal.replaced.filter(isFixed).map(({ name }) => ({ goal, name })))
    for (const one of loaded) {
      const old = fixed.findIndex(({ goal, name }) => goal.from === one.goal.from && name === one.collection)
      for (const { goal, name } of old < 0 ? [] : fixed.splice(old, 1))
        await server.command(goal.target, { drop: name }, soon())
      await moveIn(server, one, undo)
    }
    const gone = fixed.map(({ goal, name }) => ({ database: goal.target, name }))
    return await dropAll(server, [...aside, ...gone])
  } catch (error) {
    const failed: string[] = []
    for (const step of undo.reverse()) await step().catch(problem => failed.push((problem as Error).message))
    if (failed.length === 0) throw error
    throw new Failure({
      what: 'what was there before could not be put back',
      why: `${(error as Error).message}; ${failed.join('; ')}`,
      remedy: `look for collections named cairn_before_${mark}_..., and rename them`,
      cause: error,
    })
  }
}

interface Named {
  readonly database: string
  readonly name: string
}

/** Collections are renamed; views and time series cannot be. Returns what lies aside, and goes when all is done. */
async function moveAside(
  server: Server,
  goals: readonly Goal[],
  mark: string,
  undo: (() => Promise<unknown>)[],
): Promise<Named[]> {
  const aside: Named[] = []
  for (const { target, replaced } of goals)
    for (const one of replaced) {
      const old = { database: target, name: one.name }
      if (one.type === 'view') {
        await server.command(target, { drop: one.name })
        undo.push(() => server.command(target, { create: one.name, ...one.options }, soon()))
      } else if (!isFixed(one)) {
        const to = { database: target, name: `cairn_before_${mark}_${aside.length}` }
        await rename(server, old, to)
        aside.push(to)
        undo.push(() => rename(server, to, old, soon()))
      }
    }
  return aside
}

/** What no server renames. */
function isFixed({ name, type }: { readonly name: string; readonly type: string }): boolean {
  return type === 'timeseries' || name === 'system.js'
}

async function moveIn(server: Server, one: Loaded, undo: (() => Promise<unknown>)[]): Promise<void> {
  const { goal, collection, type, options, indexes, scratch } = one
  const place = { database: goal.target, name: collection }
  const drop = () => server.command(goal.target, { drop: collection }, soon())
  if (type === 'view') {
    await server.command(goal.target, { create: collection, ...options })
    undo.push(drop)
  } else if (isFixed({ name: collection, type })) {
    await server.command(goal.target, { create: collection, ...options })
    undo.push(drop)
    const stored = type === 'timeseries' ? `system.buckets.${collection}` : collection
    await copy(server, goal.target, scratch, stored)
    if (indexes.length > 0) await server.command(goal.target, { createIndexes: collection, indexes })
  } else {
    await rename(server, { database: goal.target, name: scratch }, place)
    undo.push(() => rename(server, place, { database: goal.target, name: scratch }, soon()))
  }
}

async function copy(server: Server, database: string, from: string, to: string): Promise<void> {
  for await (const chunk of server.documents(database, { find: from }))
    await server.insert(database, to, [chunk])
  await server.command(database, { drop: from })
}

async function rename(server: Server, from: Named, to: Named, signal?: AbortSignal): Promise<void> {
  const full = ({ database, name }: Named): string => `${database}.${name}`
  await server.command('admin', { renameCollection: full(from), to: full(to) }, signal)
}

/** Drops what only the restore needed, also when we were told to stop. Returns what it could not drop. */
export async function dropAll(server: Server, names: readonly Named[]): Promise<string[]> {
  const left: string[] = []
  for (const { database, name } of names)
    await server.command(database, { drop: name }, soon()).catch(error => {
      if (codeOf(error) !== notThere) left.push(`${database}.${name}`)
    })
  return left
}

function soon(): AbortSignal {
  return AbortSignal.timeout(cleanupMs)
}
