import { randomBytes, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { basename, join, posix } from 'node:path'
import * as z from 'zod'
import type { Context } from '../model/context.ts'
import { Failure, usage } from '../model/failure.ts'
import { keyFault } from '../model/key.ts'
import { Secret } from '../model/secret.ts'
import { shellQuoted } from '../model/shell.ts'
import type { Bytes } from '../model/step.ts'
import {
  AlreadyExists,
  type Entry,
  type GetOptions,
  type PutOptions,
  type Store,
  type StoredObject,
} from '../model/store.ts'
import { secretOption } from '../platform/secret-source.ts'
import { needSpace } from '../platform/space.ts'
import { abortable, type Daemon, type RcloneProgram, startDaemon } from './rclone-daemon.ts'
import { download } from './rclone-download.ts'
import { inherited, settingsAsEnvironment, settingsIn } from './rclone-environment.ts'
import { asRcloneFailure, isAbsent, isRefused, RcloneError } from './rclone-failure.ts'
import { keyOf, nameOf, parseRemote, secretsOf, withLargeParts } from './rclone-remote.ts'
import { upload } from './rclone-upload.ts'

export const RcloneOptions = z
  .strictObject({
    remote: z
      .string()
      .min(1)
      .describe('where to: gdrive:backups, a connection string (:sftp,host=nas:backups), or /a/folder'),
    config: z
      .string()
      .min(1)
      .optional()
      .describe('the rclone.conf; absent: where rclone itself looks (RCLONE_CONFIG, ~/.config/rclone)'),
    options: z
      .record(z.string().regex(/^\w+$/), secretOption)
      .optional()
      .describe(
        'settings of the remote as they stand in rclone.conf (type, host, pass...), passwords obscured as `rclone obscure` does it; they win over the file',
      ),
    program: z.string().min(1).default('rclone').describe('which rclone to run'),
  })
  .refine(o => o.options === undefined || /^[^:/]/.test(parseRemote(o.remote).name), {
    error: 'options need a remote with a name, like nas:backups',
    path: ['options'],
  })

export type RcloneOptions = z.output<typeof RcloneOptions>

/** The smallest limit of the great object stores; what a remote allows beyond or below, rclone does not tell. */
const maxObjectBytes = 5 * 1024 ** 4

/** How long cleaning up after a failure may take. */
const cleanupMs = 10_000

/** What is up to this size goes by a file: its size is then known, and rclone can try again. */
const smallBytes = 1024 * 1024

/** Names of objects that are not yet whole: ours, and those of rclone 1.63 and newer (`--partial-suffix`). */
const partialName = /\.[0-9a-f]{8}\.partial$/

/** What `operations/fsinfo` says of a remote. */
interface Features {
  /** Objects appear only when they are whole. */
  readonly bucketBased: boolean
  readonly canMove: boolean
  readonly canStream: boolean
  readonly hasFolders: boolean
}

/** What a store holds while it is in use. */
interface Use {
  readonly daemon: Daemon
  /** The name under which the daemon knows the remote. */
  readonly fs: string
  readonly features: Features
  readonly program: RcloneProgram
}

/**
 * A store in anything that rclone can reach. One `rclone rcd` is started with the first request and ends with
 * `close`; when it dies, requests under way fail, and the next one starts another.
 *
 * Where the remote can rename, an object is uploaded under a name that ends in `.partial`, its size is compared, and
 * it is given its own name; object stores show nothing that is not whole. `can.hidesPartial` is true as soon as the
 * remote was found to be of either kind. Where renaming is refused (an account that may only create), objects are
 * from then on uploaded under their own names; so a small object should come first.
 *
 * rclone replaces without a word. `put` asks before whether the key is taken, but two who ask at once both go ahead:
 * `exclusive` is false, and unique keys are what protects. An account that may not look is not asked for it. With
 * `replace`, the old object goes when the new one is whole; a remote that cannot rename over it has neither for a moment.
 *
 * Locks are refused; tags and expiry have no place here and are dropped. Where the remote keeps versions, or a
 * trash, rclone's removal fills it. An interrupted upload to S3 leaves its parts, which rclone cannot list for one
 * folder alone: a rule of the bucket (AbortIncompleteMultipartUpload) should expire them.
 */
export function rcloneStore(name: string, options: RcloneOptions): Store & { close(): Promise<void> } {
  return new RcloneStore(name, options)
}

class RcloneStore implements Store {
  readonly name: string
  readonly #options: RcloneOptions
  #use: Promise<Use> | null = null
  #features: Features | null = null
  /** The account may not rename: it was refused once. */
  #mayNotMove = false
  readonly #folders = new FolderGate()

  constructor(name: string, options: RcloneOptions) {
    this.name = name
    this.#options = options
  }

  get can(): Store['can'] {
    const features = this.#features
    const hidesPartial = features !== null && (features.bucketBased || this.#moves(features))
    const can = { read: true, list: true, remove: true, lock: false, versions: false, exclusive: false }
    return { ...can, hidesPartial, maxObjectBytes }
  }

  shell(key: string): string {
    const remote = this.#options.remote
    const joint = /[:/]$/.test(remote) ? '' : '/'
    return `rclone cat ${shellQuoted(remote + joint + key)}`
  }

  async probe(ctx: Context): Promise<void> {
    const what = `cannot use store ${this.name}`
    try {
      const use = await this.#open(ctx)
      await this.#stat(use, '.cairn/v1', ctx.signal)
    } catch (error) {
      ctx.signal.throwIfAborted()
      if (!isRefused(error)) throw asRcloneFailure(error, what)
      const why = error instanceof Error ? error.message : String(error)
      const remedy = 'nothing, if this account shall only write'
      ctx.emit({ type: 'warning', what: `store ${this.name} cannot be read`, why, remedy, store: this.name })
    }
  }

  async put(key: string, body: Bytes | Uint8Array, options: PutOptions, ctx: Context): Promise<StoredObject> {
    const what = this.#doing('write', key)
    if (options.lock) throw usage(what, 'rclone cannot lock objects', 'use an s3 store for locks')
    return this.#attempt(what, ctx, async use => {
      if (!options.replace) await this.#refuseTaken(use, key, ctx)
      const leave = await this.#folders.enter()
      try {
        return { key, bytes: await this.#write(use, nameOf(key), body, options, ctx) }
      } finally {
        leave()
      }
    })
  }

  async *get(key: string, options: GetOptions, ctx: Context): AsyncGenerator<Uint8Array, void, undefined> {
    const what = this.#doing('read', key)
    try {
      const use = await this.#open(ctx)
      const from = { fs: use.fs, remote: nameOf(key), what: `${key} in store ${this.name}` }
      yield* download(use.daemon, from, options.range, ctx)
    } catch (error) {
      ctx.signal.throwIfAborted()
      throw asRcloneFailure(error, what)
    }
  }

  async *list(prefix: string, ctx: Context): AsyncGenerator<Entry, void, undefined> {
    for (const entry of await this.#listAll(prefix, ctx)) if (!partialName.test(entry.key)) yield entry
  }

  async remove(
    key: string,
    _version: string | undefined,
    ctx: Context,
  ): Promise<'removed' | 'absent' | 'locked'> {
    return this.#attempt(this.#doing('remove', key), ctx, async use => {
      const removed = await this.#delete(use, nameOf(key), ctx.signal)
      if (removed) await this.#tidy(use, posix.dirname(nameOf(key)), ctx.signal)
      return removed ? 'removed' : 'absent'
    })
  }

  async sweep(prefix: string, ctx: Context): Promise<number> {
    const leftovers = (await this.#listAll(prefix, ctx)).filter(entry => partialName.test(entry.key))
    let removed = 0
    for (const { key } of leftovers) if ((await this.remove(key, undefined, ctx)) === 'removed') removed++
    return removed
  }

  /** Ends rclone; no process, port or file is left. The store may be used again. */
  async close(): Promise<void> {
    const opening = this.#use
    this.#use = null
    const use = await opening?.catch(() => null)
    await use?.daemon.stop()
  }

  #doing(verb: string, key: string): string {
    const what = `cannot ${verb} ${key} in store ${this.name}`
    const fault = keyFault(key)
    if (fault) throw usage(what, `the key is not usable: ${fault}`)
    return what
  }

  /** Runs a request. What rclone says becomes a Failure, an abort its reason. */
  async #attempt<T>(what: string, ctx: Context, request: (use: Use) => Promise<T>): Promise<T> {
    try {
      return await request(await this.#open(ctx))
    } catch (error) {
      ctx.signal.throwIfAborted()
      throw asRcloneFailure(error, what)
    }
  }

  async #open(ctx: Context): Promise<Use> {
    ctx.signal.throwIfAborted()
    const before = await this.#use?.catch(() => null)
    if (before && (!before.daemon.alive() || !existsSync(before.daemon.dir))) {
      this.#use = null
      await before.daemon.stop()
    }
    // Others may wait for it too: one of them being aborted must not end it.
    this.#use ??= this.#start({ ...ctx, signal: new AbortController().signal })
    const opening = this.#use
    opening.catch(() => {
      if (this.#use === opening) this.#use = null
    })
    return abortable(opening, ctx.signal)
  }

  async #start(ctx: Context): Promise<Use> {
    const { remote, config, options = {}, program: path } = this.#options
    // An alias hides the remote's own spelling: neither requests nor arguments need to hold it.
    const alias = `cairn${randomBytes(4).toString('hex')}`
    const program: RcloneProgram = {
      program: path,
      secrets: secretsOf(parseRemote(remote)),
      env: {
        ...inherited(process.env),
        ...(config !== undefined && { RCLONE_CONFIG: config }),
        ...(await settingsAsEnvironment(remote, options)),
        [`RCLONE_CONFIG_${alias.toUpperCase()}_TYPE`]: 'alias',
        [`RCLONE_CONFIG_${alias.toUpperCase()}_REMOTE`]: new Secret(remote),
      },
    }
    const daemon = await startDaemon(program, ctx)
    try {
      const fs = `${alias}:`
      const info = await daemon.call('operations/fsinfo', { fs }, AbortSignal.timeout(ctx.stallMs))
      const features = featuresIn(info)
      this.#features = features
      return { daemon, fs, features, program }
    } catch (error) {
      await daemon.stop()
      throw error
    }
  }

  #moves(features: Features): boolean {
    return features.canMove && !this.#mayNotMove
  }

  async #refuseTaken(use: Use, key: string, ctx: Context): Promise<void> {
    try {
      if ((await this.#stat(use, nameOf(key), ctx.signal)) === null) return
    } catch (error) {
      // An account that may not look can still write; unique keys protect.
      if (error instanceof RcloneError) return
      throw error
    }
    throw new AlreadyExists(`${key} is already in store ${this.name}`)
  }

  async #write(
    use: Use,
    name: string,
    body: Bytes | Uint8Array,
    options: PutOptions,
    ctx: Context,
  ): Promise<number> {
    const moves = this.#moves(use.features)
    const partial = `cairn.${randomBytes(4).toString('hex')}.partial`
    const target = moves ? posix.join(posix.dirname(name), partial) : name
    const buffer = body instanceof Uint8Array ? body : null
    try {
      const bytes = buffer
        ? await this.#putFile(use, target, only(buffer), ctx.dir, ctx)
        : await this.#putStream(use, target, body as Bytes, options.sizeHint, ctx)
      await this.#compareSize(use, target, bytes, ctx)
      if (moves) await this.#move(use, target, name, options.replace === true, ctx)
      return bytes
    } catch (error) {
      // Under its own name, what is there may be another's.
      if (moves) await this.#discard(use, target)
      if (!(error instanceof MoveRefused)) throw error
      if (options.replace) throw error.cause
      this.#mayNotMove = true
      if (buffer) return this.#write(use, name, buffer, options, ctx)
      throw error.cause
    }
  }

  async #putStream(
    use: Use,
    target: string,
    body: Bytes,
    sizeHint: number | undefined,
    ctx: Context,
  ): Promise<number> {
    const { start, rest } = await beginningOf(body, smallBytes, ctx)
    if (rest === null) return this.#putFile(use, target, start, ctx.dir, ctx)
    const whole = chain(start, rest)
    if (!use.features.canStream) {
      await needSpace(ctx.spool, sizeHint ?? 0, `cannot hold a copy for store ${this.name}`)
      return this.#putFile(use, target, whole, ctx.spool, ctx)
    }
    const settingsOf = (name: string): Promise<Record<string, string>> => settings(use, name, ctx.signal)
    const large = use.features.bucketBased
      ? await withLargeParts(this.#options.remote, sizeHint, settingsOf)
      : this.#options.remote
    const fs = large === this.#options.remote ? use.fs : large
    const folder = posix.dirname(target)
    const to = { fs, folder: folder === '.' ? '' : folder, name: basename(target) }
    return upload(use.daemon, to, whole, ctx)
  }

  /** Puts what has to be in a file first. The file is gone afterwards. */
  async #putFile(
    use: Use,
    target: string,
    body: Bytes | readonly Uint8Array[],
    dir: string,
    ctx: Context,
  ): Promise<number> {
    const file = join(dir, `put-${randomUUID()}`)
    try {
      const bytes = await writeFile(file, body, ctx.signal)
      const from = { srcFs: dir, srcRemote: basename(file) }
      const _config = { NoCheckDest: true, Inplace: true }
      const params = { ...from, dstFs: use.fs, dstRemote: target, _config }
      await use.daemon.call('operations/copyfile', params, ctx.signal)
      return bytes
    } finally {
      await rm(file, { force: true })
    }
  }

  /** What was stored must be as long as what was sent. A remote that may not be read is believed. */
  async #compareSize(use: Use, target: string, bytes: number, ctx: Context): Promise<void> {
    let found: number | null
    try {
      found = await this.#stat(use, target, ctx.signal)
    } catch (error) {
      if (error instanceof RcloneError && isRefused(error)) return
      throw error
    }
    if (found === bytes || found === -1) return
    const why =
      found === null ? 'it is not there after the upload' : `it has ${found} bytes instead of ${bytes}`
    throw new Failure({ what: `store ${this.name} did not keep what it was given`, why })
  }

  async #move(use: Use, from: string, to: string, replace: boolean, ctx: Context): Promise<void> {
    // Without IgnoreTimes, rclone takes an old object of the same size for the new one on remotes without times.
    const _config = { IgnoreTimes: true, NoCheckDest: !replace }
    const params = { srcFs: use.fs, srcRemote: from, dstFs: use.fs, dstRemote: to, _config }
    try {
      await use.daemon.call('operations/movefile', params, ctx.signal)
    } catch (error) {
      throw isRefused(error) ? new MoveRefused('renaming is refused', { cause: error }) : error
    }
  }

  /** Removes what a failed put left, whatever else is going wrong. */
  async #discard(use: Use, name: string): Promise<void> {
    const signal = AbortSignal.timeout(cleanupMs)
    await this.#delete(use, name, signal).catch(() => {})
  }

  async #delete(use: Use, remote: string, signal: AbortSignal): Promise<boolean> {
    try {
      await use.daemon.call('operations/deletefile', { fs: use.fs, remote }, signal)
      return true
    } catch (error) {
      if (isAbsent(error)) return false
      throw error
    }
  }

  /** Removes the folder if it is empty; only the nearest one, since others may be about to write in those above. */
  async #tidy(use: Use, folder: string, signal: AbortSignal): Promise<void> {
    if (folder === '.' || !use.features.hasFolders) return
    await this.#folders.alone(async () => {
      await use.daemon.call('operations/rmdir', { fs: use.fs, remote: folder }, signal).catch(() => {})
    })
  }

  /** The size of an object, -1 where the remote does not tell, or null when there is none. */
  async #stat(use: Use, remote: string, signal: AbortSignal): Promise<number | null> {
    const opt = { noModTime: true, noMimeType: true, filesOnly: true }
    try {
      const { item } = await use.daemon.call('operations/stat', { fs: use.fs, remote, opt }, signal)
      return item ? listed.parse(item).Size : null
    } catch (error) {
      if (isAbsent(error)) return null
      throw error
    }
  }

  async #listAll(prefix: string, ctx: Context): Promise<Entry[]> {
    const folder = prefix.slice(0, Math.max(0, prefix.lastIndexOf('/')))
    // No object has such a name, and rclone would take the path for another.
    if (prefix.startsWith('/') || (folder !== '' && keyFault(folder))) return []
    return this.#attempt(`cannot list store ${this.name}`, ctx, async use => {
      const opt = { recurse: true, filesOnly: true, noMimeType: true }
      // The remote's own time: the other one costs a request for every object of S3.
      const params = { fs: use.fs, remote: nameOf(folder), opt, _config: { UseServerModTime: true } }
      try {
        const { list } = await use.daemon.call('operations/list', params, ctx.signal)
        return entries(list, prefix)
      } catch (error) {
        if (isAbsent(error)) return []
        throw error
      }
    })
  }
}

