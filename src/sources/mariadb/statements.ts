import type { Piece } from './script.ts'
import { unreadable } from './script.ts'

/**
 * What a piece of a dump is about. Text and names are of bytes, one character each (latin1), so that nothing is lost
 * whatever they are; `nameBytes` and `textOf` translate.
 */
export type Meaning =
  /** Settings of the session, and what else concerns no object: for every part of a restore. */
  | { readonly about: 'session' }
  /** Locks and commits around a table's rows. */
  | { readonly about: 'rows only' }
  | { readonly about: 'nothing' }
  | { readonly about: 'use' | 'create database' | 'alter database'; readonly name: string }
  | { readonly about: 'table'; readonly name: string; readonly verb: 'drop' | 'create' | 'other' }
  | { readonly about: 'rows'; readonly name: string }
  | { readonly about: 'view'; readonly name: string }
  | { readonly about: 'trigger' | 'routine' | 'event' }

/** A name between backticks. */
const name = '`((?:[^`]|``)+)`'
/** How a statement that older servers do not know begins. */
const versioned = '(?:/\\*M?!\\d{5,6} ?)'

type Rule = readonly [pattern: RegExp, meaning: (match: RegExpExecArray) => Meaning]

const named = (match: RegExpExecArray): string => (match[1] ?? '').replaceAll('``', '`')

/** Everything that the dumpers write, as far as it was tried; what is not here is refused. In this order: the first that fits. */
const rules: readonly Rule[] = [
  [/^(?:INSERT|REPLACE)(?: +IGNORE)? +INTO `((?:[^`]|``)+)`/, m => ({ about: 'rows', name: named(m) })],
  [new RegExp(`^${versioned}?SET\\s`, 'i'), () => ({ about: 'session' })],
  [/^USE `((?:[^`]|``)+)`\s*;$/, m => ({ about: 'use', name: named(m) })],
  [
    rule(`CREATE DATABASE (?:/\\*!\\d{5} IF NOT EXISTS\\*/ )?${name}`),
    m => ({ about: 'create database', name: named(m) }),
  ],
  [rule(`ALTER DATABASE ${name} CHARACTER SET`), m => ({ about: 'alter database', name: named(m) })],
  [rule(`${versioned}?DROP DATABASE IF EXISTS`), () => ({ about: 'nothing' })],
  // A view's stand-in, until all that it looks at is there.
  [
    rule(`/\\*!50001 (?:DROP (?:VIEW|TABLE)(?: IF EXISTS)?|CREATE (?:VIEW|TABLE)) ${name}`),
    m => ({ about: 'view', name: named(m) }),
  ],
  [
    rule(
      `/\\*!50001 CREATE (?:OR REPLACE )?ALGORITHM=\\w+ \\*/\\s*(?:/\\*!50013 [\\s\\S]*?\\*/\\s*)?/\\*!50001 VIEW ${name}`,
    ),
    m => ({ about: 'view', name: named(m) }),
  ],
  [
    rule(`${versioned}?DROP (?:TABLE|SEQUENCE)(?: IF EXISTS)? ${name}`),
    m => ({ about: 'table', name: named(m), verb: 'drop' }),
  ],
  [
    rule(`CREATE (?:TABLE|SEQUENCE)(?: IF NOT EXISTS)? ${name}`),
    m => ({ about: 'table', name: named(m), verb: 'create' }),
  ],
  [rule(`(?:DO|SELECT) SETVAL\\(${name}`), m => ({ about: 'table', name: named(m), verb: 'other' })],
  [rule(`/\\*!40000 ALTER TABLE ${name} (?:DIS|EN)ABLE KEYS`), m => ({ about: 'rows', name: named(m) })],
  [rule(`LOCK TABLES ${name} WRITE`), m => ({ about: 'rows', name: named(m) })],
  [/^(?:UNLOCK TABLES|COMMIT|START TRANSACTION)\s*;$/i, () => ({ about: 'rows only' })],
  [
    rule(`${versioned}?DROP (?:FUNCTION|PROCEDURE|PACKAGE(?: BODY)?) IF EXISTS`),
    () => ({ about: 'routine' }),
  ],
  [rule(`${versioned}?DROP EVENT IF EXISTS`), () => ({ about: 'event' })],
  [rule(`${versioned}?DROP TRIGGER IF EXISTS`), () => ({ about: 'trigger' })],
  // Where a replica would go on; a restored database is none.
  [rule('(?:-- )?CHANGE (?:MASTER|REPLICATION SOURCE) TO'), () => ({ about: 'nothing' })],
]

const blocks: readonly Rule[] = [
  [/^\/\*!50106 CREATE\*\/(?:[\s\S]*?)\/\*!50106 EVENT /m, () => ({ about: 'event' })],
  [
    /^(?:\/\*!50003 )?CREATE\*\/ [\s\S]*?\/\*!50003 (?:\s*OR REPLACE)?\s*TRIGGER\s/im,
    () => ({ about: 'trigger' }),
  ],
  [/^CREATE [\s\S]*?(?:FUNCTION|PROCEDURE|PACKAGE)\s/im, () => ({ about: 'routine' })],
  [
    /^\/\*!50003 CREATE\*\/ [\s\S]*?\/\*!50003 (?:AGGREGATE )?(?:FUNCTION|PROCEDURE|PACKAGE)\s/im,
    () => ({ about: 'routine' }),
  ],
]

function rule(pattern: string): RegExp {
  return new RegExp(`^${pattern}`)
}

/** Long enough for any name and what stands before it. */
const headLength = 4096

/** Throws a Failure for what no dumper writes. */
export function meaningOf(piece: Piece): Meaning {
  if (piece.kind === 'comment') return { about: 'nothing' }
  const text = piece.bytes.toString('latin1', 0, headLength)
  for (const [pattern, meaning] of piece.kind === 'block' ? blocks : rules) {
    const match = pattern.exec(piece.kind === 'block' ? text.slice('DELIMITER ;;\n'.length) : text)
    if (match) return meaning(match)
  }
  throw unreadable(`it holds ${JSON.stringify(text.slice(0, 60))}`)
}

/** A name as dumps have it, byte for character. */
export function nameBytes(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1')
}

export function textOf(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('utf8')
}

const texts = /'(?:[^'\\]|\\[\s\S]|'')*'/g
const qualified = new RegExp(`${texts.source}|(REFERENCES )?\`((?:[^\`]|\`\`)+)\`(\\.?)`, 'g')

