import type { Context } from '../model/context.ts'
import { Failure } from '../model/failure.ts'
import type { Bytes } from '../model/step.ts'
import { through } from './duplex.ts'

// Node 24's decoder stops after the first frame or fails, by how the chunks fall (nodejs/node#64741), and ignores
// what follows a frame. So frames are told apart here (RFC 8878, section 3.1), and each gets a decoder of its own.

const dataMagic = 0xfd2fb528
/** The last four bits of the magic number of a skippable frame are free. */
const skippableMagic = 0x184d2a50
const reservedBlock = 3
const rleBlock = 1

/** A part of a data frame. Its first piece is the magic number, so a frame has at least two. */
interface Piece {
  readonly bytes: Uint8Array
  /** True for the last piece of a frame. */
  readonly ends: boolean
}

/** What a frame's grammar needs before it can go on: so many bytes, to be looked at or only counted. */
interface Want {
  readonly bytes: number
  readonly look: boolean
}

/**
 * Cuts a stream into Zstandard frames, by their headers alone: the content is for a decoder to judge, which sees
 * every byte of a data frame. Skippable frames are left out. Frames without a checksum are accepted, they are legal.
 */
class FrameCutter {
  #grammar = this.#frame()
  #want = next(this.#grammar)
  readonly #seen = new DataView(new ArrayBuffer(4))
  #have = 0
  #frames = 0
  #inside: 'nothing' | 'data' | 'skippable' = 'nothing'

  /** Call it at the end of the stream. Throws a Failure when that is not the end of a frame, or there was none. */
  finish(): void {
    if (this.#inside !== 'nothing' || this.#have > 0) throw failed('it ends in the middle of a frame')
    if (this.#frames === 0) throw failed('it is empty')
  }

  /** Pieces are views of the chunk. Throws a Failure where a frame should begin and does not. */
  *cut(chunk: Uint8Array): Generator<Piece, void, undefined> {
    let from = 0
    let at = 0
    while (at < chunk.length) {
      at += this.#take(chunk.subarray(at))
      if (this.#have < this.#want.bytes) break
      const before = this.#inside
      const isWhole = this.#advance()
      if (before === 'nothing') {
        // The magic number may have come in several chunks, and was held back until it was known.
        if (this.#inside === 'data') yield { bytes: new Uint8Array(this.#seen.buffer.slice(0)), ends: false }
        from = at
      }
      if (isWhole) {
        if (before === 'data') yield { bytes: chunk.subarray(from, at), ends: true }
        from = at
      }
    }
    if (this.#inside === 'data' && from < at) yield { bytes: chunk.subarray(from, at), ends: false }
  }

  /** Takes what is wanted from the beginning of the bytes, as far as they go. */
  #take(bytes: Uint8Array): number {
    const count = Math.min(this.#want.bytes - this.#have, bytes.length)
    if (this.#want.look) {
      for (let i = 0; i < count; i++) this.#seen.setUint8(this.#have + i, bytes[i] ?? 0)
    }
    this.#have += count
    return count
  }

  /** Lets the grammar go on with what it wanted; true when that was the last of a frame. */
  #advance(): boolean {
    this.#have = 0
    const { done, value } = this.#grammar.next(this.#seen)
    if (!done) {
      this.#want = value
      return false
    }
    this.#frames += 1
    this.#inside = 'nothing'
    this.#grammar = this.#frame()
    this.#want = next(this.#grammar)
    return true
  }

  *#frame(): Generator<Want, void, DataView> {
    const magic = (yield look(4)).getUint32(0, true)
    if (magic >>> 4 === skippableMagic >>> 4) {
      this.#inside = 'skippable'
      yield* pass((yield look(4)).getUint32(0, true))
    } else if (magic === dataMagic) {
      this.#inside = 'data'
      yield* dataFrame()
    } else {
      throw failed(this.#frames === 0 ? 'it is not in zstd format' : 'something else follows after a frame')
    }
  }
}

function* dataFrame(): Generator<Want, void, DataView> {
  const descriptor = (yield look(1)).getUint8(0)
  yield* pass(headerBytes(descriptor))
  for (let isLast = false; !isLast; ) {
    const header = yield look(3)
    const block = header.getUint16(0, true) | (header.getUint8(2) << 16)
    isLast = (block & 1) === 1
    const type = (block >>> 1) & 3
    if (type === reservedBlock) throw failed('a block has a type that does not exist')
    yield* pass(type === rleBlock ? 1 : block >>> 3)
  }
  const hasChecksum = (descriptor & 0b100) !== 0
  if (hasChecksum) yield* pass(4)
}

/** The bytes of a frame header after its descriptor: window, dictionary and content size (section 3.1.1.1). */
function headerBytes(descriptor: number): number {
  const isSingleSegment = (descriptor & 0b100000) !== 0
  const window = isSingleSegment ? 0 : 1
  const dictionary = [0, 1, 2, 4][descriptor & 0b11] ?? 0
  const contentSize = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >>> 6] ?? 0
  return window + dictionary + contentSize
}

function look(bytes: number): Want {
  return { bytes, look: true }
}

function* pass(bytes: number): Generator<Want, void, DataView> {
  if (bytes > 0) yield { bytes, look: false }
}

function next(grammar: Generator<Want, void, DataView>): Want {
  const { done, value } = grammar.next()
  if (done) throw new Error('a frame wants its magic number first')
  return value
}

function failed(why: string): Failure {
  return new Failure({ what: 'zstd failed', why })
}

/**
 * The plain bytes of any number of frames, whatever their window. Throws a Failure for an empty or truncated stream,
 * for a frame that its decoder refuses, and for anything that is no frame.
 */
export async function* decodeFrames(
  input: Bytes,
  { signal }: Pick<Context, 'signal'>,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { constants, createZstdDecompress } = await import('node:zlib')
  const params = { [constants.ZSTD_d_windowLogMax]: 31 }
  const pieces = piecesOf(input)
  try {
    for (;;) {
      const { done, value } = await pieces.next()
      if (done) return
      const decoder = createZstdDecompress({ chunkSize: 128 * 1024, params })
      yield* through(decoder, oneFrame(value, pieces), signal)
    }
  } catch (error) {
    throw isZlibError(error) ? new Failure({ what: 'zstd failed', why: error.message, cause: error }) : error
  } finally {
    await pieces.return()
  }
}

async function* piecesOf(input: Bytes): AsyncGenerator<Piece, void, undefined> {
  const cutter = new FrameCutter()
  for await (const chunk of input) yield* cutter.cut(chunk)
  cutter.finish()
}

/** Takes the rest of a frame, and no more: `pieces` is not returned. */
async function* oneFrame(first: Piece, pieces: AsyncGenerator<Piece, void, undefined>) {
  yield first.bytes
  for (let ends = first.ends; !ends; ) {
    const { done, value } = await pieces.next()
    if (done) return
    ends = value.ends
    yield value.bytes
  }
}

function isZlibError(error: unknown): error is Error {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return /^Z(STD)?_/.test(code)
}
