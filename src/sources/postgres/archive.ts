import { randomUUID } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { lstat, mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { Context } from '../../model/context.ts'
import { asFailure, damage } from '../../model/failure.ts'
import type { ArtifactRecord } from '../../model/manifest.ts'
import type { ArtifactReader, Framing } from '../../model/restore.ts'
import type { Program, Step, Transform } from '../../model/step.ts'
import { flow, pour } from '../../platform/flow.ts'
import { needSpace } from '../../platform/space.ts'

/** An archive of pg_dump, where pg_restore can get at it: as a stream, as a file, or as a folder. */
export interface Archive extends AsyncDisposable {
  /** Lets pg_restore work on it; resolves when it and everything before it was judged right. */
  restore(program: Program): Promise<void>
  /** Lets pg_restore write a script, which goes through the steps into psql, framed. */
  script(program: Program, steps: readonly Step[], psql: Program, framing: Framing): Promise<void>
}

/**
 * The archive as it is read from the store; pg_restore reads its own end from it, so nothing it did counts before we have seen ours.
 * It ends when it has all that it wants. When that is a part, what follows may be long: then the bytes pass through us, who
 * read the rest, because a program that writes to nobody (zstd) would fail.
 */
export function streamed(data: ArtifactRecord, isPart: boolean, read: ArtifactReader): Archive {
  const before = isPart ? [throughUs] : []
  return {
    restore: program => read.into(data, { ...program, endsEarly: true }, undefined, before),
    script: (program, steps, psql, framing) =>
      read.into(data, psql, framing, [...before, { ...program, endsEarly: true }, ...steps]),
    async [Symbol.asyncDispose]() {},
  }
}

const throughUs: Transform = { name: 'the archive', run: input => input }

const remedy = 'make room, or set CAIRN_SPOOL to a larger disk'

/**
 * The archive below the spool, read to its end and checked. Throws a Failure when there is no room for it. Disposing
 * removes it; what a killed process leaves, the next start removes.
 */
export async function spooled(data: ArtifactRecord, read: ArtifactReader, ctx: Context): Promise<Archive> {
  const what = `cannot spool ${data.name}`
  await needSpace(ctx.spool, data.plain.bytes ?? data.stored.bytes, what, remedy)
  const place = join(ctx.spool, randomUUID())
  const remove = () => rm(place, { recursive: true, force: true, maxRetries: 3 })
  try {
    await mkdir(place, { mode: 0o700 })
    const path = join(place, 'archive')
    if (data.media === 'pg_dump-directory') await unpack(data, path, read)
    else await pipeline(read.open(data), createWriteStream(path, { mode: 0o600 }))
    return { ...from(path, ctx), [Symbol.asyncDispose]: remove }
  } catch (error) {
    await remove()
    const full = (error as NodeJS.ErrnoException).code === 'ENOSPC' || /No space left/.test(String(error))
    throw full ? asFailure(error, what, remedy) : error
  }
}

function from(path: string, ctx: Context): Omit<Archive, typeof Symbol.asyncDispose> {
  const on = (program: Program): Program => ({ ...program, args: [...program.args, path] })
  return {
    async restore(program) {
      // It prints nothing; its end is what we wait for.
      for await (const _ of flow(on(program), [], ctx));
    },
    script: (program, steps, psql, framing) => pour(on(program), steps, psql, ctx, framing),
  }
}

/** What pg_dump puts into a folder, and nothing else. */
const members = /^(toc\.dat|blobs(_\d+)?\.toc|(blob_)?\d+\.dat(\.(gz|lz4|zst))?)$/

/** Throws damage when it holds anything but plain files of pg_dump's names. */
async function unpack(data: ArtifactRecord, folder: string, read: ArtifactReader): Promise<void> {
  await mkdir(folder, { mode: 0o700 })
  const args = ['--extract', '--read-full-records', '--file=-', `--directory=${folder}`]
  await read.into(data, {
    program: 'tar',
    endsEarly: true,
    args: [...args, '--no-same-owner', '--no-same-permissions', '--keep-old-files'],
  })
  for (const name of await readdir(folder)) {
    const found = await lstat(join(folder, name))
    if (members.test(name) && found.isFile() && found.nlink === 1) continue
    throw damage(
      `${data.name} cannot be trusted`,
      `pg_dump writes no ${JSON.stringify(name)}`,
      'restore another backup',
    )
  }
}
