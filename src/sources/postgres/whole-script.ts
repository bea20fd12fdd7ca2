import { isAboutDatabase } from './script.ts'
import type { Piece } from './script-reader.ts'
import { nameOf, sqlOf, statements, type Token } from './sql.ts'

/** What a script of pg_dumpall holds of one database. */
export interface DatabaseScript {
  /** What stands after `CREATE DATABASE name`; null where the script takes it as given: `postgres`, `template1`. */
  readonly create: string | null
  /** The other statements about the database as such: owner, settings, privileges. */
  readonly about: string
  readonly holdsSomething: boolean
}

export interface WholeScript {
  /** The statements before the first database: roles, memberships, tablespaces. */
  readonly globals: string
  readonly databases: ReadonlyMap<string, DatabaseScript>
}

/** Reads a script of pg_dumpall to its end, and keeps what it says of roles and databases; rows are passed over. */
export async function surveyScript(pieces: AsyncIterable<Piece>): Promise<WholeScript> {
  const globals: string[] = []
  const databases = new Map<string, { create: string | null; about: string; holdsSomething: boolean }>()
  const of = (name: string) => {
    const found = databases.get(name) ?? { create: null, about: '', holdsSomething: false }
    databases.set(name, found)
    return found
  }
  let current: string | null = null
  for await (const piece of pieces) {
    if (piece.kind === 'connect') {
      current = piece.database
      of(current)
    }
    if (piece.kind !== 'statement') continue
    if (isAboutDatabase(piece.words)) aboutDatabase(piece.bytes.toString('utf8'), of)
    else if (current === null) globals.push(piece.bytes.toString('utf8'))
    else if (!isSetting(piece.words)) of(current).holdsSomething = true
  }
  return { globals: globals.join('\n'), databases }
}

function aboutDatabase(sql: string, of: (name: string) => { create: string | null; about: string }): void {
  for (const tokens of statements(sql)) {
    const at = tokens.findIndex(token => token.kind === 'word' && token.value === 'DATABASE')
    const name = nameOf(tokens[at + 1])
    if (name === null) continue
    if (tokens[0]?.value === 'CREATE') of(name).create = sqlOf(tokens.slice(at + 2) as Token[])
    // The name of a tablespace or a template flag is the server's own matter.
    else if (tokens[0]?.value !== 'DROP') of(name).about += `${sqlOf(tokens)};\n`
  }
}

/** `SET …`, `SELECT pg_catalog.set_config(…)`: about the session, not the database. */
function isSetting(words: readonly string[]): boolean {
  return words[0] === 'SET' || (words[0] === 'SELECT' && words.includes('SET_CONFIG'))
}
