import { damage, type Failure } from '../../model/failure.ts'
import type { Bytes } from '../../model/step.ts'

/**
 * A piece of a dump: a statement with its semicolon; a comment; or a block, which is everything from `DELIMITER ;;` to
 * `DELIMITER ;`. A long INSERT comes in several parts, everything else whole.
 */
export interface Piece {
  readonly kind: 'statement' | 'comment' | 'block'
  readonly bytes: Buffer
  readonly isFirst: boolean
  readonly isLast: boolean
}

/** The first part of an INSERT has at least this much, so that it holds the name of the table. */
const partBytes = 64 * 1024
/** Those of ours once held all that an account may do. */
const longestComment = 16 * 1024 * 1024
/** No definition is longer: it would be something else. */
const longest = 64 * 1024 * 1024

const [quote, doubleQuote, backtick, semicolon, slash, backslash, newline] = [39, 34, 96, 59, 47, 92, 10]
/** The characters that mean something in a statement, outside of quotes. */
const marks = new Uint8Array(256)
for (const mark of [quote, doubleQuote, backtick, semicolon, slash]) marks[mark] = 1

const blockStart = Buffer.from('DELIMITER ;;')
/** With what ends the statement before it: a body may hold a line that reads `DELIMITER ;`. */
const blockEnd = Buffer.from(';;\nDELIMITER ;\n')

/**
 * Takes what mariadb-dump and mysqldump write apart, in bounded memory, by their quotes and comments as the server reads
 * them. Throws a Failure for what is not the beginning of a statement, and for a script that ends within one.
 */
export async function* pieces(input: Bytes): AsyncGenerator<Piece, void, undefined> {
  const splitter = new Splitter()
  for await (const chunk of input)
    yield* splitter.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
  yield* splitter.push(Buffer.alloc(0), true)
  splitter.end()
}

type State = 'between' | 'code' | 'comment' | 'block' | typeof quote | typeof doubleQuote | typeof backtick

class Splitter {
  #state: State = 'between'
  /** What was not looked at yet, because what follows decides what it is. */
  #rest: Buffer = Buffer.alloc(0)
  /** The statement so far. */
  #held: Buffer[] = []
  #heldBytes = 0
  #isFirst = true