class MoveRefused extends Error {}

const listed = z.object({ Path: z.string(), Size: z.number(), ModTime: z.string() })

function entries(list: unknown, prefix: string): Entry[] {
  return (Array.isArray(list) ? list : [])
    .map(item => listed.parse(item))
    .map(({ Path, Size, ModTime }) => ({ key: keyOf(Path), bytes: Size, modified: new Date(ModTime) }))
    .filter(entry => entry.key.startsWith(prefix))
}

function featuresIn(info: Readonly<Record<string, unknown>>): Features {
  const features = z.record(z.string(), z.unknown()).parse(info.Features)
  return {
    bucketBased: features.BucketBased === true,
    canMove: features.Move === true,
    canStream: features.PutStream === true,
    hasFolders: features.CanHaveEmptyDirectories === true,
  }
}

/** What is configured for a remote: in the file, and over it in the environment. */
async function settings(use: Use, name: string, signal: AbortSignal): Promise<Record<string, string>> {
  const file = name.startsWith(':')
    ? {}
    : await use.daemon.call('config/get', { name }, signal).catch(() => ({}))
  const all = { ...z.record(z.string(), z.unknown()).parse(file), ...settingsIn(use.program.env, name) }
  return Object.fromEntries(Object.entries(all).map(([key, value]) => [key, String(value)]))
}

