import { randomBytes } from 'node:crypto'
import { usage } from '../../model/failure.ts'
import type { ArtifactRecord } from '../../model/manifest.ts'
import type { ArtifactReader, Framing } from '../../model/restore.ts'
import type { Bytes, Transform } from '../../model/step.ts'
import { majorOf } from './clients.ts'
import { type Around, alone, type Loading, psql } from './load.ts'
import { type Piece, readScript } from './script-reader.ts'
import { quoteName } from './sql.ts'

/** What is passed on at once. */
const blockBytes = 64 * 1024

/** Reads a script of pg_dump into psql, in one transaction of ours. Returns psql's warnings. */
export async function loadScript(
  o: Loading & Partial<Around>,
  data: ArtifactRecord,
  psqlVersion: string,
  read: ArtifactReader,
): Promise<string[]> {
  const warnings: string[] = []
  const { program, framing } = scriptProgram(o, psqlVersion, warnings)
  const filter: Transform = {
    name: 'the script of the dump',
    run: input => scriptBytes(ofOne(readScript(input, data.name)), o.versionNum),
  }
  await read.into(data, program, framing, [filter])
  return warnings
}

/** psql for a script: where it can be, it is forbidden to carry out commands of its own, too. */
export function scriptProgram(o: Loading & Partial<Around>, psqlVersion: string, warnings: string[]) {
  const role = o.options.role
  const before = [...(o.before ?? []), ...(role === undefined ? [] : [`SET ROLE ${quoteName(role)}`])]
  const { program, framing } = psql({ ...alone, ...o, before }, warnings)
  const restricted: Framing = { ...framing, prologue: restrictedAfter(framing.prologue) }
  return { program, framing: knowsRestrict(psqlVersion) ? restricted : framing }
}

async function* restrictedAfter(prologue: Bytes | undefined): Bytes {
  if (prologue) yield* prologue
  yield Buffer.from(`\\restrict ${randomBytes(16).toString('hex')}\n`)
}

/** The minor versions of August 2025 brought it (PostgreSQL release notes, CVE-2025-8714). */
const restrictSince: Readonly<Record<number, number>> = { 13: 22, 14: 19, 15: 14, 16: 10, 17: 6 }

export function knowsRestrict(version: string): boolean {
  const [, major, minor] = /(\d+)\.(\d+)/.exec(version) ?? []
  if (major === undefined) return false
  return Number(major) >= 18 || Number(minor) >= (restrictSince[Number(major)] ?? Number.POSITIVE_INFINITY)
}

/** The pieces of one database's script, with at most one `\connect`, which pg_dump --create writes and which is left out. */
async function* ofOne(pieces: AsyncIterable<Piece>): AsyncGenerator<Piece, void, undefined> {
  let connected = false
  for await (const piece of pieces) {
    if (piece.kind !== 'connect') yield piece
    else if (connected)
      throw usage(
        'cannot restore this script into one database',
        `it goes on to ${JSON.stringify(piece.database)}: it is of several`,
        'restore it with psql, to a server',
      )
    else connected = true
  }
}

/**
 * What psql gets of a script: all but the transactions, which are ours, what is about databases as such, and what
 * `--clean` drops before it is made: the target is empty.
 */
export async function* scriptBytes(pieces: AsyncIterable<Piece>, serverVersionNum: number): Bytes {
  let block: Buffer[] = []
  let size = 0
  let isClearing = true
  for await (const piece of pieces) {
    if (piece.kind === 'statement' && piece.words[0] === 'CREATE' && piece.words[1] !== 'DATABASE')
      isClearing = false
    if (isClearing && piece.kind === 'statement' && clears(piece.words, piece.bytes)) {
      // Every database comes with this one.
      if (piece.words[1] === 'SCHEMA' && piece.words.includes('PUBLIC'))
        block.push(Buffer.from('DROP SCHEMA IF EXISTS public;\n'))
      continue
    }
    if (piece.kind === 'connect' || (piece.kind === 'statement' && !isKept(piece.words, serverVersionNum)))
      continue
    block.push(piece.bytes)
    size += piece.bytes.length
    if (piece.kind === 'statement' && piece.bytes.at(-1) !== 0x0a) {
      block.push(newline)
      size++
    }
    if (size < blockBytes) continue
    yield Buffer.concat(block)
    block = []
    size = 0
  }
  if (size > 0) yield Buffer.concat(block)
}

/** Whether a statement before the first CREATE is one of `pg_dump --clean`. */
function clears(words: readonly string[], bytes: Buffer): boolean {
  const [first, second] = words
  if (first === 'SELECT') return words.includes('LO_UNLINK')
  if (first === 'ALTER') return second === 'TABLE' && bytes.includes(' DROP ')
  return first === 'DROP' && second !== 'DATABASE'
}

const newline = Buffer.from('\n')

/** Throws for what would end our transaction and not begin another. */
function isKept(words: readonly string[], serverVersionNum: number): boolean {
  const [first = '', second = ''] = words
  // Large objects stand between a BEGIN and a COMMIT of their own.
  if (
    first === 'BEGIN' ||
    first === 'COMMIT' ||
    first === 'END' ||
    (first === 'START' && second === 'TRANSACTION')
  )
    return false
  if (['ROLLBACK', 'ABORT', 'PREPARE'].includes(first))
    throw usage(
      'cannot restore this script',
      `it says ${first}`,
      'pg_dump writes no such thing: look at the script',
    )
  if (first === 'SET' && second === 'TRANSACTION_TIMEOUT') return majorOf(serverVersionNum) >= 17
  return !isAboutDatabase(words)
}

/** `CREATE DATABASE`, `COMMENT ON DATABASE`, `ALTER ROLE x IN DATABASE`, `GRANT … ON DATABASE`. */
export function isAboutDatabase(words: readonly string[]): boolean {
  const at = words.indexOf('DATABASE')
  if (['CREATE', 'DROP', 'ALTER'].includes(words[0] ?? '') && at === 1) return true
  if (words[0] === 'ALTER' && words[1] === 'ROLE') return at > 0 && words[at - 1] === 'IN'
  return (
    ['COMMENT', 'GRANT', 'REVOKE', 'SECURITY'].includes(words[0] ?? '') && at > 0 && words[at - 1] === 'ON'
  )
}
