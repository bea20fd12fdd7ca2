import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import { connect, type Database } from './connect.ts'
import { showConnection } from './connection.ts'
import type { Part } from './part.ts'
import { connectBeside } from './scratch.ts'
import type { Survey } from './target.ts'
import type { TocEntry } from './toc.ts'

/** What a role may do at the target. */
interface Rights {
  readonly superuser: boolean
  /** Whether we may become it, and whether what is its is ours. */
  readonly reachable: boolean
  readonly ours: boolean
  readonly mayMakeSchemas: boolean
  /** The schemas in which it may make something, and those that are its own. */
  readonly open: string[]
  readonly own: string[]
  /** The roles to which it may give things. */
  readonly heirs: string[]
  /** The tables and the like that it may not drop. */
  readonly foreign: string[]
}

const question = (asRole: string): string => `
  SELECT r.rolsuper AS superuser, pg_has_role(current_user, r.oid, '${asRole}') AS reachable,
         pg_has_role(current_user, r.oid, 'USAGE') AS ours,
         has_database_privilege(r.oid, current_database(), 'CREATE') AS "mayMakeSchemas",
         ARRAY(SELECT nspname::text FROM pg_namespace WHERE has_schema_privilege(r.oid, oid, 'CREATE')) AS open,
         ARRAY(SELECT nspname::text FROM pg_namespace WHERE pg_has_role(r.oid, nspowner, 'USAGE')) AS own,
         ARRAY(SELECT o.rolname::text FROM pg_roles o WHERE pg_has_role(r.oid, o.oid, '${asRole}')) AS heirs,
         ARRAY(SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_(catalog|toast|temp)'
                  AND NOT pg_has_role(r.oid, c.relowner, 'USAGE')) AS foreign
    FROM pg_roles r WHERE r.rolname = $1`

export interface RoleGoal {
  readonly role: string
  readonly found: Survey
  /** What the archive holds; null where that is not known, or nothing is made. */
  readonly toc: readonly TocEntry[] | null
  readonly part: Part | null
  readonly noOwner: boolean
  /** The roles that the restore makes first. */
  readonly made: readonly string[]
}

/**
 * Throws a usage Failure when we may not become the role that is to restore, or when it may not make, replace or give away
 * what the archive holds: the server would only say so half-way. Returns whose a database that is made must be; undefined:
 * whose else it would be.
 */
export async function demandRole(o: RoleGoal, ctx: Context): Promise<string | undefined> {
  const { role, found } = o
  const refuse = (why: string, remedy: string) =>
    usage(`cannot restore into ${showConnection(found.connection)} as the role ${role}`, why, remedy)
  const rights = await rightsOf(o, ctx)
  if (rights === null) {
    if (found.superuser && o.made.includes(role)) return role
    throw refuse('it is not there', 'create it first, and grant it to the user who logs in')
  }
  if (!rights.reachable)
    throw refuse(
      `the user ${found.connection.user} is not a member of it, or may not SET ROLE to it`,
      'GRANT it to that user, or log in as another',
    )
  if (rights.superuser) return undefined
  if (found.state === 'absent' && !rights.ours)
    throw refuse(
      `the new database would be its, and the user ${found.connection.user} does not inherit its rights`,
      'GRANT it with INHERIT, or create the database first',
    )
  const lacking = lackingIn(rights, o)
  if (lacking !== null)
    throw refuse(lacking, 'GRANT it what it lacks, name another role, or leave out --role')
  return role
}

async function rightsOf({ role, found }: RoleGoal, ctx: Context): Promise<Rights | null> {
  const { connection, state, versionNum } = found
  await using db: Database = await (state === 'absent' ? connectBeside : opened)(connection, ctx)
  const [row] = await db.rows<Rights>(question(versionNum >= 160_000 ? 'SET' : 'MEMBER'), [role])
  return row ?? null
}

function opened(connection: Survey['connection'], ctx: Context): Promise<Database> {
  return connect(connection, 'cairn', ctx)
}

/** What makes nothing of its own. */
const within =
  /^(DATABASE( PROPERTIES)?|ACL|COMMENT|SECURITY LABEL|DEFAULT ACL|ROW SECURITY|.* DATA|SEQUENCE (SET|OWNED BY))$/

/** A sentence; null when nothing is lacking. A database that is made is the role's own. */
function lackingIn(rights: Rights, { found, toc, part, noOwner, role }: RoleGoal): string | null {
  if (toc === null) return null
  const chosen = part && new Set([...part.list.matchAll(/^\d+/gm)].map(([id]) => Number(id)))
  const entries = toc.filter(({ id, kind }) => (chosen === null || chosen.has(id)) && !within.test(kind))
  const owners = new Set(entries.flatMap(({ owner }) => (owner === '' || owner === role ? [] : owner)))
  const others = [...owners].filter(owner => !rights.heirs.includes(owner))
  if (!noOwner && others.length > 0)
    return `it may not give things to their owners: ${others.join(', ')} (--no-owner keeps them)`
  if (found.state === 'absent') return null
  const anew = entries.flatMap(({ kind, tag }) => (kind === 'SCHEMA' ? tag : []))
  const foreign = anew.filter(name => found.schemas.has(name) && !rights.own.includes(name))
  const theirs = rights.foreign.filter(name => entries.some(each => `${each.schema}.${each.tag}` === name))
  if (foreign.length > 0 || theirs.length > 0)
    return `it does not own what would be replaced: ${[...foreign, ...theirs].slice(0, 10).join(', ')}`
  if (anew.length > 0 && !rights.mayMakeSchemas) return `it may not make schemas: ${anew.join(', ')}`
  const closed = new Set(
    entries.flatMap(({ schema }) =>
      schema === null || anew.includes(schema) || rights.open.includes(schema) ? [] : schema,
    ),
  )
  return closed.size > 0 ? `it may not make anything in the schemas ${[...closed].join(', ')}` : null
}
