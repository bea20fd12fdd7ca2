import { availableParallelism } from 'node:os'
import * as z from 'zod'
import type { Context } from '../model/context.ts'
import type { Bytes, Program, Stage, Step, Transform } from '../model/step.ts'
import { findProgram } from '../platform/program.ts'
import { through } from './duplex.ts'
import { decodeFrames } from './zstd-frames.ts'

export const ZstdOptions = z.strictObject({
  level: z.int().min(1).max(19).default(1).describe('1 is fast, 19 is small'),
  threads: z.int().min(1).max(64).optional().describe('by default as many as there are cores, at most 4'),
})
export type ZstdOptions = z.infer<typeof ZstdOptions>

/**
 * Zstandard (RFC 8878), with its checksum. The `zstd` program does the work; without it node:zlib does, on one core,
 * so that nothing has to be installed to begin with. Each reads what the other wrote,
 * and any number of frames with any window: a frame says how much memory its decoding takes, up to 2 GiB if
 * somebody made it with `--long=31`, 8 MiB at most if we did.
 */
export function zstdStage(
  options: ZstdOptions = ZstdOptions.parse({}),
  implementation: 'program' | 'library' = findProgram('zstd') ? 'program' : 'library',
): Stage {
  const byProgram = implementation === 'program'
  return {
    name: 'zstd',
    suffix: '.zst',
    facts: { frames: 'many', level: options.level },
    encrypts: false,
    encode: () => (byProgram ? compressProgram(options) : compressTransform(options)),
    decode: (): Step => (byProgram ? decompressProgram : decompressTransform),
    undo: 'zstd -d',
  }
}

function compressProgram({ level, threads = Math.min(availableParallelism(), 4) }: ZstdOptions): Program {
  return { program: 'zstd', args: ['-q', '-c', `-${level}`, `-T${threads}`] }
}

/** `--long=31` accepts any window. Never with `-f`, which lets through whatever is not zstd. */
const decompressProgram: Program = { program: 'zstd', args: ['-d', '-q', '-c', '--long=31'] }

function compressTransform({ level }: ZstdOptions): Transform {
  return { name: 'zstd', run: (input, ctx) => compress(input, level, ctx) }
}

async function* compress(
  input: Bytes,
  level: number,
  { signal }: Context,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { constants, createZstdCompress } = await import('node:zlib')
  // Never ZSTD_c_nbWorkers: Node 24 then truncates or fails beyond a few MB (nodejs/node#59899).
  const params = { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 }
  yield* through(createZstdCompress({ chunkSize: 128 * 1024, params }), input, signal)
}

const decompressTransform: Transform = { name: 'zstd', run: decodeFrames }
