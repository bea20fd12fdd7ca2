import { randomUUID } from 'node:crypto'
import { createReadStream, createWriteStream, existsSync } from 'node:fs'
import { access, chmod, chown, constants, open, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute } from 'node:path'
import { pipeline } from 'node:stream/promises'
import * as z from 'zod'
import type { Context } from '../model/context.ts'
import { asFailure, Failure, usage } from '../model/failure.ts'
import type { Restorer } from '../model/restore.ts'
import type { Session, Source } from '../model/source.ts'
import type { Bytes } from '../model/step.ts'
import { syncFolder } from '../platform/atomic-file.ts'
import { makePath } from '../platform/make-path.ts'
import { demandWritable, whyNotReplaced, whyNotWritten } from '../platform/writable.ts'

export const FileOptions = z.strictObject({
  path: z
    .string()
    .refine(path => isAbsolute(path) && !path.includes('\0'), 'must be an absolute path')
    .meta({ description: 'the file', example: '/etc/shop.json' }),
})
export type FileOptions = z.infer<typeof FileOptions>

/**
 * One file as it is, without a tar around it. A SQLite database is not copied byte by byte, which would miss what others
 * are writing: `asDatabase` reads it. Which of the two it is shows when the file is looked at.
 */
export function fileSource({ path }: FileOptions, asDatabase: () => Source): Source {
  let chosen: Source | null = null
  const choose = async (): Promise<Source> => {
    chosen ??= (await isDatabase(path)) ? asDatabase() : plainFile(path)
    return chosen
  }
  return {
    engine: 'file',
    inspect: async ctx => await (await choose()).inspect(ctx),
    open: async (unit, parent, level, ctx) => await (await choose()).open(unit, parent, level, ctx),
  }
}

const magic = 'SQLite format 3\0'

/** True for a file that begins as SQLite's do. Throws a Failure for one that is missing or may not be read. */
async function isDatabase(path: string): Promise<boolean> {
  await mustBeReadable(path)
  await using file = await open(path)
  const { buffer, bytesRead } = await file.read(Buffer.alloc(magic.length), 0, magic.length, 0)
  return beginsAsDatabase(buffer.subarray(0, bytesRead))
}

export function beginsAsDatabase(head: Buffer): boolean {
  return head.toString('latin1', 0, magic.length) === magic
}

async function mustBeReadable(path: string): Promise<void> {
  const what = `cannot back up ${path}`
  try {
    const found = await stat(path)
    if (!found.isFile()) throw usage(what, 'it is not a regular file', 'back up a folder as a folder')
    await access(path, constants.R_OK)
  } catch (error) {
    if (error instanceof Failure) throw error
    const { code } = error as NodeJS.ErrnoException
    const why =
      code === 'ENOENT' ? 'it does not exist' : code === 'EACCES' ? 'there is no permission' : String(error)
    throw usage(what, why, 'check the path, its owner, and in a container the mount')
  }
}

function plainFile(path: string): Source {
  return {
    engine: 'file',
    async inspect() {
      await mustBeReadable(path)
      return {
        identity: `file:${path}`,
        version: '',
        local: true,
        units: [{ name: basename(path) }],
        estimate: (await stat(path)).size,
      }
    },
    open: async (_unit, _parent, _level, ctx) => await opened(path, ctx),
  }
}

async function opened(path: string, ctx: Context): Promise<Session> {
  const before = await stat(path)
  return {
    concurrency: 1,
    async *artifacts() {
      yield {
        name: `file/${basename(path)}`,
        media: 'file',
        role: 'data',
        sizeHint: before.size,
        open: () => reading(path),
      }
    },
    census: async () => ({ level: 'objects', at: 'near', objects: [{ name: path, rows: null }], unseen: [] }),
    async finish() {
      const after = await stat(path).catch(() => null)
      const changed = after?.mtimeMs !== before.mtimeMs || after.size !== before.size
      const now = ctx.clock.now()
      return {
        kind: 'files',
        ...{ capturedAt: now, consistentAt: now, client: '' },
        options: { path, mode: before.mode & 0o7777, uid: before.uid, gid: before.gid },
        warnings: changed ? [{ what: 'it changed while it was read', path }] : [],
      }
    },
    async [Symbol.asyncDispose]() {},
  }
}

async function* reading(path: string): Bytes {
  try {
    yield* createReadStream(path, { highWaterMark: 1024 * 1024 })
  } catch (error) {
    throw asFailure(error, `cannot read ${path}`)
  }
}

/** Who may do what with a file, as far as it is known. */
export interface FileOwner {
  readonly mode?: number | undefined
  readonly uid?: number | undefined
  readonly gid?: number | undefined
}

/** Brings back one file as it was, beside its place first. `path`: where it goes; `owner`: whose it is where there is none to take that from. */
export function fileRestorer(path: string, owner: FileOwner = {}): Restorer {
  return {
    async plan() {
      demandWritable([{ target: path, why: await whyNotPut(path) }])
      return {
        target: path,
        steps: [`writes ${path}`],
        replaces: existsSync(path) ? [path] : [],
        warnings: [],
      }
    },
    async apply(chain, _pick, replace, read, ctx) {
      const record = chain.at(-1)?.artifacts.find(({ role }) => role === 'data')
      if (!record) throw usage(`cannot restore ${path}`, 'the backup holds no such file')
      if (existsSync(path) && !replace) throw usage(`cannot restore ${path}`, 'it exists')
      await writeAside(path, read.open(record), owner, ctx)
      return { target: path, objects: 1, rows: null, warnings: [] }
    },
  }
}

/** A plan is also made before anybody knows what the backup holds: of a database, SQLite itself changes the content. */
async function whyNotPut(path: string): Promise<string | null> {
  const why = await whyNotReplaced(path)
  if (why === null || !(await isDatabase(path).catch(() => false))) return why
  return (await whyNotWritten(path)) === null ? null : why
}

/** Durably, or not at all; who has the file open keeps the old one. Owner and rights are those of the file it replaces. */
async function writeAside(path: string, bytes: Bytes, owner: FileOwner, ctx: Context): Promise<void> {
  const temporary = `${path}.${randomUUID()}.cairn-restore`
  const { uid, gid, mode } = (await stat(path).catch(() => null)) ?? owner
  try {
    await makePath(dirname(path))
    await pipeline(bytes, createWriteStream(temporary, { flags: 'wx', mode: 0o600, flush: true }), {
      signal: ctx.signal,
    })
    if (uid !== undefined && gid !== undefined) await chown(temporary, uid, gid).catch(() => {})
    await chmod(temporary, (mode ?? 0o644) & 0o7777)
    await rename(temporary, path)
    syncFolder(dirname(path))
  } catch (error) {
    await rm(temporary, { force: true })
    ctx.signal.throwIfAborted()
    throw asFailure(
      error,
      `cannot write ${path}`,
      'run as a user who may write there; is it mounted read-only?',
    )
  }
}