  end(): void {
    if (this.#state !== 'between' || this.#rest.length > 0) throw unreadable('it ends within a statement')
  }

  *push(chunk: Buffer, isEnd = false): Generator<Piece, void, undefined> {
    const data = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk
    let at = 0
    /** Where the part of the current statement begins that is in this data. */
    let from = 0
    for (;;) {
      if (this.#state === 'between') {
        at = afterSpace(data, at)
        from = at
        const [kind, end] = beginning(data, at, isEnd)
        if (kind === 'wait') break
        if (kind === 'code' || kind === 'block') this.#state = kind
        else if (kind === 'comment') yield whole('comment', data.subarray(at, end))
        at = end
      } else if (this.#state === 'block') {
        const end = data.indexOf(blockEnd, at)
        if (end < 0) {
          at = Math.max(at, data.length - blockEnd.length)
          break
        }
        at = end + blockEnd.length
        yield this.#close('block', data.subarray(from, at))
      } else if (this.#state === 'code') {
        at = nextMark(data, at)
        if (at >= data.length) break
        const mark = data[at] as number
        if (mark === semicolon) {
          at++
          yield this.#close('statement', data.subarray(from, at))
        } else if (mark === slash) {
          if (at + 3 > data.length && !isEnd) break
          const isComment = data[at + 1] === 42 && data[at + 2] !== 33 && data[at + 2] !== 77
          if (isComment) this.#state = 'comment'
          at += isComment ? 2 : 1
        } else {
          this.#state = mark as State
          at++
        }
      } else if (this.#state === 'comment') {
        const end = data.indexOf('*/', at)
        if (end < 0) {
          at = Math.max(at, data.length - 1)
          break
        }
        at = end + 2
        this.#state = 'code'
      } else {
        const end = endOfQuoted(data, at, this.#state as number)
        at = Math.min(end, data.length)
        // A backslash may stand at the end of the data: what it escapes comes next.
        if (end < 0 || end > data.length) {
          at = lastWhole(data, from, this.#state as number, at)
          break
        }
        this.#state = 'code'
      }
    }
    if (this.#state !== 'between') yield* this.#keep(data.subarray(from, at))
    this.#rest = Buffer.from(data.subarray(at))
  }

  /** Keeps a part of an unfinished statement, or gives it away when it is rows. */
  *#keep(part: Buffer): Generator<Piece, void, undefined> {
    if (part.length === 0) return
    this.#held.push(Buffer.from(part))
    this.#heldBytes += part.length
    if (this.#heldBytes < partBytes) return
    const first = this.#held[0] as Buffer
    if (!this.#isFirst || /^(INSERT|REPLACE)\b/.test(first.toString('latin1', 0, 16))) {
      const bytes = Buffer.concat(this.#held)
      yield { kind: 'statement', bytes, isFirst: this.#isFirst, isLast: false }
      this.#held = []
      this.#heldBytes = 0
      this.#isFirst = false
    } else if (this.#heldBytes > longest) throw unreadable('a statement has no end')
  }

  #close(kind: 'statement' | 'block', part: Buffer): Piece {
    const bytes = this.#held.length > 0 ? Buffer.concat([...this.#held, part]) : Buffer.from(part)
    const piece: Piece = { kind, bytes, isFirst: this.#isFirst, isLast: true }
    this.#state = 'between'
    this.#held = []
    this.#heldBytes = 0
    this.#isFirst = true
    return piece
  }
}

function whole(kind: Piece['kind'], bytes: Buffer): Piece {
  return { kind, bytes: Buffer.from(bytes), isFirst: true, isLast: true }
}

function afterSpace(data: Buffer, from: number): number {
  let at = from
  for (let byte = data[at]; byte === 32 || byte === newline || byte === 9 || byte === 13; byte = data[at])
    at++
  return at
}

/** What begins here, and where its inside does, or where it ends if it is a comment. */
function beginning(
  data: Buffer,
  at: number,
  isEnd: boolean,
): ['wait' | 'code' | 'block' | 'comment' | 'nothing', number] {
  const left = data.length - at
  if (left < 16 && !isEnd) return ['wait', at]
  if (left === 0) return ['wait', at]
  const text = data.toString('latin1', at, at + 24)
  if (text.startsWith('--')) {
    const end = data.indexOf(newline, at)
    if (end >= 0) return ['comment', end + 1]
    if (left > longestComment) throw unreadable('a comment has no end')
    return isEnd ? ['comment', data.length] : ['wait', at]
  }
  // Tells MariaDB's client that it may trust nobody; MySQL's and older ones refuse it, and ours runs no commands anyway.
  if (/^\/\*M?!999999/.test(text)) {
    const end = data.indexOf('*/', at)
    return end < 0 ? ['wait', at] : ['nothing', end + 2]
  }
  if (text.startsWith('DELIMITER ;;')) return ['block', at + blockStart.length]
  if (!/^(\/\*M?!|[A-Za-z])/.test(text))
    throw unreadable(`it holds what is no statement: ${JSON.stringify(text)}`)
  return ['code', at]
}

function nextMark(data: Buffer, from: number): number {
  let at = from
  while (at < data.length && marks[data[at] as number] === 0) at++
  return at
}

/** The place after the closing quote; beyond the data when it is not there. Backslashes escape, but not in names. */
function endOfQuoted(data: Buffer, from: number, closing: number): number {
  for (let at = from; at < data.length; at++) {
    const byte = data[at]
    if (byte === closing) return at + 1
    if (byte === backslash && closing !== backtick) at++
  }
  return -1
}

/** Up to where the data can be given away without tearing a backslash from what it escapes. */
function lastWhole(data: Buffer, from: number, closing: number, _at: number): number {
  if (closing === backtick) return data.length
  let backslashes = 0
  for (let at = data.length - 1; at >= from && data[at] === backslash; at--) backslashes++
  return backslashes % 2 === 1 ? data.length - 1 : data.length
}

export function unreadable(why: string): Failure {
  return damage(
    'cannot restore',
    `the dump is not as mariadb-dump or mysqldump write it: ${why}`,
    'restore by hand what can be read: cairn cat writes it out',
  )
}
