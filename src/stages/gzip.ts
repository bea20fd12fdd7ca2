import { availableParallelism } from 'node:os'
import * as z from 'zod'
import type { Context } from '../model/context.ts'
import { Failure } from '../model/failure.ts'
import type { Bytes, Program, Stage, Transform } from '../model/step.ts'
import { findProgram } from '../platform/program.ts'
import { through } from './duplex.ts'

export const GzipOptions = z.strictObject({
  level: z.int().min(1).max(9).default(6).describe('1 is fast, 9 is small; igzip is used up to 6'),
})
export type GzipOptions = z.infer<typeof GzipOptions>

type Writer = 'igzip' | 'pigz' | 'gzip' | 'library'

/** What igzip writes at its level 1 is as small as gzip's level 6; its levels 2 and 3 are slower, and hardly smaller. */
const igzipReaches = 6

/**
 * gzip (RFC 1952): one member, without a name. The fastest program at hand writes it: igzip (Debian's isal) is seven
 * times as fast as gzip, then pigz, then gzip; without any of them node:zlib does.
 *
 * It is always read by node:zlib, twice as fast as `gzip -d`: any number of members, and NULs after the last, which is
 * how aespipe pads. igzip and pigz would do, but end well when garbage follows.
 */
export function gzipStage(
  options: GzipOptions = GzipOptions.parse({}),
  writer: Writer = writerFor(options),
): Stage {
  return {
    name: 'gzip',
    suffix: '.gz',
    facts: { level: options.level, by: writer === 'library' ? 'zlib' : writer },
    encrypts: false,
    encode: () => (writer === 'library' ? compressTransform(options) : compressProgram(writer, options)),
    decode: () => decompressTransform,
    undo: 'gzip -d',
  }
}

function writerFor({ level }: GzipOptions): Writer {
  const programs = level <= igzipReaches ? (['igzip', 'pigz', 'gzip'] as const) : (['pigz', 'gzip'] as const)
  return programs.find(program => findProgram(program) !== null) ?? 'library'
}

function compressProgram(program: Exclude<Writer, 'library'>, { level }: GzipOptions): Program {
  if (program === 'igzip') return { program, args: ['-1', '-c'] }
  const threads = program === 'pigz' ? ['-p', String(Math.min(availableParallelism(), 4))] : []
  return { program, args: [`-${level}`, '-n', '-c', ...threads] }
}

function compressTransform({ level }: GzipOptions): Transform {
  return { name: 'gzip', run: (input, ctx) => compress(input, level, ctx) }
}

async function* compress(input: Bytes, level: number, { signal }: Context) {
  const { createGzip } = await import('node:zlib')
  yield* through(createGzip({ level, chunkSize: 128 * 1024 }), input, signal)
}

const decompressTransform: Transform = { name: 'gzip', run: decompress }

async function* decompress(input: Bytes, { signal }: Context) {
  const { createGunzip } = await import('node:zlib')
  const gunzip = createGunzip({ chunkSize: 128 * 1024 })
  const end = new EndWithoutNuls()
  // What it is given after its end may be an error to it, which nobody would take then.
  gunzip.on('error', () => {})
  try {
    yield* through(gunzip, end.watch(input), signal)
  } catch (error) {
    throw isZlibError(error) ? failed(error.message, error) : error
  }
  // It stops at the first NUL after a member, and says nothing of what comes after that.
  if (gunzip.bytesWritten < end.at) throw failed('something else follows after its end')
}

/** Where a stream ends when NULs at its end do not count. */
class EndWithoutNuls {
  at = 0
  #passed = 0

  async *watch(input: Bytes) {
    for await (const chunk of input) {
      const last = chunk.findLastIndex(byte => byte !== 0)
      if (last >= 0) this.at = this.#passed + last + 1
      this.#passed += chunk.length
      yield chunk
    }
  }
}

function failed(why: string, cause?: unknown): Failure {
  return new Failure({ what: 'gzip failed', why, cause })
}

function isZlibError(error: unknown): error is Error {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return code.startsWith('Z_')
}
