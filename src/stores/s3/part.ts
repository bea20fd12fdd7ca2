import { createHash, randomUUID } from 'node:crypto'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import type { Context } from '../../model/context.ts'
import type { Bytes } from '../../model/step.ts'

const MiB = 2 ** 20
/** Amazon S3 multipart upload limits. */
export const maxParts = 10_000
const maxPartBytes = 5 * 2 ** 30
export const maxObjectBytes = 5 * 2 ** 40

/**
 * How large part n (from 0) of an object is to be, so that ten thousand parts hold 5 TiB whatever the hint says.
 *
 * Without a hint: 8 MiB, doubled after each eleventh of the parts. With one: what it announces, and a tenth more,
 * takes at most half of the parts at one size of at least 8 MiB; then they grow, in case it was wrong. Never above
 * 5 GiB, the most that S3 takes. A fixed size stays, and limits the object.
 */
export function partBytes(
  n: number,
  o: { readonly fixed?: number; readonly sizeHint?: number } = {},
): number {
  if (o.fixed) return o.fixed
  const expected = (o.sizeHint ?? 0) * 1.1
  const first = Math.max(8 * MiB, Math.ceil(expected / (maxParts / 2) / MiB) * MiB)
  const steady = Math.min(Math.ceil(expected / first), maxParts / 2)
  const stride = Math.floor((maxParts - steady) / 11)
  return Math.min(first * 2 ** Math.floor(Math.max(0, n - steady) / stride), maxPartBytes)
}

/** Which digest goes with each part: none of ours, CRC-32, or MD5 for servers that know nothing newer. */
export type DigestKind = 'none' | 'crc32' | 'md5'

/** A part in memory is signed with its own SHA-256; one in a file is not, and needs another guard on its way. */
export interface PartDigests {
  readonly inMemory: DigestKind
  readonly inFile: DigestKind
}

/** The digest as parameters of PutObject and UploadPart. */
type DigestHeaders =
  | { readonly ChecksumAlgorithm: 'CRC32'; readonly ChecksumCRC32: string }
  | { readonly ContentMD5: string }
  | Record<string, never>

/** Some bytes that can be sent more than once. Disposing may happen twice. */
export interface Part extends AsyncDisposable {
  readonly bytes: number
  /** Nothing follows it. */
  readonly last: boolean
  /** It occupies memory of the budget. */
  readonly inMemory: boolean
  readonly digest: DigestHeaders
  /** Its bytes, anew for each request. */
  body(): Buffer | Readable
}

/** Where the bytes of a part are gathered. */
interface Vessel extends AsyncDisposable {
  readonly inMemory: boolean
  add(chunk: Uint8Array): Promise<void> | void
  body(bytes: number): Buffer | Readable
}

/** The stream itself failed: `reason` is what it threw. Not to be taken for an error of the store. */
export class BodyFailed extends Error {
  readonly reason: unknown

  constructor(reason: unknown) {
    super('the stream to be stored failed', { cause: reason })
    this.reason = reason
  }
}

export interface Parts {
  /**
   * The next part, of exactly `bytes` unless it is the last; there is always one, even of nothing. With a claim
   * that is too small it is gathered in a file of `ctx.spool` that has no name, so nothing can be left behind.
   * Throws BodyFailed when the stream does. Disposing the part gives the claim back.
   */
  next(bytes: number, claim: (Disposable & { readonly bytes: number }) | null): Promise<Part>
  /** Ends the stream's makers. Waits a moment only for a stream that is just being read: it may hang. */
  stop(): Promise<void>
}

