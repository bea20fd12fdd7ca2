import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import type { Bytes, Program } from '../../model/step.ts'
import { flow } from '../../platform/flow.ts'
import { needSpace } from '../../platform/space.ts'

const remedy = 'make room, set CAIRN_SPOOL to a larger disk, or use format: custom'

/** A dump in pg_dump's directory format. */
export interface FolderDump {
  /** For messages. */
  readonly name: string
  /** What the database has. */
  readonly bytes: number
  dump(args: readonly string[]): Program
}

/**
 * The dump as one tar, whose root holds `toc.dat`. It is written below the spool first, and read when it is whole. Throws a
 * Failure when there is no room for as many bytes as the database has; whatever the end of the stream, nothing stays in the spool.
 */
export async function* asTar(folderDump: FolderDump, ctx: Context): Bytes {
  await needSpace(ctx.spool, folderDump.bytes, `cannot spool ${folderDump.name}`, remedy)
  const place = join(ctx.spool, randomUUID())
  const folder = join(place, 'dump')
  try {
    await mkdir(place, { mode: 0o700 })
    const list = join(place, '.members')
    await writeFile(list, `${(await writtenInto(folder, folderDump, ctx)).join('\n')}\n`, { mode: 0o600 })
    const args = ['-c', '-f', '-', '--no-unquote', '-C', folder, '-T', list]
    yield* flow({ program: 'tar', args }, [], ctx)
  } finally {
    await rm(place, { recursive: true, force: true, maxRetries: 3 })
  }
}

/** Dumps into the folder, which pg_dump makes. Returns the names of its files, the table of contents first: for who reads them as a stream. */
export async function writtenInto(
  folder: string,
  { name, dump }: FolderDump,
  ctx: Context,
): Promise<string[]> {
  await written(folder, dump([`--file=${folder}`]), `cannot spool ${name}`, ctx)
  const names = (await readdir(folder)).filter(each => each !== 'toc.dat').sort()
  return ['toc.dat', ...names]
}

async function written(folder: string, dump: Program, what: string, ctx: Context): Promise<void> {
  const stop = new AbortController()
  const watching = growing(folder, AbortSignal.any([ctx.signal, stop.signal]), ctx).catch(() => {})
  try {
    // It prints nothing; its end is what we wait for.
    for await (const _ of flow(dump, [], ctx));
  } catch (error) {
    ctx.signal.throwIfAborted()
    if (!(error instanceof Failure) || !/No space left|Disk quota/.test(error.why)) throw error
    throw new Failure({ what, why: error.why, remedy, cause: error })
  } finally {
    stop.abort()
    await watching
  }
}

/** Bytes that go to disk reach nobody who waits for the archive: say that they move, as long as the folder grows. */
async function growing(folder: string, signal: AbortSignal, ctx: Context): Promise<void> {
  let before = 0
  for (;;) {
    await sleep(Math.min(3_000, ctx.stallMs / 3), undefined, { signal })
    const now = await sizeOf(folder)
    if (now > before) ctx.alive('pg_dump writes into the spool')
    before = now
  }
}

async function sizeOf(folder: string): Promise<number> {
  let sum = 0
  for (const name of await readdir(folder).catch(() => [])) {
    const found = await stat(join(folder, name)).catch(() => null)
    sum += found?.size ?? 0
  }
  return sum
}
