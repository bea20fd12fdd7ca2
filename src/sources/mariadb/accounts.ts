import type { Context } from '../../model/context.ts'
import { ask, askEach, type Row, type Server } from './ask.ts'
import { quoteAccount, quoteText } from './sql.ts'

/** A user or a role, and the statements that make it. */
export interface Account {
  readonly user: string
  readonly host: string
  readonly role: boolean
  readonly create: readonly string[]
  readonly grants: readonly string[]
}

/** Accounts that the server makes for itself. */
const own = new Set(['mysql.sys', 'mysql.session', 'mysql.infoschema', 'mariadb.sys', 'PUBLIC'])

/** Every account of a server with its privileges. Throws a Failure where they may not be read. */
export async function readAccounts(server: Server, ctx: Context): Promise<Account[]> {
  const mysql = server.connection.flavour === 'mysql'
  const [rows = []] = await ask(
    server,
    [`SELECT User, Host, ${mysql ? `'N'` : 'is_role'} FROM mysql.user ORDER BY 3 DESC, 1, 2`],
    ctx,
  )
  const accounts = rows.filter(([user = '']) => !own.has(user))
  const questions = accounts.flatMap(([user = '', host = '', role]) => {
    const name = role === 'Y' ? quoteText(user) : quoteAccount(user, host)
    return [role === 'Y' ? 'DO 0' : `SHOW CREATE USER ${name}`, `SHOW GRANTS FOR ${name}`]
  })
  // Hashes hold bytes that are no text. Accounts that the server itself does not heed (skip_name_resolve) have no answer.
  const { results } = await askEach(
    server,
    [mysql ? 'SET SESSION print_identified_with_as_hex = ON' : 'DO 0', ...questions],
    ctx,
  )
  const answers = results.slice(1)
  return accounts.flatMap(([user = '', host = '', role], index) => {
    const [created = [], granted = []] = answers.slice(2 * index, 2 * index + 2)
    const isThere = granted.length > 0 && (role === 'Y' || created.length > 0)
    return isThere ? [accountOf({ user, host, role: role === 'Y' }, created, granted)] : []
  })
}

function accountOf(
  { user, host, role }: Pick<Account, 'user' | 'host' | 'role'>,
  created: readonly Row[],
  granted: readonly Row[],
): Account {
  const grants = granted.map(([grant = '']) => grant)
  if (role) return { user, host, role, create: [`CREATE ROLE ${quoteText(user)}`], grants }
  const statement = created[0]?.[0] ?? ''
  // A default role must have been granted before.
  const defaults = / DEFAULT ROLE (.+?)(?= REQUIRE )/s.exec(statement)
  const name = quoteAccount(user, host)
  return {
    user,
    host,
    role,
    create: [statement.replace(defaults?.[0] ?? '', '')],
    grants: [...grants, ...(defaults ? [`ALTER USER ${name} DEFAULT ROLE ${defaults[1]}`] : [])],
  }
}

const header = '-- cairn account '

/** As a script that the client runs, too: all accounts first, then who may do what. Each has a line of its own for us. */
export function accountsScript(accounts: readonly Account[]): string {
  const part = (account: Account, what: 'create' | 'grants'): string => {
    const { user, host, role } = account
    const statements = account[what].map(each =>
      each.replace(/^CREATE (USER|ROLE) /, 'CREATE $1 IF NOT EXISTS '),
    )
    return `${header}${JSON.stringify({ user, host, role, what, statements })}\n${statements.map(each => `${each};\n`).join('')}`
  }
  return [
    ...accounts.map(account => part(account, 'create')),
    ...accounts.map(account => part(account, 'grants')),
    '-- Accounts completed\n',
  ].join('')
}

/** The accounts of a script, from the lines that are ours. Throws an Error when it is not whole. */
export function parseAccounts(script: string): Account[] {
  if (!script.endsWith('-- Accounts completed\n')) throw new Error('the accounts are not whole')
  const accounts = new Map<string, Account>()
  for (const line of script.split('\n').filter(each => each.startsWith(header))) {
    const { user, host, role, what, statements } = JSON.parse(line.slice(header.length)) as {
      user: string
      host: string
      role: boolean
      what: 'create' | 'grants'
      statements: string[]
    }
    const key = JSON.stringify([user, host])
    const before = accounts.get(key) ?? { user, host, role, create: [], grants: [] }
    accounts.set(key, { ...before, [what]: statements })
  }
  return [...accounts.values()]
}
