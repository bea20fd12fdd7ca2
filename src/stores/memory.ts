import type { Context } from '../model/context.ts'
import { Failure, usage } from '../model/failure.ts'
import { keyFault } from '../model/key.ts'
import { shellQuoted } from '../model/shell.ts'
import type { Bytes } from '../model/step.ts'
import {
  type Abilities,
  AlreadyExists,
  type Entry,
  Forbidden,
  type GetOptions,
  type Lock,
  NotFound,
  type PutOptions,
  type Store,
  type StoredObject,
} from '../model/store.ts'
import { untilAborted } from '../platform/until-aborted.ts'

/** One version of an object, as it lies in memory. */
export interface MemoryVersion {
  readonly version: string
  /** Null for a delete marker. */
  readonly bytes: Uint8Array | null
  readonly modified: Date
  readonly lock?: Lock
  readonly tags?: Readonly<Record<string, string>>
  readonly expires?: Date
}

/** A store in memory, with a view behind the scenes. */
export interface MemoryStore extends Store {
  /** The same objects for an identity that may read, list and remove. */
  readonly owner: Store
  /** All that lies under a key, delete markers included, the oldest first. */
  versions(key: string): readonly MemoryVersion[]
}

/** Yielded by `get` at a time. */
const chunkBytes = 256 * 1024

/**
 * A store that lives as long as the process: for trying things out, and the store of most tests.
 *
 * It has every ability but locks and versions unless told otherwise; locks bring versions with them. Without
 * `read`, `list` or `remove` those methods throw a Failure, as a bucket does for an identity that may only write.
 * With `exclusive: false` a put overwrites silently. With `hidesPartial: false` an object is seen while it grows,
 * and stays, cut, when its put dies. With `versions`, removing without a version only adds a delete marker; since
 * the bytes are still kept, that answers `locked`. Nobody bypasses a lock of either mode.
 */
export function memoryStore(name: string, abilities: Partial<Abilities> = {}): MemoryStore {
  const versions = abilities.versions ?? abilities.lock ?? false
  const can: Abilities = { ...everything, ...abilities, versions }
  const shelf: Shelf = { name, can, objects: new Map(), last: 0 }
  return {
    ...view(shelf, can),
    owner: view(shelf, { ...can, read: true, list: true, remove: true }),
    versions: key => shelf.objects.get(key) ?? [],
  }
}

/** What the weakest store that a backup can still go to is able to do: it takes bytes, and that is all. */
export function weakStore(name: string): MemoryStore {
  return memoryStore(name, {
    read: false,
    list: false,
    remove: false,
    exclusive: false,
    hidesPartial: false,
  })
}

const everything: Abilities = {
  read: true,
  list: true,
  remove: true,
  lock: false,
  versions: false,
  exclusive: true,
  hidesPartial: true,
  maxObjectBytes: Number.MAX_SAFE_INTEGER,
}

interface Shelf {
  readonly name: string
  readonly can: Abilities
  readonly objects: Map<string, MemoryVersion[]>
  last: number
}

function view(shelf: Shelf, can: Abilities): Store {
  return {
    name: shelf.name,
    can,
    shell: key => `: ${shellQuoted(key)} is in memory only`,
    async probe(ctx) {
      ctx.signal.throwIfAborted()
    },
    put: (key, body, options, ctx) => put(shelf, key, body, options, ctx),
    get: (key, options, ctx) => (can.read ? get(shelf, key, options, ctx) : refused(shelf, 'read')),
    list: (prefix, ctx) => (can.list ? list(shelf, prefix, ctx) : refused(shelf, 'list')),
    async remove(key, version, ctx) {
      if (!can.remove) throw writeOnly(shelf, 'remove')
      return remove(shelf, key, version, ctx)
    },
    async sweep(_prefix, ctx) {
      ctx.signal.throwIfAborted()
      return 0
    },
    ...(can.lock && { lockUntil: (key, version, until) => lockUntil(shelf, key, version, until) }),
  }
}

function writeOnly(shelf: Shelf, verb: string): Forbidden {
  return new Forbidden({
    what: `cannot ${verb} in the store ${shelf.name}`,
    why: 'this store can only be written to',
    remedy: 'use an identity that may do more',
  })
}

// biome-ignore lint/correctness/useYield: it throws when it is read, as every get and list does
async function* refused(shelf: Shelf, verb: string): AsyncGenerator<never> {
  throw writeOnly(shelf, verb)
}

async function put(
  shelf: Shelf,
  key: string,
  body: Bytes | Uint8Array,
  options: PutOptions,
  ctx: Context,
): Promise<StoredObject> {
  refuseFaulty(shelf, key)
  if (options.lock && !shelf.can.lock) {
    throw usage(`cannot lock ${key} in the store ${shelf.name}`, 'the store has no locks')
  }
  ctx.signal.throwIfAborted()
  refuseTaken(shelf, key, options)
  const { bytes, partial } = await collect(shelf, key, body, ctx)
  if (partial) takeOut(shelf, key, partial)
  // Another put may have taken the key meanwhile.
  refuseTaken(shelf, key, options)
  const { lock, tags, expires } = options
  const facts = { ...(lock && { lock }), ...(tags && { tags }), ...(expires && { expires }) }
  const made = add(shelf, key, { bytes, ...facts }, ctx)
  return { key, bytes: bytes.byteLength, ...(shelf.can.versions && { version: made.version }) }
}