/** Cuts a stream into parts. Buffers are used again and again: garbage of 8 MiB pieces doubles the memory. */
export function inParts(body: Bytes, digest: PartDigests, ctx: Context): Parts {
  const iterator = body[Symbol.asyncIterator]()
  const spare: Buffer[] = []
  let rest: Uint8Array = new Uint8Array()
  let reading = false
  let ended = false

  async function more(): Promise<boolean> {
    while (!ended && rest.length === 0) {
      reading = true
      const next = await iterator.next().catch(error => {
        throw new BodyFailed(error)
      })
      reading = false
      if (next.done) ended = true
      else rest = next.value
    }
    return rest.length > 0
  }

  async function fill(vessel: Vessel, bytes: number): Promise<Part> {
    const sum = digester(vessel.inMemory ? digest.inMemory : digest.inFile)
    let filled = 0
    while (filled < bytes && (await more())) {
      ctx.signal.throwIfAborted()
      const chunk = rest.subarray(0, bytes - filled)
      rest = rest.subarray(chunk.length)
      sum.update(chunk)
      await vessel.add(chunk)
      filled += chunk.length
    }
    const last = !(await more())
    let held = true
    return {
      bytes: filled,
      last,
      inMemory: vessel.inMemory,
      digest: sum.headers(),
      body: () => vessel.body(filled),
      async [Symbol.asyncDispose]() {
        if (held) await vessel[Symbol.asyncDispose]()
        held = false
      },
    }
  }

  return {
    async next(bytes, claim) {
      const vessel = claim && claim.bytes >= bytes ? memory(bytes, claim, spare) : await file(ctx)
      if (!vessel.inMemory) claim?.[Symbol.dispose]()
      try {
        return await fill(vessel, bytes)
      } catch (error) {
        await vessel[Symbol.asyncDispose]()
        throw error
      }
    },
    async stop() {
      ended = true
      const stopped = iterator.return?.().then(
        () => {},
        () => {},
      )
      await (reading ? Promise.race([stopped, sleep(100)]) : stopped)
    },
  }
}

/** A part of bytes that are in memory anyway. */
export function wholePart(bytes: Uint8Array, digest: DigestKind): Part {
  const sum = digester(digest)
  sum.update(bytes)
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return {
    bytes: bytes.length,
    last: true,
    inMemory: true,
    digest: sum.headers(),
    body: () => buffer,
    async [Symbol.asyncDispose]() {},
  }
}

function memory(bytes: number, claim: Disposable, spare: Buffer[]): Vessel {
  // Pages that are never written to cost nothing: a small object does not pay for the whole part.
  const used = spare.pop()
  const buffer = used?.length === bytes ? used : Buffer.allocUnsafeSlow(bytes)
  let filled = 0
  return {
    inMemory: true,
    add(chunk) {
      buffer.set(chunk, filled)
      filled += chunk.length
    },
    body: length => buffer.subarray(0, length),
    async [Symbol.asyncDispose]() {
      claim[Symbol.dispose]()
      spare.push(buffer)
    },
  }
}

async function file(ctx: Context): Promise<Vessel> {
  const path = join(ctx.spool, `part-${randomUUID()}`)
  const handle = await open(path, 'wx+', 0o600)
  await unlink(path)
  let filled = 0
  return {
    inMemory: false,
    async add(chunk) {
      for (let at = 0; at < chunk.length; ) {
        const { bytesWritten } = await handle.write(chunk, at, chunk.length - at, filled)
        at += bytesWritten
        filled += bytesWritten
      }
    },
    body: length =>
      length === 0 ? Buffer.alloc(0) : Readable.from(contentOf(handle, length), { objectMode: false }),
    [Symbol.asyncDispose]: () => handle.close(),
  }
}

/** Not `createReadStream`: when that one is destroyed it closes the file, and a second attempt finds none. */
async function* contentOf(handle: FileHandle, length: number): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < length; ) {
    const { buffer, bytesRead } = await handle.read({
      buffer: Buffer.allocUnsafeSlow(Math.min(256 * 1024, length - at)),
      position: at,
    })
    if (bytesRead === 0) throw new Error('a temporary file became shorter')
    yield buffer.subarray(0, bytesRead)
    at += bytesRead
  }
}

function digester(kind: DigestKind): { update(chunk: Uint8Array): void; headers(): DigestHeaders } {
  if (kind === 'crc32') {
    let value = 0
    return {
      update(chunk) {
        value = crc32(chunk, value)
      },
      headers() {
        const bytes = Buffer.alloc(4)
        bytes.writeUInt32BE(value)
        return { ChecksumAlgorithm: 'CRC32', ChecksumCRC32: bytes.toString('base64') }
      },
    }
  }
  if (kind === 'md5') {
    const hash = createHash('md5')
    return {
      update: chunk => void hash.update(chunk),
      headers: () => ({ ContentMD5: hash.digest('base64') }),
    }
  }
  return { update() {}, headers: () => ({}) }
}
