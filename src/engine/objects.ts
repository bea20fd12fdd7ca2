import type { Bytes } from '../model/step.ts'

/** All of a small object in memory. Throws when it is larger than the limit: whoever wrote it, it is not ours. */
export async function collect(bytes: Bytes, limit = 1024 * 1024): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of bytes) {
    size += chunk.byteLength
    if (size > limit) throw new Error(`it is larger than ${limit} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
