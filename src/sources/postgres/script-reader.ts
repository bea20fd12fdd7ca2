import { damage, Failure } from '../../model/failure.ts'
import type { Bytes } from '../../model/step.ts'

/** What a script of pg_dump or pg_dumpall consists of. The bytes are as they stand in it. */
export type Piece =
  /** `words`: its first bare words, in capitals. */
  | { readonly kind: 'statement'; readonly bytes: Buffer; readonly words: readonly string[] }
  /** Rows of the COPY before, `\.` included; in pieces of any size. */
  | { readonly kind: 'data'; readonly bytes: Buffer }
  /** `\connect`. */
  | { readonly kind: 'connect'; readonly database: string }

const fewWords = 8
const dataEnd = Buffer.from('\n\\.\n')

/**
 * Takes a script apart, as psql would read it, and throws a Failure for every command of psql's own but those that
 * pg_dump writes: a dump must not run programs here. `\restrict` and `\unrestrict` are left out. Comments are left out too,
 * but for the last one, which must say that the dump is complete: else the script was cut off, and that is damage.
 */
export async function* readScript(bytes: Bytes, name: string): AsyncGenerator<Piece, void, undefined> {
  const scanner = new Scanner(name)
  for await (const chunk of bytes) yield* scanner.take(chunk)
  yield* scanner.finish()
}

/** The text holds only the beginning of what stands here. */
class Incomplete extends Error {}

class Scanner {
  #held: Buffer = Buffer.alloc(0)
  #inData = false
  /** The rows of a COPY may end with their very first line. */
  #atLineStart = false
  #tryAt = 0
  #complete = false
  #standardStrings = true
  readonly #name: string

  constructor(name: string) {
    this.#name = name
  }

