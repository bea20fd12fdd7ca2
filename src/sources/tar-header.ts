/**
 * Headers of the tar format: ustar (POSIX.1-1988) and, where that is too small, the extended headers of
 * pax (POSIX.1-2001, https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html).
 */

const block = 512

/** What octal digits in 11 places can say: 8 GiB less one. */
const largestUstar = 0o77777777777

/** A regular file in an archive. */
export interface Member {
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
export function padding(bytes: number): Uint8Array {
  return new Uint8Array((block - (bytes % block)) % block)
}

/** Two blocks of zeros. */
export function archiveEnd(): Uint8Array {
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
