import { usage } from '../../model/failure.ts'
import { editDistance } from '../../model/suggest.ts'
import { nameOf, quoteName, tokensOf } from './sql.ts'
import type { TocEntry } from './toc.ts'

/** A table or the like, by its true names. */
export interface Relation {
  readonly schema: string
  readonly name: string
}

/** What of an archive belongs to the named tables and schemas. */
export interface Picked {
  /** The tables, views and sequences among it. */
  readonly relations: readonly Relation[]
  /** The numbers of its entries. */
  readonly entries: ReadonlySet<number>
  /** Schemas that must be there, with the entry that makes each. */
  readonly schemas: ReadonlyMap<string, number>
  /** What must be there too: types, functions, extensions, and their schemas. They are brought only where there is nothing yet. */
  readonly prerequisites: ReadonlySet<number>
  /** Entries that tie a picked table to others that are not picked: foreign keys, partitions. */
  readonly ties: readonly { readonly entry: TocEntry; readonly to: readonly Relation[] }[]
}

const relationKinds = new Set(['TABLE', 'VIEW', 'MATERIALIZED VIEW', 'FOREIGN TABLE', 'SEQUENCE'])

/** What belongs to whatever it needs. */
const belongings = new Set([
  ...['TABLE DATA', 'MATERIALIZED VIEW DATA', 'STATISTICS DATA', 'SEQUENCE', 'SEQUENCE OWNED BY'],
  ...['SEQUENCE SET', 'INDEX', 'STATISTICS', 'COMMENT', 'ACL', 'SECURITY LABEL'],
])

/** What belongs to one table, whose name begins its tag, and may need others. */
const tableParts = new Set([
  ...['DEFAULT', 'CONSTRAINT', 'CHECK CONSTRAINT', 'FK CONSTRAINT', 'TRIGGER', 'RULE', 'POLICY'],
  ...['ROW SECURITY', 'TABLE ATTACH'],
])

/** Whatever these say is about something outside of the database's schemas. */
const never = new Set(['PUBLICATION TABLE', 'PUBLICATION TABLES IN SCHEMA'])

/**
 * Picks what the names mean: `table`, `schema.table`, `schema`; as SQL writes them, or as they are. Throws a usage
 * Failure for a name that means nothing or several things.
 */
export function pick(toc: readonly TocEntry[], names: readonly string[]): Picked {
  const byId = new Map(toc.map(entry => [entry.id, entry]))
  const chosen = new Set<number>()
  for (const name of names) for (const entry of meant(toc, name)) chosen.add(entry.id)
  grow(toc, byId, chosen)
  const ties = separateTies(toc, byId, chosen)
  const relations = [...chosen].flatMap(id => relationOf(byId.get(id)) ?? [])
  const schemas = new Map(
    toc
      .filter(({ kind, tag }) => kind === 'SCHEMA' && relations.some(({ schema }) => schema === tag))
      .map(({ id, tag }) => [tag, id]),
  )
  for (const id of schemas.values()) chosen.delete(id)
  return { relations, entries: chosen, schemas, prerequisites: needed(byId, chosen), ties }
}

function relationOf(entry: TocEntry | undefined): Relation | null {
  return entry && relationKinds.has(entry.kind) ? { schema: entry.schema ?? '', name: entry.tag } : null
}

/** The entries that a name means, without what belongs to them. */
function meant(toc: readonly TocEntry[], name: string): TocEntry[] {
  const relations = toc.filter(entry => relationKinds.has(entry.kind))
  const parts = asIdentifiers(name)
  const wanted = [
    (entry: TocEntry) => entry.tag === name || `${entry.schema}.${entry.tag}` === name,
    (entry: TocEntry) => parts?.length === 1 && entry.tag === parts[0],
    (entry: TocEntry) => parts?.length === 2 && entry.schema === parts[0] && entry.tag === parts[1],
  ]
  for (const fits of wanted) {
    const found = relations.filter(fits)
    if (found.length > 1)
      throw usage(
        `cannot restore only "${name}"`,
        `there are several: ${found.map(showEntry).join(', ')}`,
        'name one of them',
      )
    if (found.length === 1) return found
  }
  const schema = [name, parts?.length === 1 ? parts[0] : undefined]
  for (const each of schema) {
    const inside = toc.filter(entry => entry.schema === each && !never.has(entry.kind))
    if (each !== undefined && inside.length > 0)
      return [...inside, ...toc.filter(entry => entry.kind === 'SCHEMA' && entry.tag === each)]
  }
  throw unknownName(name, relations)
}

/** `app."Odd ""one"""` as its names; null where it is no list of names. */
function asIdentifiers(text: string): string[] | null {
  const tokens = tokensOf(text)
  const names = tokens.filter((_, index) => index % 2 === 0).map(nameOf)
  const dots = tokens.filter((_, index) => index % 2 === 1)
  if (tokens.length % 2 === 0 || dots.some(dot => dot.text !== '.') || names.includes(null)) return null
  return names as string[]
}

