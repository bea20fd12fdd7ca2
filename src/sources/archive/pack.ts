import { randomUUID } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { Context } from '../../model/context.ts'
import { asFailure } from '../../model/failure.ts'
import type { Artifact } from '../../model/source.ts'
import type { Bytes } from '../../model/step.ts'
import { flow } from '../../platform/flow.ts'
import { needSpace } from '../../platform/space.ts'
import type { ArchiveEntry, ArchiveMember } from './index.ts'

/** A member, as the manifest lists it. */
export interface Packed {
  readonly member: string
  readonly media: string
  readonly bytes: number
}

/**
 * An ordinary tar of these entries, each spooled before it is packed, because a tar says a member's size before its bytes. One
 * that cannot be read is told to `lose`, and left out. A dump in a folder, which is a tar already, becomes that folder.
 * Whatever the end of the stream, the spool is empty again.
 */
export async function* archive(
  entries: AsyncIterable<ArchiveEntry>,
  packed: Packed[],
  lose: (member: ArchiveMember, error: unknown) => void,
  ctx: Context,
): Bytes {
  for await (const { member, name, artifact } of entries) {
    if (packed.some(one => one.member === name)) throw new Error(`two members are named ${name}`)
    const path = join(ctx.spool, randomUUID())
    try {
      const bytes = await spool(artifact, path, ctx)
      if (artifact.media === 'pg_dump-directory') yield* membersOf(reading(path, ctx))
      else {
        yield memberHeader({ name, bytes, modified: ctx.clock.now() })
        yield* reading(path, ctx)
        yield padding(bytes)
      }
      packed.push({ member: name, media: artifact.media, bytes })
    } catch (error) {
      if (!(error instanceof MemberLost)) throw error
      lose(member, error.cause)
    } finally {
      await rm(path, { force: true })
    }
  }
  yield archiveEnd()
}

/** A member could not be spooled: nothing of it is in the archive yet. */
class MemberLost extends Error {
  override readonly name = 'MemberLost'
}

/** Returns its size. Throws MemberLost, or what aborted it. */
async function spool(artifact: Artifact, path: string, ctx: Context): Promise<number> {
  try {
    return await spooled(artifact, path, ctx)
  } catch (error) {
    ctx.signal.throwIfAborted()
    throw new MemberLost('a member could not be read', { cause: error })
  }
}

async function spooled(artifact: Artifact, path: string, ctx: Context): Promise<number> {
  await needSpace(ctx.spool, artifact.sizeHint ?? 0, `cannot spool ${artifact.name}`)
  const file = createWriteStream(path, { flags: 'wx', mode: 0o600 })
  try {
    await pipeline(counted(flow(artifact.open(ctx), [], ctx), ctx), file)
  } catch (error) {
    ctx.signal.throwIfAborted()
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    throw asFailure(
      error,
      `cannot spool ${artifact.name} in ${ctx.spool}`,
      'make room, or put the spool elsewhere',
    )
  }
  return (await stat(path)).size
}

/** Bytes that go to disk reach nobody else: say that they move. */
async function* counted(bytes: Bytes, ctx: Context): Bytes {
  for await (const chunk of bytes) {
    ctx.alive('spooling a member of the archive')
    yield chunk
  }
}

async function* reading(path: string, ctx: Context): Bytes {
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
    ctx.signal.throwIfAborted()
    yield chunk
  }
}

// The tar format: ustar (POSIX.1-1988) and, where that is too small, the extended headers of pax
// (POSIX.1-2001, https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html).

const block = 512

/** What octal digits in 11 places can say: 8 GiB less one. */
const largestUstar = 0o77777777777

/** A regular file in an archive. */
interface Member {
  readonly name: string
  readonly bytes: number
  readonly modified: Date
}

/** The blocks before a member's bytes. Throws for a name that no archive can hold, or none should. */
export function memberHeader(member: Member): Uint8Array {
  if (/\0|^\/|^$/.test(member.name) || member.name.split('/').includes('..')) {
    throw new Error(`not a name for an archive: ${JSON.stringify(member.name)}`)
  }
  const records: string[] = []
  const name = Buffer.from(member.name)
  // ustar does not say in which encoding names are; pax says UTF-8.
  if (name.length > 100 || name.some(byte => byte > 127)) records.push(record('path', member.name))
  if (member.bytes > largestUstar) records.push(record('size', String(member.bytes)))
  const header = ustar(name, Math.min(member.bytes, largestUstar), member.modified, '0')
  if (records.length === 0) return header
  const extended = Buffer.from(records.join(''))
  const before = ustar(Buffer.from('pax_header'), extended.length, member.modified, 'x')
  return Buffer.concat([before, extended, padding(extended.length), header])
}

/** What fills a member's last block. */
function padding(bytes: number): Uint8Array {
  return new Uint8Array((block - (bytes % block)) % block)
}

/** The blocks of another archive, up to its end. Throws for what is no archive. */
async function* membersOf(input: Bytes): Bytes {
  let waiting = Buffer.alloc(0)
  let left = 0
  for await (const chunk of input) {
    waiting = waiting.length === 0 ? Buffer.from(chunk) : Buffer.concat([waiting, chunk])
    let at = 0
    while (at < waiting.length) {
      if (left === 0) {
        if (waiting.length - at < block) break
        const header = waiting.subarray(at, at + block)
        // What follows the first block of zeros only fills up the archive.
        if (header.every(byte => byte === 0)) {
          yield waiting.subarray(0, at)
          return
        }
        left = block + Math.ceil(sizeIn(header) / block) * block
      }
      const step = Math.min(left, waiting.length - at)
      at += step
      left -= step
    }
    yield waiting.subarray(0, at)
    waiting = waiting.subarray(at)
  }
}

/** The size of a member: octal digits, or where they do not suffice a number of base 256 (GNU). */
function sizeIn(header: Buffer): number {
  if (((header[124] ?? 0) & 0x80) !== 0) return Number(header.readBigUInt64BE(128))
  const digits = header.toString('latin1', 124, 136).replace(/[\0 ]+$/, '')
  if (/^[0-7]+$/.test(digits)) return Number.parseInt(digits, 8)
  throw new Error('it is no archive')
}

/** Two blocks of zeros. */
function archiveEnd(): Uint8Array {
  return new Uint8Array(2 * block)
}

/** `<length> <key>=<value>\n`, where the length counts its own digits. */
function record(key: string, value: string): string {
  const rest = Buffer.byteLength(` ${key}=${value}\n`)
  let length = rest + 1
  while (rest + String(length).length !== length) length = rest + String(length).length
  return `${length} ${key}=${value}\n`
}

function ustar(name: Uint8Array, bytes: number, modified: Date, type: '0' | 'x'): Uint8Array {
  const header = Buffer.alloc(block)
  const octal = (value: number, at: number, width: number): void => {
    header.write(`${value.toString(8).padStart(width - 1, '0')}\0`, at, 'latin1')
  }
  header.set(name.subarray(0, 100), 0)
  octal(0o600, 100, 8)
  octal(0, 108, 8)
  octal(0, 116, 8)
  octal(bytes, 124, 12)
  octal(Math.max(0, Math.floor(modified.getTime() / 1000)), 136, 12)
  header.write(type, 156, 'latin1')
  header.write('ustar\x0000', 257, 'latin1')
  // The checksum is made with its own field full of spaces.
  header.fill(' ', 148, 156)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return header
}
