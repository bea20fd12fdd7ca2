import type { Context } from '../../model/context.ts'
import { ask, askEach, type Row, type Server } from './ask.ts'
import { quoteAccount, quoteName, quoteText } from './sql.ts'

/** A user or a role, and the statements that make it. */
export interface Account {
  readonly user: string
  readonly host: string
  readonly role: boolean
  /** None for PUBLIC, which every server has. */
  readonly create: readonly string[]
  readonly grants: readonly string[]
}

/** What was read of a server's accounts, and what could not be. */
export interface AccountsRead {
  readonly accounts: readonly Account[]
  readonly warnings: readonly string[]
  /** How those plugins are called that a server has only when somebody has loaded them. */
  readonly loadedPlugins: readonly string[]
}

/** Accounts that the server makes for itself. */
const own = new Set(['mysql.sys', 'mysql.session', 'mysql.infoschema', 'mariadb.sys'])
/** What the server says to those who may not look. */
const denied = [1044, 1142, 1143, 1227]

/** One account as the server lists it. */
interface Listed {
  readonly user: string
  readonly host: string
  readonly role: boolean
  readonly tls: readonly (readonly [word: string, text: string])[]
}

/** Every account of a server with its privileges; null where they may not be read. Throws a Failure for what else goes wrong. */
export async function readAccounts(server: Server, ctx: Context): Promise<AccountsRead | null> {
  const mysql = server.connection.flavour === 'mysql'
  const { results, errors } = await askEach(
    server,
    [
      `SELECT User, Host, ${mysql ? `'N'` : 'is_role'}, x509_issuer, x509_subject, ssl_cipher FROM mysql.user ORDER BY 3 DESC, 1, 2`,
      `SELECT PLUGIN_NAME FROM information_schema.PLUGINS WHERE PLUGIN_TYPE = 'AUTHENTICATION' AND PLUGIN_LIBRARY IS NOT NULL`,
      ...(mysql ? [lifetimes, secondPasswords] : []),
    ],
    ctx,
  )
  if (errors.some(({ number }) => denied.includes(number))) return null
  const [rows = [], plugins = [], expired = [], second = []] = results
  const listed = rows.map(listedOf).filter(({ user }) => !own.has(user))
  const found = await shown(server, listed, ctx)
  if (found === null) return null
  // Installers make a root for the name of the machine.
  const silent = listed.filter(({ user }, index) => !found[index] && user !== 'root')
  const later = new Map(expired.map(([user = '', host = '', days]) => [quoteAccount(user, host), days]))
  return {
    accounts: found.flatMap(account => (account ? [withLifetime(account, later)] : [])),
    warnings: [
      ...naming('accounts that this server does not heed (skip_name_resolve) are not saved', silent),
      ...naming(
        'the second password of these accounts is not saved',
        second.map(([user = '', host = '']) => ({ user, host })),
      ),
    ],
    loadedPlugins: plugins.map(([name = '']) => name),
  }
}

/** SHOW CREATE USER of MySQL says that a password has expired, or how long it lasts, but not both. */
const lifetimes = `SELECT User, Host, password_lifetime FROM mysql.user WHERE password_expired = 'Y' AND password_lifetime IS NOT NULL`
/** RETAIN CURRENT PASSWORD; no statement takes its hash. */
const secondPasswords = `SELECT User, Host FROM mysql.user WHERE JSON_CONTAINS_PATH(User_attributes, 'one', '$.additional_password')`

function naming(what: string, accounts: readonly Pick<Account, 'user' | 'host'>[]): string[] {
  if (accounts.length === 0) return []
  const names = accounts.slice(0, 20).map(({ user, host }) => quoteAccount(user, host))
  const more = accounts.length > 20 ? ` and ${accounts.length - 20} more` : ''
  return [`${what}: ${names.join(', ')}${more}`]
}

function listedOf([user = '', host = '', role, issuer = '', subject = '', cipher = '']: Row): Listed {
  const tls = [['ISSUER', issuer] as const, ['SUBJECT', subject] as const, ['CIPHER', cipher] as const]
  return { user, host, role: role === 'Y', tls }
}

