/** CRC-64 with the polynomial of ECMA-182, reflected (as in xz and Go's crc64.ECMA), in halves: JavaScript has no fast 64-bit numbers. */
const polynomial = { high: 0xc96c5795, low: 0xd7870f42 }

/** Eight tables, so that eight bytes are taken in one step ("slicing by 8"). */
const high = new Int32Array(8 * 256)
const low = new Int32Array(8 * 256)
fill()

function fill(): void {
  for (let byte = 0; byte < 256; byte++) {
    let [h, l] = [0, byte]
    for (let bit = 0; bit < 8; bit++) {
      const odd = (l & 1) === 1
      l = (l >>> 1) | (h << 31)
      h >>>= 1
      if (odd) [h, l] = [h ^ polynomial.high, l ^ polynomial.low]
    }
    high[byte] = h
    low[byte] = l
  }
  for (let at = 256; at < 8 * 256; at++) {
    const [h, l] = [high[at - 256] ?? 0, low[at - 256] ?? 0]
    high[at] = (h >>> 8) ^ (high[l & 255] ?? 0)
    low[at] = ((l >>> 8) | (h << 24)) ^ (low[l & 255] ?? 0)
  }
}

/** The running checksum of one collection's documents. */
export class Crc64 {
  #high = -1
  #low = -1

  update(bytes: Uint8Array): void {
    let [h, l] = [this.#high, this.#low]
    const whole = bytes.length - (bytes.length % 8)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    for (let at = 0; at < whole; at += 8) {
      const a = l ^ view.getInt32(at, true)
      const b = h ^ view.getInt32(at + 4, true)
      h = take(high, a, b)
      l = take(low, a, b)
    }
    for (let at = whole; at < bytes.length; at++) {
      const index = (l ^ (bytes[at] ?? 0)) & 255
      l = ((l >>> 8) | (h << 24)) ^ (low[index] ?? 0)
      h = (h >>> 8) ^ (high[index] ?? 0)
    }
    ;[this.#high, this.#low] = [h, l]
  }

  /** As BSON keeps it: a signed 64-bit number. */
  value(): bigint {
    const [h, l] = [BigInt(~this.#high >>> 0), BigInt(~this.#low >>> 0)]
    return BigInt.asIntN(64, (h << 32n) | l)
  }
}

/** What eight bytes, as two words, come to in one half. */
function take(table: Int32Array, a: number, b: number): number {
  return (
    (table[1792 + (a & 255)] as number) ^
    (table[1536 + ((a >>> 8) & 255)] as number) ^
    (table[1280 + ((a >>> 16) & 255)] as number) ^
    (table[1024 + (a >>> 24)] as number) ^
    (table[768 + (b & 255)] as number) ^
    (table[512 + ((b >>> 8) & 255)] as number) ^
    (table[256 + ((b >>> 16) & 255)] as number) ^
    (table[b >>> 24] as number)
  )
}
