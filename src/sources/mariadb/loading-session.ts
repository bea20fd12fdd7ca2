import { withoutTimeouts } from './ask.ts'
import { seriesOf } from './clients.ts'
import type { Reached } from './server.ts'

/** Who may change what a MySQL session is restricted in. */
const restricted = /\b(ALL PRIVILEGES|SUPER|SYSTEM_VARIABLES_ADMIN|SESSION_VARIABLES_ADMIN)\b.* ON \*\.\*/

/**
 * What a session is set to that takes in a dump, beside what the dump itself says: a server's defaults, or its init_connect,
 * would make other tables of it, or keep them out.
 *
 * - `explicit_defaults_for_timestamp`: else a `timestamp NOT NULL` gets the time of each change as its value.
 * - `character_set_collations`, MySQL's `default_collation_for_utf8mb4`: an older server's dump names no collation where it is
 *   the one that the character set was born with.
 * - `autocommit`: rows that nobody commits are gone with the session.
 *
 * `source`: the version of the server that was dumped; '' where it is not known.
 */
export function loadingSession({ facts, connection }: Reached, source: string): string {
  const lines = [
    'SET NAMES utf8mb4;',
    'SET SESSION foreign_key_checks = 0, unique_checks = 0, autocommit = 1;',
    'SET SESSION TRANSACTION READ WRITE;',
    '/*!80000 SET SESSION explicit_defaults_for_timestamp = 1 */;',
    `/*M!${explicitSince(facts.version)} SET SESSION explicit_defaults_for_timestamp = 1 */;`,
    `/*M!110201 SET SESSION character_set_collations = '' */;`,
  ]
  const [major] = seriesOf(source)
  if (connection.flavour === 'mysql' && major > 0 && major < 8)
    lines.push('/*!80011 SET SESSION default_collation_for_utf8mb4 = utf8mb4_general_ci */;')
  if (connection.flavour === 'mysql' && mayUnrestrict(facts.grants))
    lines.push(
      '/*!80013 SET SESSION sql_require_primary_key = 0 */;',
      '/*!80030 SET SESSION sql_generate_invisible_primary_key = 0 */;',
    )
  return `${lines.join('\n')}\n${withoutTimeouts}`
}

/** From which version on it may be changed: MariaDB brought that to its older series, too. */
function explicitSince(version: string): string {
  const [, series, patch] = /^(10\.\d+)\.(\d+)/.exec(version) ?? []
  const since: Readonly<Record<string, readonly [number, string]>> = {
    '10.5': [17, '100517'],
    '10.6': [9, '100609'],
    '10.7': [5, '100705'],
  }
  const [least, number] = since[series ?? ''] ?? [Number.POSITIVE_INFINITY, '']
  return Number(patch) >= least ? number : '100804'
}

/** What such a session cannot be freed of, in sentences. */
export function leftOver({ facts, connection }: Reached): string[] {
  if (connection.flavour !== 'mysql' || mayUnrestrict(facts.grants) || !facts.makesKeys) return []
  return [
    'sql_generate_invisible_primary_key is on at the target, and this user may not turn it off: tables without a primary key get a column my_row_id (GRANT SESSION_VARIABLES_ADMIN)',
  ]
}

function mayUnrestrict(grants: readonly string[]): boolean {
  return grants.some(grant => restricted.test(grant))
}
