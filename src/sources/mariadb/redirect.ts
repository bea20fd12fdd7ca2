import { once } from 'node:events'
import type { Writable } from 'node:stream'
import type { Bytes, Transform } from '../../model/step.ts'
import { AccountReader } from './account-script.ts'
import { type Piece, pieces, unreadable } from './script.ts'
import { quoteName } from './sql.ts'
import {
  type Meaning,
  meaningOf,
  nameBytes,
  namesDatabase,
  tableFor,
  textOf,
  triggerFor,
  withoutSequences,
} from './statements.ts'

/** Where a database of the dump goes, and what of it. */
export interface Route {
  /** The database in which the tables are made. */
  readonly scratch: string
  /** The database in which everything will be in the end. */
  readonly target: string
  /** Its tables by name; undefined: everything. */
  readonly tables?: ReadonlySet<string> | undefined
}

export interface Redirection {
  /** The database that a dump without USE is of. */
  readonly unit: string
  /** Undefined: nothing of that database is wanted. */
  route(database: string): Route | undefined
  /** Takes what can only be made when the tables are in their place: views, triggers, routines, events. */
  readonly late: Writable
  /** Makes the scratch databases, where the dump itself says what databases there are. */
  readonly makesDatabases: boolean
}

/** What was met on the way. */
export interface Met {
  readonly databases: Map<string, { readonly tables: Set<string>; create: string }>
  readonly views: Map<string, Set<string>>
  /** Things that were left as they are although they name the database that the dump is of. */
  readonly naming: Set<string>
  /** The accounts that stand in the dump. */
  readonly accounts: AccountReader
  isWhole: boolean
}

const trailer = /^-- Dump completed\b/

/**
 * Turns a dump into statements that make its tables, with their rows, in scratch databases, and puts the rest aside for
 * later. Strict: it throws a Failure for a statement that it does not know, and when the dump's last line is missing.
 */
export function redirect(o: Redirection, met: Met): Transform {
  return {
    name: 'the filter of the dump',
    run: input => new Redirecting(o, met).run(input),
  }
}

export function nothingMet(): Met {
  return {
    databases: new Map(),
    views: new Map(),
    naming: new Set(),
    accounts: new AccountReader(),
    isWhole: false,
  }
}

class Redirecting {
  readonly #o: Redirection
  readonly #met: Met
  #database: string
  #table = ''
  /** Whether the parts of the current statement that are still to come are wanted. */
  #isWanted = false

  constructor(o: Redirection, met: Met) {
    this.#o = o
    this.#met = met
    this.#database = o.unit
    if (!o.makesDatabases) this.#enter(o.unit, '')
  }

