import type { Context } from './context.ts'
import { Failure } from './failure.ts'
import type { Advice, Bytes } from './step.ts'

/** What a store can do. What it cannot do is not asked of it: a store that can only be written to is a good store. */
export interface Abilities {
  readonly read: boolean
  readonly list: boolean
  readonly remove: boolean
  /** Objects can be locked against deletion until a date. */
  readonly lock: boolean
  /** An object that is overwritten or deleted leaves a version behind. */
  readonly versions: boolean
  /** `put` notices that a key is taken. Where it cannot, unique keys are what protects. */
  readonly exclusive: boolean
  /** A put that did not end well shows nothing under its key. Where it does, only a manifest makes an object real. */
  readonly hidesPartial: boolean
  readonly maxObjectBytes: number
}

export interface Lock {
  readonly mode: 'governance' | 'compliance'
  readonly until: Date
}

export interface PutOptions {
  /** The expected size in bytes; a hint only. */
  readonly sizeHint?: number
  readonly lock?: Lock
  readonly tags?: Readonly<Record<string, string>>
  readonly expires?: Date
  /** Overwrites; for the few keys that a replaced tool's users expect to be overwritten. */
  readonly replace?: true
}

export interface StoredObject {
  readonly key: string
  readonly bytes: number
  /** Where the store keeps versions: this one's id. */
  readonly version?: string
}

export interface Entry {
  readonly key: string
  readonly bytes: number
  readonly modified: Date
}

/** An object, or one of several versions that lie under its key. */
export interface VersionEntry extends Entry {
  readonly version?: string
}

export interface GetOptions {
  readonly version?: string
  /** First and last byte, both included. */
  readonly range?: readonly [number, number]
}

/** A put met a key that is taken. */
export class AlreadyExists extends Error {
  override readonly name = 'AlreadyExists'
}

/** A get met a key that holds nothing. */
export class NotFound extends Error {
  override readonly name = 'NotFound'
}

/**
 * A store failed in a way that may pass by itself: a connection that broke, a server too busy. Nothing else is
 * tried again, so an adapter throws this wherever it knows, and only where the next attempt may well succeed.
 */
export class Transient extends Failure {}

/** The store knows who asks, and does not let him do this: to whoever shall only write, that is as it should be. */
export class Forbidden extends Failure {}

/** The object is durable and whole under its key, but the server dropped its lock or its tags, and does not take them later either. */
export class Unkept extends Failure {
  readonly extra: 'lock' | 'tags'
  readonly object: StoredObject

  constructor({ what, why, remedy }: Failure, extra: 'lock' | 'tags', object: StoredObject) {
    super({ what, why, remedy })
    this.extra = extra
    this.object = object
  }
}

/**
 * A place that keeps objects. Keys are relative to the store's root: `/`-separated segments of any characters
 * but NUL, none of them empty, `.` or `..`; an adapter refuses others before it touches anything.
 *
 * `put`: on return the object is durable and whole under its key. If the body throws, the signal is aborted or
 * the process dies, nothing is visible under the key (unless `can.hidesPartial` is false). Never replaces:
 * throws AlreadyExists where `can.exclusive`. Lock, tags and expiry are part of the request that creates it; throws Unkept
 * where a server takes that request and drops them.
 * `get`: throws NotFound. A stream that is cut by the store throws; it never just ends early.
 * `list`: every object whose key starts with the prefix, in any order, none that is half written.
 * `listVersions`: the same with every version of each, no delete markers; where there are none, or nobody may list them,
 * the objects.
 * `remove`: by version where there are versions; a delete marker alone is not `removed`.
 * `sweep`: removes what interrupted puts under the prefix left behind without a listed key (temporary files,
 * unfinished multipart uploads) and returns how many it removed; only for prefixes that nobody writes to now.
 * `probe`: changes nothing, throws a Failure that says what is wrong: unreachable, no such bucket, refused key.
 * `now`: the time by the store's own clock; null where it does not tell.
 * `advice`: what a person should change about a store that works; null: nothing.
 */
export interface Store {
  readonly name: string
  readonly can: Abilities
  probe(ctx: Context): Promise<void>
  now?(ctx: Context): Promise<Date | null>
  advice?(ctx: Context): Promise<Advice | null>
  put(key: string, body: Bytes | Uint8Array, options: PutOptions, ctx: Context): Promise<StoredObject>
  get(key: string, options: GetOptions, ctx: Context): Bytes
  list(prefix: string, ctx: Context): AsyncIterable<Entry>
  listVersions?(prefix: string, ctx: Context): AsyncIterable<VersionEntry>
  remove(key: string, version: string | undefined, ctx: Context): Promise<'removed' | 'absent' | 'locked'>
  sweep(prefix: string, ctx: Context): Promise<number>
  /** Moves the lock of a version, or of the current one, to a later date and returns the date that is really set, by reading it back. */
  lockUntil?(key: string, version: string | undefined, until: Date, ctx: Context): Promise<Date>
  /** The shell command that writes the object to stdout with public tools alone. */
  shell(key: string): string
  close?(): Promise<void>
}