/**
 * A CREATE TABLE for another database: what it names of `from` by its full name (the sequence of a default) it names of `to`,
 * and tables that it refers to and that do not come along are those of `to`.
 */
export function tableFor(
  text: string,
  from: string,
  to: string,
  comesAlong: (table: string) => boolean,
): string {
  const quoted = (plain: string): string => `\`${plain.replaceAll('`', '``')}\``
  return text.replace(
    qualified,
    (all, references: string | undefined, found: string | undefined, dot: string) => {
      if (found === undefined) return all
      const plain = found.replaceAll('``', '`')
      if (dot === '.') return plain === from ? `${references ?? ''}${quoted(to)}.` : all
      return references && !comesAlong(plain) ? `${references}${quoted(to)}.${quoted(plain)}` : all
    },
  )
}

const sequenceDefault = /^(\s+(`(?:[^`]|``)+`) .*?) DEFAULT (nextval\(`(?:[^`]|``)+`\.`(?:[^`]|``)+`\))/gm

/**
 * A CREATE TABLE without the defaults that are a sequence's next value, and the statements that set them when the sequence is
 * in its place. Throws a Failure for a default that computes with one.
 */
export function withoutSequences(text: string, table: string): { text: string; later: string[] } {
  if (!/\bnextval\(/i.test(text)) return { text, later: [] }
  const later: string[] = []
  const quoted = `\`${table.replaceAll('`', '``')}\``
  const without = text.replace(sequenceDefault, (_, before: string, column: string, value: string) => {
    later.push(`ALTER TABLE ${quoted} ALTER COLUMN ${column} SET DEFAULT ${value};\n`)
    return before
  })
  if (/\bnextval\(/i.test(without.replace(texts, "''")))
    throw unreadable(`a default of ${quoted} computes with a sequence`)
  return { text: without, later }
}

/** MariaDB keeps a trigger as it was written, perhaps with the database before its name and its table's. */
export function triggerFor(text: string, from: string): string {
  const word = `(?:\`${escaped(from.replaceAll('`', '``'))}\`|${escaped(from)})\\s*\\.\\s*`
  const head = new RegExp(
    `(\\bTRIGGER\\s+(?:IF\\s+NOT\\s+EXISTS\\s+)?)(?:${word})?((?:\`(?:[^\`]|\`\`)+\`|[^\\s\`]+)\\s+(?:BEFORE|AFTER)\\s+(?:INSERT|UPDATE|DELETE)\\s+ON\\s+)(?:${word})?`,
    'i',
  )
  return text.replace(head, '$1$2')
}

/** Whether a definition names a database itself. */
export function namesDatabase(text: string, database: string): boolean {
  const plain = /^[\w$]+$/.test(database) ? `|\\b${escaped(database)}\\s*\\.\\s*[\`\\w]` : ''
  return new RegExp(`\`${escaped(database.replaceAll('`', '``'))}\`\\s*\\.${plain}`).test(text)
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}
