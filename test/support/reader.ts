import { createReadStream } from 'node:fs'
import type { Context } from '../../src/model/context.ts'
import type { ArtifactRecord } from '../../src/model/manifest.ts'
import type { ArtifactReader } from '../../src/model/restore.ts'
import type { Bytes, Step } from '../../src/model/step.ts'
import { flow, pour } from '../../src/platform/flow.ts'

/** Where an artifact's plain bytes are: in memory, in a file, or made on demand. */
export type Kept = Uint8Array | string | (() => Bytes)

/** An ArtifactReader over bytes that were kept by the artifact's name. */
export function readerOver(kept: ReadonlyMap<string, Kept>, ctx: Context): ArtifactReader {
  const bytesOf = (artifact: ArtifactRecord): Bytes => {
    const found = kept.get(artifact.name)
    if (found === undefined) throw new Error(`no artifact ${artifact.name}`)
    if (typeof found === 'function') return found()
    return typeof found === 'string' ? createReadStream(found) : inChunks(found)
  }
  return {
    open: artifact => flow(bytesOf(artifact), [], ctx),
    into: (artifact, sink, framed, through: readonly Step[] = []) =>
      pour(bytesOf(artifact), through, sink, ctx, framed),
  }
}

/** Bytes as chunks of an awkward size. */
export async function* inChunks(bytes: Uint8Array, size = 100_003): Bytes {
  for (let at = 0; at < bytes.length; at += size) yield Uint8Array.from(bytes.subarray(at, at + size))
}

/** All bytes of a stream at once. */
export async function collect(bytes: Bytes): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of bytes) chunks.push(chunk)
  return Buffer.concat(chunks)
}
