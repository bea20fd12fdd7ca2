import type { Context } from '../../model/context.ts'
import { connect } from './connect.ts'
import { listOf } from './pick.ts'
import type { Survey } from './target.ts'
import type { TocEntry } from './toc.ts'

/**
 * The extensions of the target that the restoring role does not own: an administrator has made them, as managed services want it.
 * The role may neither comment on them nor make them anew, and an archive does both. A role that is not there, as the restore may
 * make it first, owns none.
 */
export async function standingExtensions(
  found: Survey,
  role: string | undefined,
  ctx: Context,
): Promise<ReadonlySet<string>> {
  if (found.state === 'absent') return new Set()
  await using db = await connect(found.connection, 'cairn', ctx)
  const rows = await db.rows<{ name: string }>(
    `SELECT extname::text AS name FROM pg_catalog.pg_extension
      WHERE pg_catalog.pg_has_role((SELECT oid FROM pg_catalog.pg_roles WHERE rolname = coalesce($1::text, current_user)),
                                   extowner, 'USAGE') IS NOT TRUE`,
    [role ?? null],
  )
  return new Set(rows.map(({ name }) => name))
}

/** All of the archive but what makes these extensions and comments on them, for pg_restore's --use-list. */
export function listWithout(toc: readonly TocEntry[], extensions: ReadonlySet<string>): string {
  const isOfThem = ({ kind, tag }: TocEntry): boolean =>
    (kind === 'EXTENSION' && extensions.has(tag)) ||
    (kind === 'COMMENT' && /^EXTENSION /.test(tag) && extensions.has(nameIn(tag)))
  return listOf(toc, new Set(toc.flatMap(entry => (isOfThem(entry) ? [] : entry.id))))
}

/** The name in the tag of a comment, which is quoted where SQL wants that. */
function nameIn(tag: string): string {
  const name = tag.slice('EXTENSION '.length)
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name
}