function unknownName(name: string, relations: readonly TocEntry[]) {
  const schemas = [...new Set(relations.map(({ schema }) => schema ?? ''))]
  const known = [...relations.map(showEntry), ...schemas.map(showName)]
  const short = (text: string): string => text.replace(/^.*\./s, '').toLowerCase()
  const near = known
    .map(each => ({ each, whole: editDistance(each, name), last: editDistance(short(each), short(name)) }))
    .map(({ each, whole, last }) => ({ each, whole, far: Math.min(whole, last) }))
    .filter(({ far }) => far <= Math.max(2, name.length / 3))
    .sort((a, b) => a.far - b.far || a.whole - b.whole)
    .slice(0, 5)
    .map(({ each }) => each)
  const hint =
    near.length > 0
      ? `did you mean ${near.join(' or ')}?`
      : `it has ${known.slice(0, 30).join(', ')}${known.length > 30 ? ` and ${known.length - 30} more` : ''}`
  return usage(`cannot restore only "${name}"`, 'the backup has no such table or schema', hint)
}

function showEntry({ schema, tag }: TocEntry): string {
  return `${showName(schema ?? '')}.${showName(tag)}`
}

export function showRelation({ schema, name }: Relation): string {
  return `${showName(schema)}.${showName(name)}`
}

function showName(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : quoteName(name)
}

/** Adds what belongs to the chosen ones, and what belongs to that. */
function grow(toc: readonly TocEntry[], byId: ReadonlyMap<number, TocEntry>, chosen: Set<number>): void {
  for (let before = -1; before !== chosen.size; ) {
    before = chosen.size
    for (const entry of toc) {
      if (chosen.has(entry.id) || never.has(entry.kind)) continue
      if (belongings.has(entry.kind) && entry.needs.some(id => chosen.has(id))) chosen.add(entry.id)
      const own = tableParts.has(entry.kind) ? ownTable(entry, byId) : undefined
      if (own && chosen.has(own.id)) chosen.add(entry.id)
      // The partitions of a table are its rows.
      if (entry.kind === 'TABLE ATTACH' && own && entry.needs.some(id => id !== own.id && chosen.has(id)))
        chosen.add(own.id).add(entry.id)
      if (entry.kind === 'INDEX ATTACH' && entry.needs.every(id => chosen.has(id))) chosen.add(entry.id)
    }
  }
}

/** The table or view that a constraint, trigger, … is part of: of those that it needs the one whose name its tag begins with. */
function ownTable(entry: TocEntry, byId: ReadonlyMap<number, TocEntry>): TocEntry | undefined {
  return entry.needs
    .flatMap(id => byId.get(id) ?? [])
    .filter(({ kind, schema }) => relationKinds.has(kind) && kind !== 'SEQUENCE' && schema === entry.schema)
    .filter(({ tag }) => entry.tag === tag || entry.tag.startsWith(`${tag} `))
    .sort((a, b) => b.tag.length - a.tag.length)[0]
}

/** Takes out of the chosen what needs tables that are not chosen. */
function separateTies(
  toc: readonly TocEntry[],
  byId: ReadonlyMap<number, TocEntry>,
  chosen: Set<number>,
): Picked['ties'] {
  return toc.flatMap(entry => {
    if (!chosen.has(entry.id) || !['FK CONSTRAINT', 'TABLE ATTACH'].includes(entry.kind)) return []
    const others = entry.needs
      .map(id => byId.get(id))
      .filter(needed => needed?.kind === 'TABLE' && !chosen.has(needed.id))
    const to = others.flatMap(needed => relationOf(needed) ?? [])
    if (to.length === 0) return []
    chosen.delete(entry.id)
    return [{ entry, to }]
  })
}

/** What the chosen ones need, directly or not, other than tables. */
function needed(byId: ReadonlyMap<number, TocEntry>, chosen: ReadonlySet<number>): Set<number> {
  const found = new Set<number>()
  const visit = (id: number): void => {
    for (const need of byId.get(id)?.needs ?? []) {
      const entry = byId.get(need)
      if (!entry || chosen.has(need) || found.has(need)) continue
      if (relationKinds.has(entry.kind) || / DATA$|^(CONSTRAINT|INDEX)$/.test(entry.kind)) continue
      found.add(need)
      visit(need)
    }
  }
  for (const id of chosen) visit(id)
  return found
}

/** The list of entries that pg_restore takes with --use-list: in the order of the archive. */
export function listOf(toc: readonly TocEntry[], entries: ReadonlySet<number>): string {
  return toc
    .filter(({ id }) => entries.has(id))
    .map(({ id }) => `${id};\n`)
    .join('')
}
