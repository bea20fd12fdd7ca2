import { nameOf, quoteText, sqlOf, statements, type Token } from './sql.ts'

/** What of a server's globals a restore brings: the roles that are not there yet, and nothing else. */
export interface MissingRoles {
  readonly roles: readonly string[]
  /** To be carried out in this order. They never touch a role that was there before. */
  readonly statements: readonly string[]
  readonly warnings: readonly string[]
}

/** What the target server has. */
export interface Existing {
  readonly roles: ReadonlySet<string>
  readonly tablespaces: ReadonlySet<string>
  /** Whether we may do everything there. */
  readonly superuser: boolean
}

/** Only a superuser may mention these, even to say no (PostgreSQL docs, ALTER ROLE, up to 15). They are the default anyway. */
const superuserWords = new Set(['NOSUPERUSER', 'NOREPLICATION', 'NOBYPASSRLS'])

/**
 * Picks from the output of `pg_dumpall --globals-only` what makes the missing roles: CREATE, ALTER and COMMENT, and
 * their memberships where both sides exist in the end. Pure; statements that it does not know are left out.
 */
export function missingRoles(globals: string, existing: Existing): MissingRoles {
  const created = new Set<string>()
  const memberships: Token[][] = []
  const found: string[] = []
  const warnings: string[] = []
  for (const tokens of statements(globals)) {
    const role = nameOf(tokens[subjectAt(tokens)])
    switch (kindOf(tokens)) {
      case 'create role':
        if (role === null || existing.roles.has(role) || role.startsWith('pg_')) break
        created.add(role)
        found.push(sqlOf(tokens))
        break
      case 'about a role':
        if (role !== null && created.has(role)) found.push(sqlOf(allowed(tokens, existing)))
        break
      case 'membership':
        memberships.push(tokens)
        break
      case 'tablespace':
        if (role !== null && !existing.tablespaces.has(role))
          warnings.push(`the tablespace ${role} is not made: its folder is a matter of the machine`)
        break
    }
  }
  for (const tokens of memberships) {
    const [group = '', member = ''] = [nameOf(tokens[1]) ?? '', nameOf(tokens[3]) ?? '']
    const isThere = (name: string): boolean => created.has(name) || existing.roles.has(name)
    if (!created.has(group) && !created.has(member)) continue
    if (isThere(group) && isThere(member)) found.push(sqlOf(withoutGrantor(tokens)))
    else warnings.push(`${member} is not made a member of ${group}: one of them is not there`)
  }
  return { roles: [...created], statements: found, warnings }
}

type Kind = 'create role' | 'about a role' | 'membership' | 'tablespace' | 'other'

function kindOf(tokens: readonly Token[]): Kind {
  const [first, second, third, fourth] = tokens.map(token => token.value)
  if (first === 'CREATE' && second === 'ROLE') return 'create role'
  if (first === 'CREATE' && second === 'TABLESPACE') return 'tablespace'
  if (first === 'ALTER' && second === 'ROLE') return fourth === 'IN' ? 'other' : 'about a role'
  if (first === 'COMMENT' && second === 'ON' && third === 'ROLE') return 'about a role'
  if (first === 'GRANT' && third === 'TO') return 'membership'
  return 'other'
}

/** Where the role or tablespace that a statement is about stands. */
function subjectAt(tokens: readonly Token[]): number {
  return tokens[0]?.value === 'COMMENT' ? 3 : 2
}

function allowed(tokens: readonly Token[], { superuser }: Existing): Token[] {
  return tokens.filter(token => superuser || token.kind !== 'word' || !superuserWords.has(token.value))
}

/** Who granted it need not exist in the target, and only a superuser may speak for others. */
function withoutGrantor(tokens: readonly Token[]): Token[] {
  const at = tokens.findIndex(token => token.kind === 'word' && token.value === 'GRANTED')
  return tokens.slice(0, at < 0 ? tokens.length : at)
}

/**
 * The statements as one DO block. psql sees nothing in it but a literal: whatever a name or a password holds, it is
 * neither a variable nor a command to it.
 */
export function asBlock(sql: readonly string[]): string {
  const body = sql.map(statement => `EXECUTE ${quoteText(statement)};`).join('\n')
  return `DO ${quoteText(`BEGIN\n${body}\nEND`)};\n`
}
