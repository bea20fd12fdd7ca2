import type { FileHandle } from 'node:fs/promises'
import type { Context } from '../../model/context.ts'
import type { Bytes } from '../../model/step.ts'
import { untilAborted } from '../../platform/until-aborted.ts'
import { telling } from './error.ts'

/** Handed to the kernel at once. */
const batchBytes = 1024 * 1024
const batchChunks = 4096
/** More chunks than this in a batch are cheaper copied together than described one by one. */
const vectorChunks = 32
/** Flushed while the next bytes come, so that the flush at the end is short. */
const syncBytes = 64 * 1024 * 1024

/**
 * Writes the body to the file and flushes it to the disk; returns how many bytes it was. Throws what the body
 * throws, the reason of an abort (also while the body hangs), or a Failure of the disk; no write is then under way.
 */
export async function pour(
  handle: FileHandle,
  body: Bytes | Uint8Array,
  what: string,
  ctx: Context,
): Promise<number> {
  const batches = new Batches(handle)
  try {
    if (body instanceof Uint8Array) await telling(what, () => batches.push(body))
    else {
      for await (const chunk of untilAborted(body, ctx.signal)) await telling(what, () => batches.push(chunk))
    }
    await telling(what, () => batches.end())
    return batches.bytes
  } finally {
    await batches.settle()
  }
}

/** Writes one batch while the next is gathered, so at most two are in memory. An error shows at the next call. */
class Batches {
  bytes = 0
  readonly #handle: FileHandle
  #chunks: Uint8Array[] = []
  #held = 0
  #unsynced = 0
  #writing: Promise<void> = Promise.resolve()
  #syncing: Promise<void> = Promise.resolve()

  constructor(handle: FileHandle) {
    this.#handle = handle
  }

  async push(chunk: Uint8Array): Promise<void> {
    if (chunk.byteLength === 0) return
    this.#chunks.push(chunk)
    this.#held += chunk.byteLength
    this.bytes += chunk.byteLength
    if (this.#held >= batchBytes || this.#chunks.length >= batchChunks) await this.#flush()
  }

  /** On return every byte is on the disk. */
  async end(): Promise<void> {
    await this.#flush()
    await this.#writing
    await this.#syncing
    await this.#handle.sync()
  }

  /** On return nothing is under way any more. */
  async settle(): Promise<void> {
    await Promise.allSettled([this.#writing, this.#syncing])
  }

  async #flush(): Promise<void> {
    await this.#writing
    this.#writing = writeAll(this.#handle, this.#chunks)
    this.#writing.catch(() => {})
    this.#unsynced += this.#held
    this.#chunks = []
    this.#held = 0
    if (this.#unsynced < syncBytes) return
    await this.#syncing
    this.#unsynced = 0
    this.#syncing = this.#handle.datasync()
    this.#syncing.catch(() => {})
  }
}

async function writeAll(handle: FileHandle, chunks: readonly Uint8Array[]): Promise<void> {
  let left = chunks.length > vectorChunks ? [Buffer.concat(chunks)] : chunks
  while (left.length > 0) {
    const { bytesWritten } = await handle.writev(left)
    // A disk that fills up takes a part first, and says why only when asked again.
    left = without(left, bytesWritten)
  }
}

/** What remains of the chunks after so many bytes. */
function without(chunks: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let skip = bytes
  for (const [n, chunk] of chunks.entries()) {
    if (skip < chunk.byteLength) return [chunk.subarray(skip), ...chunks.slice(n + 1)]
    skip -= chunk.byteLength
  }
  return []
}
