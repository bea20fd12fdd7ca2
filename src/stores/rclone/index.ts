import { posix } from 'node:path'
import * as z from 'zod'
import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import { keyFault } from '../../model/key.ts'
import { shellQuoted } from '../../model/shell.ts'
import type { Advice, Bytes } from '../../model/step.ts'
import {
  AlreadyExists,
  type Entry,
  type GetOptions,
  type PutOptions,
  type Store,
  type StoredObject,
} from '../../model/store.ts'
import { secretOption } from '../../platform/secret-source.ts'
import { download } from './download.ts'
import { asRcloneFailure, isRefused, isUnreachable, RcloneError } from './failure.ts'
import { isBroken, keyOf, nameOf, parseRemote, withoutSecrets } from './remote.ts'
import { deleteObject, entriesBelow, sizeOf, tidyFolder } from './requests.ts'
import { type Features, placeOf, type Use, Uses } from './use.ts'
import {
  partialName,
  partialStem,
  RenameRefused,
  type Writing,
  writeAndRename,
  writeInPlace,
} from './write.ts'

export const RcloneOptions = z
  .strictObject({
    remote: z.string().min(1).meta({
      description: 'where to: gdrive:backups, a connection string (:sftp,host=nas:backups), or /a/folder',
      example: 'nas:backups',
    }),
    config: z.string().min(1).optional().meta({
      description: 'the rclone.conf; absent: where rclone itself looks (RCLONE_CONFIG, ~/.config/rclone)',
      example: '/etc/rclone.conf',
    }),
    options: z
      .record(z.string().regex(/^\w+$/), secretOption)
      .optional()
      .meta({
        description:
          'settings of the remote as they stand in rclone.conf (type, host, pass...), passwords obscured as `rclone obscure` does it; they win over the file',
        example: { type: 'sftp', host: 'nas.example', user: 'backup', pass: { file: '/run/secrets/nas' } },
      }),
    clear: z
      .record(z.string().regex(/^\w+$/), secretOption)
      .optional()
      .meta({
        description: 'passwords of the remote in clear; Cairn has rclone obscure them',
        example: { pass: { file: '/run/secrets/nas' } },
      }),
    environment: z
      .record(z.string().regex(/^[A-Z]\w*$/i), secretOption)
      .optional()
      .meta({
        description: 'variables that rclone gets besides its own environment',
        example: { AWS_SECRET_ACCESS_KEY: { file: '/run/secrets/s3' } },
      }),
    program: z.string().min(1).default('rclone').describe('which rclone to run'),
  })
  .refine(o => !isBroken(o.remote), {
    error:
      'it is no whole connection string (:type,key="value":path); it is not shown, because passwords may be in it',
    path: ['remote'],
  })
  .refine(o => o.options === undefined || /^[^:/]/.test(parseRemote(o.remote).name), {
    error: 'options need a remote with a name, like nas:backups',
    path: ['options'],
  })

export type RcloneOptions = z.output<typeof RcloneOptions>

/** Some seconds, where nobody answers; ten of them take minutes. */
const briefTries = 3

