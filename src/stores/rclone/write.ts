import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { open, rm } from 'node:fs/promises'
import { join, posix } from 'node:path'
import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import type { Bytes } from '../../model/step.ts'
import { needSpace } from '../../platform/space.ts'
import { abortable } from './daemon.ts'
import { isRefused } from './failure.ts'
import { withLargeParts } from './remote.ts'
import { copyFile, deleteObject, rename, sizeOf } from './requests.ts'
import { upload } from './upload.ts'
import { placeOf, settings, type Use } from './use.ts'

/** How long cleaning up after a failure may take. */
const cleanupMs = 10_000

/** What is up to this size goes by a file: its size is then known, and rclone can try again. */
const smallBytes = 1024 * 1024

/** Names of objects that are not yet whole: ours, and those of rclone 1.63 and newer (`--partial-suffix`). */
export const partialName = /\.[0-9a-f]{8}\.partial$/

/** Encrypting remotes allow hardly more than 140 bytes in a name. */
const longestStem = 120

/** What the partial names of an object begin with: in its folder, and its own name unless that is too long. */
export function partialStem(name: string): string {
  const { dir, base } = posix.parse(name)
  const isShort = Buffer.byteLength(base) <= longestStem
  return posix.join(
    dir,
    isShort ? base : `cairn-${createHash('sha256').update(base).digest('hex').slice(0, 16)}`,
  )
}

/** What is to be written. */
export interface Writing {
  /** The object's name, as rclone spells it. */
  readonly name: string
  readonly body: Bytes | Uint8Array
  readonly sizeHint?: number | undefined
  readonly replace: boolean
  /** For messages. */
  readonly store: string
}

/** The account may create objects, but not rename them. */
export class RenameRefused extends Error {}

/** Uploads under the object's own name and returns its size. A failure may leave a part of it there. */
export async function writeInPlace(use: Use, writing: Writing, ctx: Context): Promise<number> {
  return transfer(use, writing, writing.name, ctx)
}

/**
 * Uploads under another name in the same folder and renames the object when it is whole. A failure leaves nothing,
 * unless rclone or the connection has died: then what only `sweep` sees. Throws RenameRefused.
 */
export async function writeAndRename(use: Use, writing: Writing, ctx: Context): Promise<number> {
  const { name, replace } = writing
  const partial = `${partialStem(name)}.${randomBytes(4).toString('hex')}.partial`
  try {
    const bytes = await transfer(use, writing, partial, ctx)
    await rename(use, partial, name, replace, ctx.signal).catch(error => {
      throw isRefused(error) ? new RenameRefused('renaming is refused', { cause: error }) : error
    })
    return bytes
  } catch (error) {
    // Whatever else is going wrong: what happened first is what is told.
    await deleteObject(use, partial, AbortSignal.timeout(cleanupMs)).catch(() => {})
    throw error
  }
}

async function transfer(use: Use, writing: Writing, target: string, ctx: Context): Promise<number> {
  const { body, store } = writing
  const bytes =
    body instanceof Uint8Array
      ? await byFile(use, target, [body], ctx.dir, ctx)
      : await transferStream(use, writing, body, target, ctx)
  await compareSize(use, target, bytes, store, ctx)
  return bytes
}

async function transferStream(
  use: Use,
  { sizeHint, store }: Writing,
  body: Bytes,
  target: string,
  ctx: Context,
): Promise<number> {
  const { start, rest } = await beginningOf(body, ctx)
  if (rest === null) return byFile(use, target, start, ctx.dir, ctx)
  const whole = chain(start, rest)
  if (!use.features.canStream) {
    await needSpace(ctx.spool, sizeHint ?? 0, `cannot hold a copy for store ${store}`)
    return byFile(use, target, whole, ctx.spool, ctx)
  }
  const { dir, base } = posix.parse(placeOf(use, target))
  return upload(use.daemon, { fs: await fsForSize(use, sizeHint, ctx), folder: dir, name: base }, whole, ctx)
}

/** The remote by a name that makes its parts large enough. */
async function fsForSize(use: Use, sizeHint: number | undefined, ctx: Context): Promise<string> {
  if (!use.features.bucketBased) return use.fs
  const changed = await withLargeParts(use.remote, sizeHint, name => settings(use, name, ctx.signal))
  return changed === use.remote ? use.fs : changed
}

/** Puts what has to be in a file first. The file is gone afterwards. */
async function byFile(
  use: Use,
  target: string,
  body: Bytes | readonly Uint8Array[],
  dir: string,
  ctx: Context,
): Promise<number> {
  const file = `put-${randomUUID()}`
  try {
    const bytes = await writeFile(join(dir, file), body, ctx.signal)
    await copyFile(use, { dir, file }, target, ctx.signal)
    return bytes
  } finally {
    await rm(join(dir, file), { force: true })
  }
}

/** What was stored must be as long as what was sent. A remote that may not be read is believed. */
async function compareSize(
  use: Use,
  target: string,
  bytes: number,
  store: string,
  ctx: Context,
): Promise<void> {
  const found = await sizeOf(use, target, ctx.signal).catch(error => {
    if (isRefused(error)) return bytes
    throw error
  })
  if (found === bytes || found === -1) return
  const why =
    found === null ? 'it is not there after the upload' : `it has ${found} bytes instead of ${bytes}`
  throw new Failure({ what: `store ${store} did not keep what it was given`, why })
}

/** The first chunks of a stream, until they are no longer small, and the rest of it if it goes on. */
async function beginningOf(
  body: Bytes,
  ctx: Context,
): Promise<{ start: Uint8Array[]; rest: AsyncIterator<Uint8Array> | null }> {
  const rest = body[Symbol.asyncIterator]()
  const start: Uint8Array[] = []
  let size = 0
  while (size < smallBytes) {
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
  const chunks = Symbol.asyncIterator in body ? body[Symbol.asyncIterator]() : body.values()
  try {
    for (;;) {
      const next = await abortable(Promise.resolve(chunks.next()), signal)
      if (next.done) return bytes
      await file.writeFile(next.value)
      bytes += next.value.byteLength
    }
  } catch (error) {
    // Not waited for: it may hang, which is why we leave.
    void Promise.resolve(chunks.return?.()).catch(() => {})
    throw error
  }
}