function refuseFaulty(shelf: Shelf, key: string): void {
  const fault = keyFault(key)
  if (fault) throw usage(`the store ${shelf.name} cannot have the key ${JSON.stringify(key)}`, fault)
}

function refuseTaken(shelf: Shelf, key: string, options: PutOptions): void {
  if (!shelf.can.exclusive || options.replace || !current(shelf, key)) return
  throw new AlreadyExists(`${key} is already in the store ${shelf.name}`)
}

/** The body's bytes. Where partial objects show, the growing object is left under the key. */
async function collect(
  shelf: Shelf,
  key: string,
  body: Bytes | Uint8Array,
  ctx: Context,
): Promise<{ bytes: Uint8Array; partial?: MemoryVersion }> {
  if (body instanceof Uint8Array) {
    refuseLarge(shelf, key, body.byteLength)
    return { bytes: copyOf(body) }
  }
  const chunks: Uint8Array[] = []
  let bytes = 0
  const growing = {
    get bytes() {
      return Buffer.concat(chunks)
    },
  }
  const partial = shelf.can.hidesPartial ? undefined : add(shelf, key, growing, ctx)
  for await (const chunk of untilAborted(body, ctx.signal)) {
    chunks.push(chunk)
    bytes += chunk.byteLength
    refuseLarge(shelf, key, bytes)
  }
  return { bytes: Buffer.concat(chunks), ...(partial && { partial }) }
}

/** Not `slice`: that of a Buffer shares the memory. */
function copyOf(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes)
}

function refuseLarge(shelf: Shelf, key: string, bytes: number): void {
  if (bytes <= shelf.can.maxObjectBytes) return
  throw new Failure({
    what: `cannot store ${key} in the store ${shelf.name}`,
    why: `it is larger than the ${shelf.can.maxObjectBytes} bytes that an object may have there`,
  })
}

function add(
  shelf: Shelf,
  key: string,
  object: Omit<MemoryVersion, 'version' | 'modified'>,
  ctx: Context,
): MemoryVersion {
  shelf.last++
  // Not a copy: a growing object's bytes are a getter.
  const made = Object.assign(object, { version: `v${shelf.last}`, modified: ctx.clock.now() })
  shelf.objects.set(key, shelf.can.versions ? [...(shelf.objects.get(key) ?? []), made] : [made])
  return made
}

function takeOut(shelf: Shelf, key: string, version: MemoryVersion): void {
  const left = (shelf.objects.get(key) ?? []).filter(each => each.version !== version.version)
  if (left.length > 0) shelf.objects.set(key, left)
  else shelf.objects.delete(key)
}

/** The version that a reader without a version sees: the last, unless it is a delete marker. */
function current(shelf: Shelf, key: string): (MemoryVersion & { bytes: Uint8Array }) | undefined {
  return withBytes(shelf.objects.get(key)?.at(-1))
}

function withBytes(version: MemoryVersion | undefined): (MemoryVersion & { bytes: Uint8Array }) | undefined {
  return version?.bytes ? { ...version, bytes: version.bytes } : undefined
}

function find(shelf: Shelf, key: string, version: string | undefined): MemoryVersion | undefined {
  const versions = shelf.objects.get(key)
  return version === undefined ? versions?.at(-1) : versions?.find(each => each.version === version)
}

async function* get(shelf: Shelf, key: string, options: GetOptions, ctx: Context): Bytes {
  refuseFaulty(shelf, key)
  ctx.signal.throwIfAborted()
  const found = withBytes(find(shelf, key, options.version))
  if (!found) throw new NotFound(`${key} is not in the store ${shelf.name}`)
  const [first, last] = options.range ?? [0, found.bytes.byteLength]
  const wanted = found.bytes.subarray(first, last + 1)
  for (let at = 0; at < wanted.byteLength; at += chunkBytes) {
    ctx.signal.throwIfAborted()
    yield copyOf(wanted.subarray(at, at + chunkBytes))
  }
}

async function* list(shelf: Shelf, prefix: string, ctx: Context): AsyncGenerator<Entry> {
  for (const key of [...shelf.objects.keys()]) {
    ctx.signal.throwIfAborted()
    const found = key.startsWith(prefix) && current(shelf, key)
    if (found) yield { key, bytes: found.bytes.byteLength, modified: found.modified }
  }
}

function remove(
  shelf: Shelf,
  key: string,
  version: string | undefined,
  ctx: Context,
): 'removed' | 'absent' | 'locked' {
  refuseFaulty(shelf, key)
  ctx.signal.throwIfAborted()
  const found = find(shelf, key, version)
  if (!found) return 'absent'
  if (version === undefined && shelf.can.versions) {
    if (!found.bytes) return 'absent'
    add(shelf, key, { bytes: null }, ctx)
    return 'locked'
  }
  if (found.lock && found.lock.until > ctx.clock.now()) return 'locked'
  takeOut(shelf, key, found)
  return 'removed'
}

async function lockUntil(shelf: Shelf, key: string, version: string | undefined, until: Date): Promise<Date> {
  const found = find(shelf, key, version)
  if (!found?.bytes) throw new NotFound(`${key} is not in the store ${shelf.name}`)
  const now = found.lock?.until
  const later = now && now > until ? now : until
  const locked = { ...found, lock: { mode: found.lock?.mode ?? 'governance', until: later } } as const
  const versions = shelf.objects.get(key) ?? []
  shelf.objects.set(
    key,
    versions.map(each => (each === found ? locked : each)),
  )
  return later
}
