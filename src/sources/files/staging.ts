import type { Stats } from 'node:fs'
import { chmod, copyFile, lstat, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import type { Context } from '../../model/context.ts'
import { Failure, usage } from '../../model/failure.ts'
import { systemFailure } from '../../platform/system-error.ts'

/** A path as the bytes it is: a name need not be UTF-8. */
export type RawPath = Buffer

export function under(folder: RawPath | string, name: Uint8Array | string): RawPath {
  const above = Buffer.from(folder)
  return Buffer.concat([above, Buffer.from(above.equals(Buffer.from('/')) ? '' : '/'), Buffer.from(name)])
}

const lookedAtAtOnce = 64

/** A path of more bytes than PATH_MAX (4096) means nothing to the system: long before, we go on from the folder itself. */
const longPath = 2048

/** Calls `visit` with everything below a folder, folders before what they hold: how it is reached, and what it is called. */
async function walk(
  folder: RawPath,
  visit: (path: RawPath, stats: Stats, name: RawPath) => Promise<void> | void,
  called: RawPath = folder,
): Promise<void> {
  await using held = folder.length > longPath ? await open(folder) : null
  const at = held ? Buffer.from(`/proc/self/fd/${held.fd}`) : folder
  const names = await readdir(at, { encoding: 'buffer' })
  for (let from = 0; from < names.length; from += lookedAtAtOnce) {
    const some = names.slice(from, from + lookedAtAtOnce)
    const all = await Promise.all(some.map(async name => ({ name, stats: await lstat(under(at, name)) })))
    for (const { name, stats } of all) {
      await visit(under(at, name), stats, under(called, name))
      if (stats.isDirectory()) await walk(under(at, name), visit, under(called, name))
    }
  }
}

/** What was extracted. */
export interface Inventory {
  /** Members, the folder itself included. */
  readonly entries: number
}

/**
 * Looks through an extracted tree for what gives power to whoever made the archive: device nodes and programs that
 * run as their owner. Throws a Failure that lists them, unless they are allowed.
 */
export async function inventory(tree: string, allow: ReadonlySet<string>, ctx: Context): Promise<Inventory> {
  let entries = 1
  const found: Record<'devices' | 'setuid', string[]> = { devices: [], setuid: [] }
  await walk(Buffer.from(tree), (_path, stats, called) => {
    ctx.signal.throwIfAborted()
    if (entries++ % 1000 === 0) ctx.alive(`looking through ${entries} restored files`)
    const name = called.subarray(Buffer.byteLength(tree) + 1).toString()
    if (stats.isBlockDevice() || stats.isCharacterDevice()) found.devices.push(name)
    // On a folder, setgid only says which group new files get.
    if (stats.isFile() && (stats.mode & 0o6000) !== 0) found.setuid.push(name)
  })
  refuse(found.devices, 'devices', 'device nodes', allow)
  refuse(found.setuid, 'setuid', 'files that run as their owner or group (setuid, setgid)', allow)
  return { entries }
}

function refuse(names: readonly string[], consent: string, kind: string, allow: ReadonlySet<string>): void {
  if (names.length === 0 || allow.has(consent)) return
  const more = names.length > 10 ? ` and ${names.length - 10} more` : ''
  throw usage(
    'cannot restore these files',
    `the backup holds ${kind}: ${names.slice(0, 10).join(', ')}${more}`,
    `if you trust where it comes from, allow it with --allow ${consent}`,
  )
}

/** Renames, remembered, so that they can be taken back. */
export class Moves {
  readonly #done: (() => Promise<void>)[] = []

  /** Throws a Failure when it cannot be done. */
  async move(from: RawPath, to: RawPath): Promise<void> {
    await renameAny(from, to)
    this.#done.push(() => renameAny(to, from))
  }

  /** Gives a file the content of another, for one that cannot be moved; its own waits in `kept`. Throws a Failure when it cannot be done. */
  async overwrite(from: RawPath, to: RawPath, kept: RawPath): Promise<void> {
    const [own, other] = await Promise.all([lstat(to), lstat(from)])
    if (!own.isFile() || !other.isFile()) throw cannotReplace(to)
    if (own.size === other.size && (await isSame(from, to))) return
    const closed = (error: unknown): never => {
      const { code = '' } = error as NodeJS.ErrnoException
      if (!['ENOSPC', 'EDQUOT', 'EIO'].includes(code)) throw cannotReplace(to, error)
      throw systemFailure(error, `cannot replace ${to}`) ?? error
    }
    await (await open(to, 'r+').catch(closed)).close()
    await copyFile(to, kept)
    this.#done.push(() => copyFile(kept, to))
    await copyFile(from, to).catch(closed)
  }

  /** A folder that goes again when the moves are taken back. */
  async makeFolder(path: RawPath): Promise<void> {
    await mkdir(path, { mode: 0o700 })
    this.#done.push(() => rm(path, { recursive: true, force: true }))
  }

  /** In reverse order; throws a Failure that says so if that does not work either. */
  async takeBack(): Promise<void> {
    for (let undo = this.#done.pop(); undo; undo = this.#done.pop()) await undo()
  }
}

async function renameAny(from: RawPath, to: RawPath): Promise<void> {
  try {
    await rename(from, to)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    const stats = await lstat(from).catch(() => null)
    if (code === 'EACCES' && stats?.isDirectory()) return renameReadOnly(from, to, stats)
    if (code === 'EXDEV')
      throw cannotReplace(from, error, `${mountedThere}, or it belongs to a container's image`)
    if (code !== 'EBUSY') throw error
    throw cannotReplace(from, error)
  }
}

const mountedThere = 'something is mounted there'

export function cannotReplace(path: RawPath, cause?: unknown, why = mountedThere): Failure {
  return new Failure({
    what: `cannot replace ${path}`,
    why,
    remedy: 'unmount it, or restore to another folder',
    cause,
  })
}

/** Whether two files of the same size hold the same bytes. */
async function isSame(one: RawPath, other: RawPath): Promise<boolean> {
  await using first = await open(one)
  await using second = await open(other)
  for (;;) {
    const [a, b] = await Promise.all([first.read(), second.read()])
    if (!a.buffer.subarray(0, a.bytesRead).equals(b.buffer.subarray(0, b.bytesRead))) return false
    if (a.bytesRead === 0) return true
  }
}

/** Who is not root must be able to write to a folder to move it elsewhere, because its `..` changes. */
async function renameReadOnly(from: RawPath, to: RawPath, stats: Stats): Promise<void> {
  await chmod(from, stats.mode | 0o700)
  try {
    await rename(from, to)
  } catch (error) {
    await chmod(from, stats.mode)
    throw error
  }
  await chmod(to, stats.mode)
}

/** Removes a tree, folders without write permission included. */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true })
  } catch {
    const root = Buffer.from(path)
    await chmod(root, 0o700)
    await walk(root, async (inner, stats) => {
      if (stats.isDirectory()) await chmod(inner, 0o700)
    })
    await rm(path, { recursive: true, force: true })
  }
}