/** The smallest limit of the great object stores; what a remote allows beyond or below, rclone does not tell. */
const maxObjectBytes = 5 * 1024 ** 4

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
  readonly #uses: Uses
  /** For those who wait for an answer. */
  readonly #brief: Uses
  readonly #folders = new FolderGate()
  /** The account may not rename: it was refused once. */
  #mayNotRename = false

  constructor(name: string, options: RcloneOptions) {
    this.name = name
    this.#options = options
    this.#uses = new Uses(options)
    this.#brief = new Uses({ ...options, tries: briefTries })
  }

  get can(): Store['can'] {
    const features = this.#uses.features ?? this.#brief.features
    const hidesPartial = features !== null && (features.bucketBased || this.#renames(features))
    const can = { read: true, list: true, remove: true, lock: false, versions: false, exclusive: false }
    return { ...can, hidesPartial, maxObjectBytes }
  }

  /** For whoever has the remote in an rclone.conf. Secrets of a connection string are left out. */
  shell(key: string): string {
    const { remote, config } = this.#options
    const open = withoutSecrets(remote)
    const joint = /[:/]$/.test(open) ? '' : '/'
    const from = config === undefined ? '' : `--config ${shellQuoted(config)} `
    return `rclone cat ${from}${shellQuoted(open + joint + nameOf(key))}`
  }

  async probe(ctx: Context): Promise<void> {
    try {
      const use = await this.#open(ctx)
      await sizeOf(use, '.cairn/v1', ctx.signal)
    } catch (error) {
      ctx.signal.throwIfAborted()
      if (!isRefused(error)) throw asRcloneFailure(error, `cannot use store ${this.name}`)
      const why = error instanceof Error ? error.message : String(error)
      const remedy = 'nothing, if this account shall only write'
      ctx.emit({ type: 'warning', what: `store ${this.name} cannot be read`, why, remedy, store: this.name })
    }
  }

  /** Older ones do not know what their users are promised of S3. */
  async advice(ctx: Context): Promise<Advice | null> {
    const { daemon } = await this.#open(ctx)
    const { version } = await daemon.call('core/version', {}, ctx.signal)
    const [, major, minor] = /^v(\d+)\.(\d+)/.exec(String(version)) ?? []
    if (Number(major) > 1 || Number(minor) >= 70) return null
    return {
      what: 'rclone is older than 1.70',
      why: `it is ${version}, which may ignore AWS_ENDPOINT_URL_S3 and pod identity, and fails with AWS_CA_BUNDLE`,
      remedy: 'install one from https://rclone.org/downloads, or use the image',
    }
  }

  async put(key: string, body: Bytes | Uint8Array, options: PutOptions, ctx: Context): Promise<StoredObject> {
    const what = this.#doing('write', key)
    if (options.lock) throw usage(what, 'rclone cannot lock objects', 'use an s3 store for locks')
    const replace = options.replace === true
    const writing = { name: nameOf(key), body, sizeHint: options.sizeHint, replace, store: this.name }
    return this.#attempt(
      what,
      ctx,
      async use => {
        await this.#look(use, key, replace, ctx)
        const leave = await this.#folders.enter()
        try {
          return { key, bytes: await this.#write(use, writing, ctx) }
        } finally {
          leave()
        }
      },
      !(body instanceof Uint8Array),
    )
  }

  async *get(key: string, options: GetOptions, ctx: Context): AsyncGenerator<Uint8Array, void, undefined> {
    const what = this.#doing('read', key)
    try {
      const use = await this.#open(ctx)
      const from = { fs: use.fs, remote: placeOf(use, nameOf(key)), what: `${key} in store ${this.name}` }
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
    const name = nameOf(key)
    return this.#attempt(this.#doing('remove', key), ctx, async use => {
      if (!(await deleteObject(use, name, ctx.signal))) return 'absent'
      // Only the nearest folder: others may be about to write in those above.
      const folder = posix.dirname(name)
      if (folder !== '.' && use.features.hasFolders) {
        await this.#folders.alone(() => tidyFolder(use, folder, ctx.signal))
      }
      return 'removed'
    })
  }

  async sweep(prefix: string, ctx: Context): Promise<number> {
    // Of a key whose name was too long for it, the partial name begins with something else.
    const hashed = `${keyOf(partialStem(nameOf(prefix)))}.`
    const entries = await this.#listAll(prefix.slice(0, prefix.lastIndexOf('/') + 1), ctx)
    const leftovers = entries.filter(
      ({ key }) => partialName.test(key) && (key.startsWith(prefix) || key.startsWith(hashed)),
    )
    let removed = 0
    for (const { key } of leftovers) if ((await this.remove(key, undefined, ctx)) === 'removed') removed++
    return removed
  }

  /** Ends rclone; no process, port or file is left. The store may be used again. */
  async close(): Promise<void> {
    await Promise.all([this.#uses.close(), this.#brief.close()])
  }

  #open(ctx: Context): Promise<Use> {
    return (ctx.patienceMs === undefined ? this.#uses : this.#brief).open(ctx)
  }

  #renames(features: Features): boolean {
    return features.canMove && !this.#mayNotRename
  }

  #doing(verb: string, key: string): string {
    const what = `cannot ${verb} ${key} in store ${this.name}`
    const fault = keyFault(key)
    if (fault) throw usage(what, `the key is not usable: ${fault}`)
    return what
  }

  /** Runs a request. What rclone says becomes a Failure, an abort its reason. `once`: one that rclone cannot try again. */
  async #attempt<T>(what: string, ctx: Context, request: (use: Use) => Promise<T>, once = false): Promise<T> {
    try {
      return await request(await this.#open(ctx))
    } catch (error) {
      ctx.signal.throwIfAborted()
      throw asRcloneFailure(error, what, once)
    }
  }

  /** Refuses a key that is taken, and a server that is not there: rclone itself would try for minutes. */
  async #look(use: Use, key: string, replace: boolean, ctx: Context): Promise<void> {
    const found = await sizeOf(use, nameOf(key), ctx.signal).catch(error => {
      // An account that may not look can still write; unique keys protect.
      if (error instanceof RcloneError && !isUnreachable(error)) return null
      throw error
    })
    if (found !== null && !replace) throw new AlreadyExists(`${key} is already in store ${this.name}`)
  }

  async #write(use: Use, writing: Writing, ctx: Context): Promise<number> {
    if (!this.#renames(use.features)) return writeInPlace(use, writing, ctx)
    try {
      return await writeAndRename(use, writing, ctx)
    } catch (error) {
      if (!(error instanceof RenameRefused)) throw error
      if (writing.replace) throw error.cause
      this.#mayNotRename = true
      // A stream cannot be given twice; whoever tries again succeeds.
      if (!(writing.body instanceof Uint8Array)) throw error.cause
      return writeInPlace(use, writing, ctx)
    }
  }

  async #listAll(prefix: string, ctx: Context): Promise<Entry[]> {
    const folder = prefix.slice(0, Math.max(0, prefix.lastIndexOf('/')))
    // No object has such a name, and rclone would take the path for another.
    if (prefix.startsWith('/') || (folder !== '' && keyFault(folder))) return []
    return this.#attempt(`cannot list store ${this.name}`, ctx, async use => {
      const entries = await entriesBelow(use, folder, ctx.signal)
      return entries.filter(entry => entry.key.startsWith(prefix))
    })
  }
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