function only(buffer: Uint8Array): readonly Uint8Array[] {
  return [buffer]
}

/** The first chunks of a stream, until they make up so many bytes, and the rest of it if it goes on. */
async function beginningOf(
  body: Bytes,
  bytes: number,
  ctx: Context,
): Promise<{ start: Uint8Array[]; rest: AsyncIterator<Uint8Array> | null }> {
  const rest = body[Symbol.asyncIterator]()
  const start: Uint8Array[] = []
  let size = 0
  while (size < bytes) {
    const next = await abortable(rest.next(), ctx.signal).catch(error => {
      void Promise.resolve(rest.return?.()).catch(() => {})
      throw error
    })
    if (next.done) return { start, rest: null }
    start.push(next.value)
    size += next.value.byteLength
  }
  return { start, rest }
}

async function* chain(start: readonly Uint8Array[], rest: AsyncIterator<Uint8Array>): Bytes {
  try {
    yield* start
    for (;;) {
      const next = await rest.next()
      if (next.done) return
      yield next.value
    }
  } finally {
    await rest.return?.()
  }
}

async function writeFile(
  path: string,
  body: Bytes | readonly Uint8Array[],
  signal: AbortSignal,
): Promise<number> {
  await using file = await open(path, 'wx', 0o600)
  let bytes = 0
  for await (const chunk of body) {
    signal.throwIfAborted()
    await file.writeFile(chunk)
    bytes += chunk.byteLength
  }
  return bytes
}

/** Keeps the removal of empty folders out of the way of writers who have just made one. */
class FolderGate {
  #writers = 0
  #clearing: Promise<void> = Promise.resolve()

  /** Resolves when no folder is being removed, to what is called after writing. */
  async enter(): Promise<() => void> {
    this.#writers++
    await this.#clearing
    return () => {
      this.#writers--
    }
  }

  /** Does it if nobody writes; those who come meanwhile wait. */
  async alone(clear: () => Promise<void>): Promise<void> {
    if (this.#writers > 0) return
    this.#clearing = Promise.all([this.#clearing, clear()]).then(() => {})
    await this.#clearing
  }
}