  async *run(input: Bytes): Bytes {
    if (!this.#o.makesDatabases) await this.#late(`USE ${quoteName(this.#route()?.target ?? '')};\n`)
    const { accounts } = this.#met
    for await (const piece of pieces(input)) {
      if (piece.kind === 'comment') {
        const text = piece.bytes.toString('utf8').trimEnd()
        if (trailer.test(text)) this.#met.isWhole = true
        accounts.comment(text)
        continue
      }
      if (accounts.isWithin && accounts.statement(piece.bytes.toString('utf8'))) continue
      if (!piece.isFirst) {
        if (this.#isWanted) yield ended(piece)
        continue
      }
      const statement = await this.#redirected(piece, meaningOf(piece))
      this.#isWanted = statement !== null
      if (statement !== null) yield statement
    }
    if (!this.#met.isWhole) throw unreadable('its last line, "-- Dump completed", is missing')
    accounts.end()
  }

  /** What becomes of a piece on its way to the tables; null for nothing. */
  async #redirected(piece: Piece, meaning: Meaning): Promise<Buffer | null> {
    const route = this.#route()
    switch (meaning.about) {
      case 'nothing':
        return null
      case 'session':
        await this.#late(piece.bytes)
        return ended(piece)
      case 'rows only':
        return ended(piece)
      case 'create database':
        return this.#createDatabase(piece, textOf(meaning.name))
      case 'use':
        return await this.#use(textOf(meaning.name))
      case 'alter database':
        if (route && !route.tables) await this.#late(alterFor(piece, route.target))
        return null
      case 'table':
        return await this.#aboutTable(piece, meaning, route)
      case 'rows':
        return this.#wants(route, meaning.name) ? ended(piece) : null
      case 'view':
        if (route) this.#noteView(textOf(meaning.name))
        if (route && !route.tables) await this.#define(piece, route, `view ${textOf(meaning.name)}`)
        return null
      case 'trigger':
        if (this.#wants(route, this.#table)) await this.#trigger(piece, route)
        return null
      default:
        if (route && !route.tables) await this.#define(piece, route, 'a routine or an event')
        return null
    }
  }

  async #aboutTable(
    piece: Piece,
    meaning: Extract<Meaning, { about: 'table' }>,
    route: Route | undefined,
  ): Promise<Buffer | null> {
    if (meaning.verb === 'create') this.#table = meaning.name
    // Nothing is there to be dropped.
    if (meaning.verb === 'drop' || !this.#wants(route, meaning.name) || !route) return null
    if (meaning.verb !== 'create') return ended(piece)
    this.#met.databases.get(this.#database)?.tables.add(textOf(meaning.name))
    const text = tableFor(
      piece.bytes.toString('latin1'),
      nameBytes(this.#database),
      nameBytes(route.target),
      table => this.#wants(route, table),
    )
    const parts = withoutSequences(text, meaning.name)
    for (const statement of parts.later) await this.#late(Buffer.from(statement, 'latin1'))
    return Buffer.from(`${parts.text}\n`, 'latin1')
  }

  #createDatabase(piece: Piece, name: string): Buffer | null {
    const text = piece.bytes.toString('utf8')
    const rest = text.slice(text.indexOf(quoteName(name)) + quoteName(name).length)
    this.#enter(name, rest)
    const route = this.#o.route(name)
    return route ? Buffer.from(`CREATE DATABASE ${quoteName(route.scratch)}${rest}\n`) : null
  }

  async #use(name: string): Promise<Buffer | null> {
    this.#database = name
    const route = this.#route()
    if (!route) return null
    await this.#late(`USE ${quoteName(route.target)};\n`)
    const use = `USE ${quoteName(route.scratch)};\n`
    if (!this.#o.makesDatabases || this.#met.databases.has(name)) return Buffer.from(use)
    // The dump was made with --no-create-db.
    this.#enter(name, '')
    return Buffer.from(`CREATE DATABASE ${quoteName(route.scratch)};\n${use}`)
  }

  #enter(name: string, create: string): void {
    this.#database = name
    if (this.#o.route(name)) this.#met.databases.set(name, { tables: new Set(), create })
  }

  async #trigger(piece: Piece, route: Route | undefined): Promise<void> {
    const text = triggerFor(piece.bytes.toString('latin1'), nameBytes(this.#database))
    if (route) await this.#define({ ...piece, bytes: Buffer.from(text, 'latin1') }, route, 'a trigger')
  }

  async #define(piece: Piece, route: Route, what: string): Promise<void> {
    const text = piece.bytes.toString('latin1')
    if (route.target !== this.#database && namesDatabase(text, nameBytes(this.#database)))
      this.#met.naming.add(what)
    await this.#late(piece.bytes)
  }

  #noteView(name: string): void {
    const views = this.#met.views.get(this.#database) ?? new Set()
    this.#met.views.set(this.#database, views.add(name))
  }

  #route(): Route | undefined {
    return this.#o.route(this.#database)
  }

  #wants(route: Route | undefined, table: string): boolean {
    return route !== undefined && (!route.tables || route.tables.has(textOf(table)))
  }

  async #late(text: Uint8Array | string): Promise<void> {
    const { late } = this.#o
    if (!late.write(text)) await once(late, 'drain')
    late.write('\n')
  }
}

/** A statement on lines of its own. */
function ended({ bytes, isLast }: Piece): Buffer {
  return isLast ? Buffer.concat([bytes, Buffer.from('\n')]) : bytes
}

function alterFor(piece: Piece, target: string): Buffer {
  const text = piece.bytes.toString('utf8').replace(/`(?:[^`]|``)+`/, () => quoteName(target))
  return Buffer.from(text)
}
