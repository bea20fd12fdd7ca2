import { Writable } from 'node:stream'
import * as z from 'zod'
import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { ArtifactRecord, Manifest } from '../../model/manifest.ts'
import type { ArtifactReader } from '../../model/restore.ts'
import { suggest } from '../../model/suggest.ts'
import { nothingMet, redirect } from './redirect.ts'
import { holdsOwn, ownRoute } from './server-tables.ts'
import { showName } from './sql.ts'

const Census = z.looseObject({ objects: z.array(z.looseObject({ name: z.string() })) })

/**
 * Throws a usage Failure for a database or table that was asked for and that the backup's own lists do not have, before
 * anything is made. What has no list is only known when the dump is read.
 */
export async function demandKnown(
  manifest: Manifest,
  wanted: ReadonlyMap<string, ReadonlySet<string> | undefined>,
  read: ArtifactReader,
  ctx: Context,
): Promise<void> {
  const { databases, scope } = manifest.source.options
  const listed = Array.isArray(databases) ? databases.map(String) : null
  const strange = listed && [...wanted.keys()].find(name => !listed.includes(name))
  if (strange) throw unknown(strange, 'database', listed)
  // A list that would be too long is left out.
  const several = scope === 'whole' && listed?.length !== 1
  const names = [...wanted].flatMap(([database, tables]) =>
    [...(tables ?? [])].map(table =>
      several ? `${showName(database)}.${showName(table)}` : showName(table),
    ),
  )
  const objects = names.length > 0 ? await censusOf(manifest, read, ctx) : null
  if (objects === null) return
  const lost = names.find(name => !objects.has(name) && !objects.has(`sequence ${name}`))
  if (lost === undefined) return
  if (objects.has(`view ${lost}`))
    throw usage(`cannot restore only ${lost}`, 'it is a view', 'restore the whole database')
  const known = [...objects].flatMap(name =>
    /^(view|function|procedure|event|trigger|package( body)?) /.test(name)
      ? []
      : name.replace(/^sequence /, ''),
  )
  throw unknown(lost, 'table', known)
}

function unknown(name: string, what: string, known: readonly string[]) {
  const meant = suggest(name, known)
  const more = known.length > 30 ? ` and ${known.length - 30} more` : ''
  return usage(
    `cannot restore only ${name}`,
    `the backup has no such ${what}`,
    meant ? `did you mean ${meant}?` : `it has ${known.slice(0, 30).join(', ')}${more}`,
  )
}

/** The names in the census; null where there is none that can be read: the data may be sound all the same. */
async function censusOf(
  { artifacts }: Manifest,
  read: ArtifactReader,
  ctx: Context,
): Promise<ReadonlySet<string> | null> {
  const record = artifacts.find(({ role }) => role === 'census')
  if (!record) return null
  try {
    const chunks: Uint8Array[] = []
    for await (const chunk of read.open(record)) chunks.push(chunk)
    const { objects } = Census.parse(JSON.parse(Buffer.concat(chunks).toString('utf8')))
    return new Set(objects.map(({ name }) => name))
  } catch {
    ctx.signal.throwIfAborted()
    return null
  }
}

/**
 * The databases that a dump of several makes, those of the server itself too, and whether accounts stand in it, as statements or
 * as tables: another tool's has no list. Reads all of it.
 */
export async function surveyDump(
  data: ArtifactRecord,
  read: ArtifactReader,
  ctx: Context,
): Promise<{ readonly databases: string[]; readonly hasAccounts: boolean; readonly hasOwn: boolean }> {
  const found = new Set<string>()
  const met = nothingMet()
  const nothing = new Writable({ write: (_chunk, _encoding, done) => done() })
  const route = (database: string) => {
    found.add(database)
    return database === 'mysql' ? ownRoute(database) : undefined
  }
  const filter = redirect({ unit: '', route, late: nothing, makesDatabases: true }, met)
  for await (const _ of filter.run(read.open(data), ctx));
  return {
    databases: [...found].filter(name => name !== ''),
    hasAccounts: met.accounts.isThere,
    hasOwn: holdsOwn(met.databases.get('mysql')?.tables),
  }
}
