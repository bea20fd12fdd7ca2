/**
 * SQL as text: quoting, and enough of its lexical structure to take a script apart into statements
 * (PostgreSQL docs, "Lexical Structure").
 */

/** A name as an identifier, whatever characters it holds. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A text as a literal that means the same whatever `standard_conforming_strings` and `backslash_quote` are. */
export function quoteText(text: string): string {
  return `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
}

/** Lifts the time limits that a server, a role or a database has set, for a session; those that the server knows. */
export const withoutTimeouts = `SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings
   WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout');`

/** A value in a libpq connection string. */
export function quoteConninfo(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}

/** A piece of SQL. `value` is a name without its quotes, a word in capitals, else the text itself. */
export interface Token {
  readonly kind: 'word' | 'name' | 'text' | 'symbol'
  readonly text: string
  readonly value: string
}

const space = /(?:\s+|--[^\n]*)+/y
const patterns: readonly (readonly [Token['kind'], RegExp])[] = [
  ['text', /[eE]'[^'\\]*(?:(?:\\[\s\S]|'')[^'\\]*)*'/y],
  ['text', /'[^']*(?:''[^']*)*'/y],
  ['name', /"[^"]*(?:""[^"]*)*"/y],
  ['text', /\$((?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?)\$[\s\S]*?\$\1\$/y],
  ['word', /[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*/y],
  // A quote that never ends takes the rest along, and its statement with it.
  ['text', /['"][\s\S]*/y],
  ['symbol', /\d[\w.]*|[\s\S]/y],
]

/**
 * The statements of a script, each as its tokens without the semicolon. Comments are dropped, and so are psql's
 * own commands (`\restrict`, `\connect`) where a statement could begin. A statement cut off at the end is dropped.
 */
export function* statements(sql: string): Generator<Token[], void, undefined> {
  let tokens: Token[] = []
  let at = 0
  for (;;) {
    at = skipSpace(sql, at)
    if (at >= sql.length) return
    if (sql[at] === '\\' && tokens.length === 0) {
      const end = sql.indexOf('\n', at)
      at = end < 0 ? sql.length : end
      continue
    }
    const token = tokenAt(sql, at)
    at += token.text.length
    if (token.text !== ';') {
      tokens.push(token)
      continue
    }
    if (tokens.length > 0) yield tokens
    tokens = []
  }
}

/** All tokens of a piece of SQL. */
export function tokensOf(sql: string): Token[] {
  const tokens: Token[] = []
  for (let at = skipSpace(sql, 0); at < sql.length; at = skipSpace(sql, at)) {
    const token = tokenAt(sql, at)
    tokens.push(token)
    at += token.text.length
  }
  return tokens
}

function skipSpace(sql: string, from: number): number {
  let at = from
  for (;;) {
    space.lastIndex = at
    at += space.exec(sql)?.[0].length ?? 0
    if (!sql.startsWith('/*', at)) return at
    at = afterComment(sql, at)
  }
}

/** Block comments nest. */
function afterComment(sql: string, from: number): number {
  const edge = /\/\*|\*\//g
  edge.lastIndex = from
  let depth = 0
  for (let match = edge.exec(sql); match; match = edge.exec(sql)) {
    depth += match[0] === '/*' ? 1 : -1
    if (depth === 0) return edge.lastIndex
  }
  return sql.length
}

function tokenAt(sql: string, at: number): Token {
  for (const [kind, pattern] of patterns) {
    pattern.lastIndex = at
    const text = pattern.exec(sql)?.[0]
    if (text === undefined) continue
    return { kind, text, value: tokenValue(kind, text) }
  }
  throw new Error('unreachable: every character is a symbol')
}

function tokenValue(kind: Token['kind'], text: string): string {
  if (kind === 'word') return text.toUpperCase()
  return kind === 'name' ? text.slice(1, -1).replaceAll('""', '"') : text
}

/** The name that a token is: a quoted one as it stands, a bare one in small letters, as PostgreSQL folds it. */
export function nameOf(token: Token | undefined): string | null {
  if (token?.kind === 'name') return token.value
  return token?.kind === 'word' ? token.text.toLowerCase() : null
}

/** Tokens as SQL again. */
export function sqlOf(tokens: readonly Token[]): string {
  return tokens.map(token => token.text).join(' ')
}
