import type { Bytes } from '../model/step.ts'

/** What a stream holds, as far as its first bytes tell. */
export type Format =
  | 'age'
  | 'armored age'
  | 'OpenPGP'
  | 'armored OpenPGP'
  | 'gzip'
  | 'zstd'
  | 'bzip2'
  | 'xz'
  | 'tar'
  | 'pg_dump'
  | 'SQLite'
  | 'SQL'

/** So many first bytes are enough for every format: the magic of tar stands at 257. */
export const headBytes = 512

const magics: readonly [format: Format, at: number, magic: string][] = [
  ['age', 0, 'age-encryption.org/'],
  ['armored age', 0, '-----BEGIN AGE ENCRYPTED FILE-----'],
  ['armored OpenPGP', 0, '-----BEGIN PGP MESSAGE-----'],
  ['gzip', 0, '\x1f\x8b\x08'],
  ['zstd', 0, '\x28\xb5\x2f\xfd'],
  ['bzip2', 0, 'BZh'],
  ['xz', 0, '\xfd7zXZ\0'],
  ['pg_dump', 0, 'PGDMP'],
  ['SQLite', 0, 'SQLite format 3\0'],
  ['tar', 257, 'ustar'],
]

/** The format that these first bytes of a stream are the beginning of; null when it is none of those known. */
export function detect(head: Uint8Array): Format | null {
  const text = Buffer.from(head.buffer, head.byteOffset, head.byteLength).toString('latin1')
  const found = magics.find(([, at, magic]) => text.startsWith(magic, at))
  if (found) return found[0]
  if (isOpenPgp(head)) return 'OpenPGP'
  return looksLikeSql(text) ? 'SQL' : null
}

/** An encrypted OpenPGP message begins with an encrypted session key: a packet of tag 1 or 3, of a version that exists. */
function isOpenPgp(head: Uint8Array): boolean {
  const [first = 0, second = 0] = head
  const isNew = (first & 0xc0) === 0xc0
  const tag = isNew ? first & 0x3f : (first >> 2) & 0x0f
  if ((first & 0x80) === 0 || (tag !== 1 && tag !== 3)) return false
  const lengthBytes = isNew ? (second < 192 ? 1 : second < 224 ? 2 : 5) : 1 << (first & 3)
  const version = head[1 + lengthBytes] ?? 0
  return tag === 1 ? version === 3 || version === 6 : version >= 4 && version <= 6
}

/** The first lines of what pg_dump, mysqldump, mariadb-dump and sqlite3 write, after comments or without. */
function looksLikeSql(text: string): boolean {
  return /^(\s|--[^\n]*\n|\/\*[\s\S]*?\*\/;?)*(--|\/\*|SET |CREATE |INSERT |DROP |BEGIN|PRAGMA |USE |COPY |\\(restrict|connect) )/i.test(
    text,
  )
}

/**
 * The first bytes of a stream, at least `count` unless it is shorter, and the whole of it, those included. Whoever does
 * not read `whole` to its end returns it.
 */
export async function peek(
  input: Bytes,
  count: number,
): Promise<{ head: Buffer; whole: AsyncIterableIterator<Uint8Array> & { return(): Promise<unknown> } }> {
  const chunks = input[Symbol.asyncIterator]()
  const seen: Uint8Array[] = []
  for (let length = 0; length < count; ) {
    const { done, value } = await chunks.next()
    if (done) break
    seen.push(value)
    length += value.length
  }
  const head = Buffer.concat(seen)
  const whole = {
    async next(): Promise<IteratorResult<Uint8Array, undefined>> {
      const value = seen.shift()
      if (value) return { done: false, value }
      const next = await chunks.next()
      return next.done ? { done: true, value: undefined } : next
    },
    async return(): Promise<{ done: true; value: undefined }> {
      await chunks.return?.()
      return { done: true, value: undefined }
    },
    [Symbol.asyncIterator]: () => whole,
  }
  return { head, whole }
}