  *take(chunk: Uint8Array): Generator<Piece> {
    this.#held = this.#held.length > 0 ? Buffer.concat([this.#held, chunk]) : Buffer.from(chunk)
    if (this.#held.length < this.#tryAt) return
    yield* this.#pieces(false)
    // What is not whole yet is not looked at again for every few bytes.
    this.#tryAt = this.#inData ? 0 : this.#held.length * 2
  }

  *finish(): Generator<Piece> {
    yield* this.#pieces(true)
    if (this.#complete && !this.#inData && this.#held.length === 0) return
    throw damage(
      `${this.#name} is not whole`,
      'it does not end as a dump of pg_dump does',
      'restore another backup',
    )
  }

  *#pieces(atEnd: boolean): Generator<Piece> {
    for (;;) {
      const before = this.#held.length
      if (this.#inData) yield* this.#data()
      else yield* this.#statements(atEnd)
      if (this.#held.length === before || this.#held.length === 0) return
    }
  }

  *#data(): Generator<Piece> {
    if (this.#atLineStart && this.#held.length < 3) return
    const first = this.#atLineStart && this.#held.subarray(0, 3).equals(dataEnd.subarray(1))
    const at = first ? -1 : this.#held.indexOf(dataEnd)
    const found = first || at >= 0
    const end = found ? at + dataEnd.length : this.#held.length - (dataEnd.length - 1)
    if (end <= 0) return
    yield { kind: 'data', bytes: this.#held.subarray(0, end) }
    this.#held = this.#held.subarray(end)
    this.#atLineStart = false
    if (found) this.#inData = false
  }

  *#statements(atEnd: boolean): Generator<Piece> {
    const text = this.#held.toString('latin1')
    let start = 0
    try {
      while (!this.#inData) {
        const piece = this.#next(text, start, atEnd)
        start = piece.end
        if (piece.found) yield piece.found
        if (piece.over) break
      }
    } catch (error) {
      if (!(error instanceof Incomplete)) throw error
    }
    this.#held = this.#held.subarray(start)
  }

  /** The next piece, or none where there is only a command that is left out. Throws Incomplete where the text ends too early. */
  #next(text: string, from: number, atEnd: boolean): { end: number; found?: Piece; over?: boolean } {
    const start = this.#skip(text, from, atEnd)
    if (start >= text.length) return { end: start, over: true }
    if (text[start] === '\\') return this.#command(text, start)
    const { end, words, copies } = scanStatement(text, start, this.#standardStrings)
    const bytes = this.#held.subarray(start, end)
    this.#complete = false
    if (words[0] === 'SET' && words[1] === 'STANDARD_CONFORMING_STRINGS')
      this.#standardStrings = !/=\s*'?off/i.test(text.slice(start, end))
    if (!copies) return { end, found: { kind: 'statement', bytes, words } }
    // psql takes the rows from the next line on.
    if (end >= text.length) throw new Incomplete()
    if (text[end] !== '\n') throw strange(this.#name, 'something follows a COPY on its line')
    this.#inData = true
    this.#atLineStart = true
    return { end: end + 1, found: { kind: 'statement', bytes: this.#held.subarray(start, end + 1), words } }
  }

  /** Past white space and comments, looking for the one that says that the dump is complete. */
  #skip(text: string, from: number, atEnd: boolean): number {
    for (let at = from; ; ) {
      space.lastIndex = at
      at += space.exec(text)?.[0].length ?? 0
      if (text.startsWith('--', at)) {
        const end = text.indexOf('\n', at)
        if (end < 0 && !atEnd) throw new Incomplete()
        const comment = text.slice(at, end < 0 ? text.length : end)
        if (/^-- PostgreSQL database (cluster )?dump complete\s*$/.test(comment)) this.#complete = true
        at = end < 0 ? text.length : end
      } else if (text.startsWith('/*', at)) at = afterComment(text, at)
      else return at
    }
  }

  #command(text: string, start: number): { end: number; found?: Piece } {
    const end = text.indexOf('\n', start)
    if (end < 0) throw new Incomplete()
    const line = text.slice(start, end).trimEnd()
    // What follows a connect sets the encoding itself.
    if (/^\\((un)?restrict|encoding) \w+$/.test(line)) return { end }
    const database = /^\\connect (.+)$/.exec(line)?.[1]
    if (database === undefined) throw strange(this.#name, `it holds a command to psql: ${line.slice(0, 80)}`)
    this.#complete = false
    return { end, found: { kind: 'connect', database: connectName(database, this.#name) } }
  }
}

/** `shop`, `"Odd ""one"""`, or `-reuse-previous=on "dbname='host=evil'"`: what pg_dump makes of a name (appendPsqlMetaConnect). */
function connectName(argument: string, script: string): string {
  const utf8 = (text: string): string => Buffer.from(text, 'latin1').toString('utf8')
  const unquoted = (text: string): string | undefined =>
    /^"(?:[^"]|"")*"$/.test(text) ? text.slice(1, -1).replaceAll('""', '"') : undefined
  if (/^[\w.]+$/.test(argument)) return argument
  const reuse = /^-reuse-previous=on (".*")$/.exec(argument)?.[1]
  const plain = unquoted(reuse ?? argument)
  const named = reuse === undefined ? plain : /^dbname='((?:[^'\\]|\\.)*)'$/.exec(plain ?? '')?.[1]
  if (named === undefined) throw strange(script, `it connects to something else: ${argument.slice(0, 80)}`)
  return utf8(reuse === undefined ? named : named.replace(/\\(.)/g, '$1'))
}

function strange(name: string, why: string): Failure {
  return new Failure({
    what: `cannot restore ${name}`,
    why,
    remedy:
      'pg_dump writes no such thing: look at the script (cairn cat), and restore it by hand if you trust it',
  })
}

const space = /\s*/y
/** Nothing of these matters: runs of them are passed over at once. */
const dull = /[^'"$\\;/\-()A-Za-z_\x80-\xff]+/y
const word = /[A-Za-z_\x80-\xff][\w$\x80-\xff]*/y
const dollar = /\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$/y
const plainString = /'[^']*'/y
const escapeString = /'[^'\\]*(?:\\[\s\S][^'\\]*)*'/y

interface Scanned {
  /** After the semicolon. */
  readonly end: number
  readonly words: readonly string[]
  /** It is a COPY … FROM stdin. */
  readonly copies: boolean
}

/** As psql finds the end of a statement (PostgreSQL source, psqlscan.l): not in quotes, parentheses, or a body of SQL. */
function scanStatement(text: string, start: number, standardStrings: boolean): Scanned {
  const words: string[] = []
  let last = ''
  let copies = false
  let parentheses = 0
  let bodies = 0
  for (let at = start; at < text.length; ) {
    const end = passOver(text, at, standardStrings)
    if (end > at) {
      at = end
      continue
    }
    const found = match(word, text, at)
    if (found !== null) {
      const upper = found.toUpperCase()
      if (words.length < fewWords) words.push(upper)
      if (words[0] === 'COPY' && last === 'FROM' && upper === 'STDIN' && parentheses === 0) copies = true
      if (parentheses === 0 && makesRoutine(words)) bodies = bodyDepth(bodies, upper)
      last = upper
      at += found.length
      const escapes = /^E$/i.test(found) && text[at] === "'"
      if (escapes) at = quoted(escapeString, text, at)
      continue
    }
    const letter = text[at]
    if (letter === '\\') throw strange('the script', 'it holds a command to psql within a statement')
    if (letter === '(') parentheses++
    if (letter === ')') parentheses = Math.max(0, parentheses - 1)
    at++
    if (letter === ';' && parentheses === 0 && bodies === 0) return { end: at, words, copies }
  }
  throw new Incomplete()
}

/** Past what cannot end a statement: white space, comments, quoted text; the same place when there is none. */
function passOver(text: string, at: number, standardStrings: boolean): number {
  switch (text[at]) {
    case "'":
      return quoted(standardStrings ? plainString : escapeString, text, at)
    case '"': {
      const end = text.indexOf('"', at + 1)
      if (end < 0) throw new Incomplete()
      return end + 1
    }
    case '$': {
      const tag = match(dollar, text, at)
      if (tag === null) return text.length - at > 70 ? at + 1 : mustGoOn(text, at)
      const end = text.indexOf(tag, at + tag.length)
      if (end < 0) throw new Incomplete()
      return end + tag.length
    }
    case '-':
      if (text[at + 1] !== '-') return at + 1
      return lineEnd(text, at)
    case '/':
      return text[at + 1] === '*' ? afterComment(text, at) : at + 1
    default:
      return at + (match(dull, text, at)?.length ?? 0)
  }
}

/** A tag may have been cut in two. */
function mustGoOn(text: string, at: number): number {
  if (/^\$[\w\x80-\xff]*$/.test(text.slice(at))) throw new Incomplete()
  return at + 1
}

function lineEnd(text: string, at: number): number {
  const end = text.indexOf('\n', at)
  if (end < 0) throw new Incomplete()
  return end
}

function quoted(pattern: RegExp, text: string, at: number): number {
  const found = match(pattern, text, at)
  if (found === null) throw new Incomplete()
  return at + found.length
}

function match(pattern: RegExp, text: string, at: number): string | null {
  pattern.lastIndex = at
  return pattern.exec(text)?.[0] ?? null
}

function makesRoutine([first, second, third, fourth]: readonly string[]): boolean {
  const what = second === 'OR' && third === 'REPLACE' ? fourth : second
  return first === 'CREATE' && (what === 'FUNCTION' || what === 'PROCEDURE')
}

function bodyDepth(depth: number, upper: string): number {
  if (upper === 'BEGIN' || (upper === 'CASE' && depth > 0)) return depth + 1
  return upper === 'END' && depth > 0 ? depth - 1 : depth
}

/** Block comments nest. */
function afterComment(text: string, from: number): number {
  const edge = /\/\*|\*\//g
  edge.lastIndex = from
  let depth = 0
  for (let found = edge.exec(text); found; found = edge.exec(text)) {
    depth += found[0] === '/*' ? 1 : -1
    if (depth === 0) return edge.lastIndex
  }
  throw new Incomplete()
}
