import type { Bytes } from '../../model/step.ts'
import { type Account, accountKey } from './accounts.ts'
import { pieces, unreadable } from './script.ts'

/** How our part of a dump begins. */
const firstLine = '-- Accounts, with what they may do'
const lastLine = '-- Accounts completed'
const header = '-- cairn account '

/**
 * A script of two parts, for the programs of the server and for us: what makes the accounts, and lets them into the whole server
 * and whole databases, can stand before the data; what needs tables and routines must come after it. A line of ours
 * before the statements of an account says whose they are.
 */
export interface AccountScript {
  readonly before: string
  readonly after: string
}

/**
 * Each account is made unless it is there, and its password is left alone then. The client ends with the first statement
 * that fails: what may fail on another server comes last. `loadedPlugins`: what such accounts log in by.
 */
export function accountScript(
  accounts: readonly Account[],
  loadedPlugins: readonly string[] = [],
): AccountScript {
  const isDoubtful = ({ create }: Account): boolean =>
    loadedPlugins.some(name => create.some(statement => mentionsPlugin(statement, name)))
  const sure = accounts.filter(each => !isDoubtful(each))
  const doubtful = accounts.filter(isDoubtful)
  const granted = (who: readonly Account[], weights: readonly Weight[]): string =>
    weights
      .flatMap(weight =>
        who.map(each =>
          part(
            each,
            each.grants.filter(grant => weightOf(grant) === weight),
          ),
        ),
      )
      .join('')
  const made = (who: readonly Account[]): string => who.map(each => part(each, each.create)).join('')
  const later = ['of objects', 'of roles', 'of columns', 'of others'] as const
  return {
    before: `${firstLine}\n${session}${made(sure)}${granted(sure, ['wide'])}${sessionEnd}`,
    after: `${session}${granted(sure, later)}${made(doubtful)}${granted(doubtful, ['wide', ...later])}${sessionEnd}${lastLine}\n`,
  }
}

/** Names are UTF-8, a backslash escapes, and a GRANT makes nobody. */
const session = `/*!40101 SET NAMES utf8mb4 */;
SET @cairn_sql_mode = @@SESSION.sql_mode, SESSION sql_mode = '';
/*M!100204 SET SESSION sql_mode = 'NO_AUTO_CREATE_USER' */;
`
const sessionEnd = 'SET SESSION sql_mode = @cairn_sql_mode;\n'

function mentionsPlugin(statement: string, name: string): boolean {
  return [' VIA ', ' OR ', ' WITH '].some(
    word => statement.includes(`${word}${name}`) || statement.includes(`${word}'${name}'`),
  )
}

function part({ user, host, role }: Account, statements: readonly string[]): string {
  if (statements.length === 0) return ''
  const lines = statements.map(
    each => `${each.replace(/^CREATE (USER|ROLE) /, 'CREATE $1 IF NOT EXISTS ')};\n`,
  )
  return `${header}${JSON.stringify({ user, host, role })}\n${lines.join('')}`
}

/** What must be there before a privilege can be given. */
type Weight = 'wide' | 'of objects' | 'of roles' | 'of columns' | 'of others'

const name = '`(?:[^`]|``)*`'
const onObject = new RegExp(
  `^(?:GRANT|REVOKE) (?:[^\`]|${name})*? ON (?:(TABLE|FUNCTION|PROCEDURE|PACKAGE|PACKAGE BODY) )?(${name}|\\*)\\.(${name}|\\*) (?:TO|FROM) `,
)

/** Privileges on the server or a whole database need neither; the server lets only few speak for others (PROXY). */
export function weightOf(statement: string): Weight {
  if (/^(?:GRANT|REVOKE) PROXY /.test(statement)) return 'of others'
  const match = onObject.exec(statement)
  if (!match) return 'of roles'
  if (match[3] === '*') return 'wide'
  return /^(?:GRANT|REVOKE) [^`]*\(/.test(statement) ? 'of columns' : 'of objects'
}

/** What a privilege on one table or routine is on: `['function', 'shop', 'one']`; null for others. */
export function objectOf(statement: string): { kind: string; database: string; name: string } | null {
  const [all, kind = 'table', database = '', object = '*'] = onObject.exec(statement) ?? []
  if (all === undefined || object === '*' || database === '*') return null
  const plain = (text: string): string => text.slice(1, -1).replaceAll('``', '`')
  return { kind: kind.toLowerCase(), database: plain(database), name: plain(object) }
}

/** Takes accounts out of a script, also one that holds a dump between its parts. */
export class AccountReader {
  readonly #found = new Map<string, { user: string; host: string; role: boolean } & Lists>()
  #current: Lists | null = null
  #isBegun = false
  #isWhole = false

  get isThere(): boolean {
    return this.#isBegun
  }

  /** Whether the next statement may be ours. */
  get isWithin(): boolean {
    return this.#current !== null
  }

  get all(): Account[] {
    return [...this.#found.values()]
  }

  comment(line: string): void {
    this.#current = null
    if (line.startsWith(firstLine)) this.#isBegun = true
    if (line.startsWith(lastLine)) this.#isWhole = true
    if (!line.startsWith(header)) return
    const ours = read(line.slice(header.length))
    if (!ours) return
    const { user, host, role, what, statements } = ours
    const key = accountKey(user, host)
    const account = this.#found.get(key) ?? { user, host, role, create: [], grants: [] }
    this.#found.set(key, account)
    if (what === undefined) this.#current = account
    else account[what].push(...(statements ?? []).map(unconditional))
  }

  /** Whether it is a statement of ours. */
  statement(text: string): boolean {
    if (!this.#current || !/^(?:CREATE (?:USER|ROLE)|ALTER USER|GRANT|REVOKE|SET DEFAULT ROLE) /.test(text))
      return false
    const plain = unconditional(text.replace(/;$/, ''))
    const isMaking =
      plain.startsWith('CREATE ') || (plain.startsWith('ALTER ') && !/ DEFAULT ROLE /.test(plain))
    this.#current[isMaking ? 'create' : 'grants'].push(plain)
    return true
  }

  /** Throws a Failure when a script that began with accounts does not end with them. */
  end(): void {
    if (this.#isBegun && !this.#isWhole) throw unreadable(`its last line, "${lastLine}", is missing`)
  }
}

/** We know which are missing, and whoever made one meanwhile keeps it. */
function unconditional(statement: string): string {
  return statement.replace(/^(CREATE (?:USER|ROLE)) IF NOT EXISTS /, '$1 ')
}

interface Lists {
  readonly create: string[]
  readonly grants: string[]
}

/** The line of ours; the first versions had the statements in it. */
interface OfOurs {
  readonly user: string
  readonly host: string
  readonly role: boolean
  readonly what?: 'create' | 'grants'
  readonly statements?: readonly string[]
}

/** Null for what is not ours: a dump has names in its comments. */
function read(json: string): OfOurs | null {
  try {
    return JSON.parse(json) as OfOurs
  } catch {
    return null
  }
}

/** The accounts of a script that holds nothing else. Throws a Failure when it is not whole. */
export async function parseAccounts(script: Bytes): Promise<Account[]> {
  const reader = new AccountReader()
  let last = ''
  for await (const { kind, bytes } of pieces(script)) {
    const text = bytes.toString('utf8')
    last = text
    if (kind === 'comment') reader.comment(text.trimEnd())
    else reader.statement(text)
  }
  if (!last.startsWith(lastLine)) throw unreadable(`its last line, "${lastLine}", is missing`)
  return reader.all
}
