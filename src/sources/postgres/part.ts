import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { ArtifactRecord } from '../../model/manifest.ts'
import type { ArtifactReader } from '../../model/restore.ts'
import { connect } from './connect.ts'
import { listOf, type Picked, pick, type Relation, showRelation } from './pick.ts'
import { quoteName, quoteText } from './sql.ts'
import type { Survey } from './target.ts'
import { readToc } from './toc.ts'

/** The named tables and schemas, as this target takes them. */
export interface Part {
  readonly relations: readonly Relation[]
  /** Those that are there already. */
  readonly replaces: readonly Relation[]
  /** For pg_restore's --use-list. */
  readonly list: string
  /** Takes foreign keys of tables that stay off the replaced ones, and puts them back in the end. */
  readonly before: readonly string[]
  readonly after: readonly string[]
  readonly warnings: readonly string[]
}

/** Throws a usage Failure for a name that the archive does not have. */
export async function partOf(
  data: ArtifactRecord,
  names: readonly string[],
  found: Survey,
  read: ArtifactReader,
  ctx: Context,
): Promise<Part> {
  const toc = await readToc(read.open(data))
  const picked = pick(toc, names)
  const there = await lookUp(picked, found, ctx)
  const entries = new Set(picked.entries)
  for (const [name, id] of picked.schemas) if (!found.schemas.has(name)) entries.add(id)
  const schemas = toc
    .filter(({ kind, tag }) => kind === 'SCHEMA' && found.schemas.has(tag))
    .map(({ id }) => id)
  if (found.state !== 'used')
    for (const id of picked.prerequisites) if (!schemas.includes(id)) entries.add(id)
  const warnings: string[] = []
  for (const { entry, to } of picked.ties) {
    const missing = to.filter(each => !there.has(each))
    if (missing.length === 0) entries.add(entry.id)
    else
      warnings.push(
        `${entry.tag} (${entry.kind}) is left out: ${missing.map(showRelation).join(', ')} is not there`,
      )
  }
  return {
    relations: picked.relations,
    replaces: picked.relations.filter(each => there.has(each)),
    list: listOf(toc, entries),
    before: there.keys.map(({ table, name }) => `ALTER TABLE ${table} DROP CONSTRAINT ${quoteName(name)}`),
    after: there.keys.map(
      ({ table, name, definition }) => `ALTER TABLE ${table} ADD CONSTRAINT ${quoteName(name)} ${definition}`,
    ),
    warnings,
  }
}

interface ForeignKey {
  readonly table: string
  readonly name: string
  readonly definition: string
}

/** Which of the relations the target has, and the foreign keys of its other tables that point at them. */
async function lookUp({ relations, ties }: Picked, found: Survey, ctx: Context) {
  const all = [...relations, ...ties.flatMap(({ to }) => to)]
  const none = { has: (_: Relation) => false, keys: [] as ForeignKey[] }
  if (found.state === 'absent' || all.length === 0) return none
  await using db = await connect(found.connection, 'cairn', ctx)
  const present = await db.rows<{ schema: string; name: string; oid: number }>(
    `SELECT n.nspname::text AS schema, c.relname::text AS name, c.oid::int8 AS oid FROM pg_catalog.pg_class c
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE (n.nspname, c.relname) IN (${all.map(valuesOf).join(', ')}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')`,
  )
  const key = ({ schema, name }: Relation): string => JSON.stringify([schema, name])
  const oids = new Map(present.map(row => [key(row), row.oid]))
  const ours = relations.flatMap(each => oids.get(key(each)) ?? [])
  const keys = await db.rows<ForeignKey>(
    `SELECT conrelid::regclass::text AS table, conname::text AS name, pg_get_constraintdef(oid) AS definition
       FROM (SELECT set_config('search_path', '', false)) s, pg_catalog.pg_constraint
      WHERE contype = 'f' AND conparentid = 0 AND confrelid = ANY($1) AND conrelid <> ALL($1)`,
    [ours],
  )
  return { has: (each: Relation) => oids.has(key(each)), keys }
}

function valuesOf({ schema, name }: Relation): string {
  return `(${quoteText(schema)}, ${quoteText(name)})`
}

/** Throws a usage Failure where a table is there and nobody said that it may be replaced. */
export function mayReplace(part: Part, replace: boolean, target: string): void {
  if (part.replaces.length === 0 || replace) return
  throw usage(
    `cannot restore into ${target}`,
    `${part.replaces.map(showRelation).join(', ')} is there already`,
    'give consent to replace it, or restore beside: --to …/newname',
  )
}
