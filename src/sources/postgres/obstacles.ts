import { usage } from '../../model/failure.ts'
import { majorOf } from './clients.ts'
import { type Connection, showConnection } from './connection.ts'
import type { RestoreFacts } from './facts.ts'
import type { Survey } from './target.ts'

/** Throws a Failure for what makes the restore impossible; returns what will only be different. */
export function obstacles(o: {
  readonly facts: RestoreFacts
  readonly found: Survey
  readonly connection: Connection
  readonly makesRoles: boolean
  /** Nothing in it names a role. */
  readonly withoutRoles: boolean
}): string[] {
  const { facts, found } = o
  const what = `cannot restore into ${showConnection(o.connection)}`
  const from = majorOf(facts.serverVersionNum ?? 0)
  const to = majorOf(found.versionNum)
  if (to < from)
    throw usage(
      what,
      `the backup is of PostgreSQL ${from}, and the target is older: ${to}`,
      `use a server of ${from}`,
    )
  if (found.state === 'absent' && !found.mayCreateDatabase)
    throw usage(
      what,
      'there is no such database, and this role may not create one',
      'create it, or use another role',
    )
  const lacking = facts.extensions.filter(name => !found.extensions.has(name))
  if (lacking.length > 0)
    throw usage(
      what,
      `the server lacks the extensions ${lacking.join(', ')}`,
      'install their packages at the server',
    )
  const roles = facts.neededRoles.filter(name => !found.roles.has(name))
  if (roles.length > 0 && !o.withoutRoles && !(o.makesRoles && found.mayCreateRole)) {
    const why = o.makesRoles ? 'and this role may not create roles' : 'and the globals are left out'
    throw usage(
      what,
      `the roles ${roles.join(', ')} are missing there, ${why}`,
      'create them, or allow "no-owner"',
    )
  }
  return withoutSpaces(facts, found)
}

function withoutSpaces({ tablespace, tablespaces }: RestoreFacts, found: Survey): string[] {
  const warnings: string[] = []
  const spaces = tablespaces.filter(name => !found.tablespaces.has(name))
  if (spaces.length > 0)
    warnings.push(`the tablespaces ${spaces.join(', ')} are missing: everything goes into the default one`)
  if (found.state === 'absent' && tablespace !== undefined && !found.usableSpaces.has(tablespace))
    warnings.push(
      `the database does not go into the tablespace ${tablespace}, which ${found.tablespaces.has(tablespace) ? 'this role may not use' : 'is missing'}`,
    )
  return warnings
}
