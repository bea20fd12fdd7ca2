import { NotWhole } from '../model/content.ts'
import type { Bytes } from '../model/step.ts'

// The tar format: ustar (POSIX.1-1988), the extended headers of pax (POSIX.1-2001,
// https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html) and what GNU tar has of its own.

const block = 512
/** No extended header is larger, whatever attributes and maps of holes it tells: it would be something else. */
const longestHeader = 16 * 1024 * 1024

/** What the block before a member says. */
interface TarHeader {
  readonly name: string
  /** Of what follows in the archive, without the padding. */
  readonly bytes: number
  readonly type: string
}

/** A member: a file, a folder, a link. */
interface TarMember extends TarHeader {
  /** Its bytes; whoever leaves them unread passes over them. */
  readonly body: Bytes
}

/** Null for a block of zeros, with which the members end. Throws NotWhole for what is no header. */
function tarHeader(header: Buffer): TarHeader | null {
  if (header.every(byte => byte === 0)) return null
  const sum = header.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 32 : byte), 0)
  if (octalIn(header, 148, 8) !== sum) throw new NotWhole('it is no tar')
  const isPosix = header.toString('latin1', 257, 263) === 'ustar\0'
  const prefix = isPosix ? textIn(header, 345, 155) : ''
  const name = textIn(header, 0, 100)
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    bytes: sizeIn(header),
    type: header.toString('latin1', 156, 157),
  }
}

/**
 * The members of a tar, in their order; each is read, or passed over, before the next. Holds one block at a time, and the
 * extended headers. Ends only when the input has ended and the archive had its end: throws NotWhole where it breaks off.
 */
export async function* tarMembers(input: Bytes): AsyncGenerator<TarMember, void, undefined> {
  const source = blocks(input)
  let said: { name?: string; bytes?: number } = {}
  let last = ''
  try {
    for (;;) {
      const first = await source.exactly(block)
      if (first === null) throw new NotWhole(`it breaks off ${last ? `after ${last}` : 'at its beginning'}`)
      const header = tarHeader(first)
      if (header === null) break
      if (isAbout(header.type)) {
        said = { ...said, ...(await saidBy(header, source)) }
        continue
      }
      const bytes = hasBytes(header.type) ? (said.bytes ?? header.bytes) : 0
      const name = said.name ?? header.name
      if (header.type === 'S') await sparseMaps(first, source, name)
      const body = source.body(bytes, name)
      yield { name, bytes, type: header.type, body: body.read() }
      for await (const _ of body.read());
      await source.padding(bytes, name)
      said = {}
      last = name
    }
    // What follows the end only fills up the archive.
    await source.drain()
  } finally {
    await source.close()
  }
}

/** Extended headers of one member (x) or all (g), and GNU's long names (L) and link targets (K). */
function isAbout(type: string): boolean {
  return ['x', 'g', 'L', 'K', 'X'].includes(type)
}

/** Links, devices and folders have no bytes, whatever their header says. */
function hasBytes(type: string): boolean {
  return !['1', '2', '3', '4', '5', '6'].includes(type)
}

/** What an extended header says of the member that follows. */
async function saidBy(
  { type, bytes }: TarHeader,
  source: Blocks,
): Promise<{ name?: string; bytes?: number }> {
  if (bytes > longestHeader) throw new NotWhole('it has an extended header that is far too long')
  const text = await source.exactly(bytes)
  if (text === null) throw new NotWhole('it breaks off in an extended header')
  await source.padding(bytes, 'an extended header')
  if (type === 'L') return { name: text.toString('utf8').replace(/\0.*$/s, '') }
  if (type !== 'x') return {}
  const records = recordsIn(text)
  const [name, size] = [records.get('path'), records.get('size')]
  return { ...(name === undefined ? {} : { name }), ...(size === undefined ? {} : { bytes: Number(size) }) }
}

/** `<length> <key>=<value>\n`, again and again; the length counts all of it. */
function recordsIn(header: Buffer): Map<string, string> {
  const records = new Map<string, string>()
  for (let at = 0; at < header.length; ) {
    const length = Number.parseInt(header.toString('latin1', at, at + 20), 10)
    if (!(length > 0) || at + length > header.length) throw new NotWhole('it has a broken extended header')
    const text = header.toString('utf8', at, at + length - 1)
    const key = text.slice(text.indexOf(' ') + 1, text.indexOf('='))
    records.set(key, text.slice(text.indexOf('=') + 1))
    at += length
  }
  return records
}

/** GNU's old format of files with holes: blocks with the rest of the map follow, as long as each says so. */
async function sparseMaps(header: Buffer, source: Blocks, name: string): Promise<void> {
  let goesOn = header[482] !== 0
  while (goesOn) {
    const map = await source.exactly(block)
    if (map === null) throw new NotWhole(`it breaks off in ${name}`)
    goesOn = map[504] !== 0
  }
}

function textIn(header: Buffer, at: number, width: number): string {
  const end = header.subarray(at, at + width).indexOf(0)
  return header.toString('utf8', at, end < 0 ? at + width : at + end)
}

/** The size of a member: octal digits, or where they do not suffice a number of base 256 (GNU). */
function sizeIn(header: Buffer): number {
  const bytes =
    ((header[124] ?? 0) & 0x80) === 0 ? octalIn(header, 124, 12) : Number(header.readBigUInt64BE(128))
  if (Number.isSafeInteger(bytes)) return bytes
  throw new NotWhole('it is no tar')
}

/** NaN for what is no number. */
function octalIn(header: Buffer, at: number, width: number): number {
  const digits = header.toString('latin1', at, at + width).replace(/^ +|[\0 ].*$/gs, '')
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN
}

type Blocks = ReturnType<typeof blocks>

/** The input, in as many bytes as are asked for. */
function blocks(input: Bytes) {
  const chunks = input[Symbol.asyncIterator]()
  let rest: Uint8Array = new Uint8Array()
  let ended = false
  /** At most so many bytes; null at the end. */
  const some = async (most: number): Promise<Uint8Array | null> => {
    while (rest.byteLength === 0 && !ended) {
      const { done, value } = await chunks.next()
      if (done) ended = true
      else rest = value
    }
    if (rest.byteLength === 0) return null
    const part = rest.subarray(0, most)
    rest = rest.subarray(part.byteLength)
    return part
  }
  /** Null when the input ends before. */
  const exactly = async (bytes: number): Promise<Buffer | null> => {
    const parts: Uint8Array[] = []
    for (let left = bytes; left > 0; ) {
      const part = await some(left)
      if (part === null) return null
      parts.push(part)
      left -= part.byteLength
    }
    return Buffer.concat(parts)
  }
  return {
    exactly,
    /** So many bytes; whoever reads again goes on where the last one has left off. */
    body(bytes: number, name: string) {
      let left = bytes
      return {
        async *read(): AsyncGenerator<Uint8Array, void, undefined> {
          while (left > 0) {
            const part = await some(left)
            if (part === null) throw new NotWhole(`it breaks off in ${name}`)
            left -= part.byteLength
            yield part
          }
        },
      }
    },
    async padding(bytes: number, name: string): Promise<void> {
      const fill = (block - (bytes % block)) % block
      if ((await exactly(fill)) === null) throw new NotWhole(`it breaks off in ${name}`)
    },
    async drain(): Promise<void> {
      while ((await some(Number.MAX_SAFE_INTEGER)) !== null);
    },
    async close(): Promise<void> {
      if (!ended) await chunks.return?.()
    },
  }
}