/** Each account as the server shows it, undefined for those of which it says nothing; null where they may not be read. */
async function shown(
  server: Server,
  listed: readonly Listed[],
  ctx: Context,
): Promise<(Account | undefined)[] | null> {
  const mysql = server.connection.flavour === 'mysql'
  const questions = listed.flatMap(({ user, host, role }) => {
    const name = role ? roleName(user) : quoteAccount(user, host)
    return [role ? 'DO 0' : `SHOW CREATE USER ${name}`, `SHOW GRANTS FOR ${name}`]
  })
  // Hashes hold bytes that are no text.
  const first = mysql ? 'SET SESSION print_identified_with_as_hex = ON' : 'DO 0'
  const { results, errors } = await askEach(server, [first, ...questions], ctx)
  if (errors.some(({ number }) => denied.includes(number))) return null
  const answers = results.slice(1)
  return listed.map((account, index) => {
    const [created = [], granted = []] = answers.slice(2 * index, 2 * index + 2)
    const isThere = granted.length > 0 && (account.role || created.length > 0)
    return isThere ? accountOf(account, created, granted) : undefined
  })
}

/** PUBLIC is a word, not a name. */
function roleName(user: string): string {
  return user === 'PUBLIC' ? user : quoteName(user)
}

const quoted = '`(?:[^`]|``)*`'
const account = `${quoted}@${quoted}`
const defaultRoles = new RegExp(
  `^(CREATE USER ${account} .*?) DEFAULT ROLE (${account}(?:,${account})*)(?= REQUIRE )`,
  's',
)

function accountOf(listed: Listed, created: readonly Row[], granted: readonly Row[]): Account {
  const { user, host, role } = listed
  const said = (rows: readonly Row[]): string[] => rows.map(([text = '']) => requoted(text, listed))
  if (role) {
    const create = user === 'PUBLIC' ? [] : [`CREATE ROLE ${quoteName(user)}`]
    return { user, host, role, create, grants: said(granted).filter(grant => isTo(roleName(user), grant)) }
  }
  const [statement = '', ...more] = said(created)
  const grants = said(granted)
    .map(grant => privilegesOnly(grant, listed))
    .filter(grant => !grant.startsWith('GRANT USAGE ON *.* TO ') || grant.endsWith(' WITH GRANT OPTION'))
  // A default role must have been granted before.
  const defaults = defaultRoles.exec(statement)
  const later = defaults ? [`ALTER USER ${quoteAccount(user, host)} DEFAULT ROLE ${defaults[2]}`] : []
  return {
    ...{ user, host, role },
    create: [defaults ? statement.replace(defaultRoles, '$1') : statement, ...more],
    grants: [...grants, ...later],
  }
}

/** MariaDB shows with a role's privileges those of the roles that it has. */
function isTo(name: string, grant: string): boolean {
  return ['', ' WITH GRANT OPTION', ' WITH ADMIN OPTION'].some(end => grant.endsWith(` TO ${name}${end}`))
}

/** MariaDB 11.8 and MySQL show these texts as they are, also with a quote in them. */
function requoted(statement: string, { tls }: Listed): string {
  return tls.reduce(
    (text, [word, value]) =>
      /['\\]/.test(value) ? text.replace(` ${word} '${value}'`, () => ` ${word} ${quoteText(value)}`) : text,
    statement,
  )
}

/**
 * MariaDB's GRANT on everything repeats the password, the limits and what TLS must be: they would be given to an account of
 * that name that was there before.
 */
function privilegesOnly(grant: string, { user, host }: Listed): string {
  const to = ` ON *.* TO ${quoteName(user)}@${quoteName(host)}`
  const at = /^GRANT [\w ,]+ ON \*\.\* TO /.test(grant) ? grant.indexOf(to) : -1
  if (at < 0) return grant
  const isFurther = / WITH GRANT OPTION(?: MAX_\w+ [\d.]+)*$/.test(grant)
  return `${grant.slice(0, at)}${to}${isFurther ? ' WITH GRANT OPTION' : ''}`
}

function withLifetime(found: Account, later: ReadonlyMap<string, string | undefined>): Account {
  const name = quoteAccount(found.user, found.host)
  const days = later.get(name)
  if (days === undefined) return found
  const lasts = days === '0' ? 'NEVER' : `INTERVAL ${days} DAY`
  return { ...found, create: [...found.create, `ALTER USER ${name} PASSWORD EXPIRE ${lasts}`] }
}

/** The name as SHOW GRANTS takes it, for people. */
export function showAccount({ user, host, role }: Pick<Account, 'user' | 'host' | 'role'>): string {
  return role ? `the role ${quoteText(user)}` : quoteAccount(user, host)
}

/** Whether the server has it. */
export function accountKey(user: string, host: string): string {
  return `${user}\0${host}`
}

/** The accounts that a server has. Throws a Failure where they may not be read. */
export async function accountsThere(server: Server, ctx: Context): Promise<ReadonlySet<string>> {
  const [rows = []] = await ask(server, ['SELECT User, Host FROM mysql.user'], ctx)
  return new Set(rows.map(([user = '', host = '']) => accountKey(user, host)))
}
