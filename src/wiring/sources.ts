// What the configuration calls a source, opened; and what brings its backups back.

import { basename } from 'node:path'
import type { Config, JobConfig, MemberConfig, PartConfig, SourceConfig } from '../config/schema.ts'
import { damage, usage } from '../model/failure.ts'
import type { Manifest } from '../model/manifest.ts'
import type { Restorer } from '../model/restore.ts'
import type { Source } from '../model/source.ts'
import {
  beginsAsDatabase,
  type FileOwner,
  type RestorableMember,
  restorers,
  sources,
} from '../sources/index.ts'
import { gzipStage } from '../stages/index.ts'
import { storeFolders } from './stores.ts'

export function openSource(options: SourceConfig, config: Config): Source {
  return options.type === 'archive'
    ? openArchive(options.name, options.members, config)
    : openPart(options, config)
}

function openArchive(name: string, members: readonly MemberConfig[], config: Config): Source {
  return sources.archive(
    name,
    members.map(member => ({
      name: member.name,
      source: openPart(member.source, config, true),
      isFolder: member.source.type === 'mongodb' && member.source.layout === 'directory',
      optional: member.optional,
      required: member.required,
      steps: member.gzip ? [gzipStage().encode()] : [],
    })),
  )
}

/** `isPart`: of an archive. */
function openPart(options: PartConfig, config: Config, isPart = false): Source {
  if (options.type === 'postgres') return sources.postgres(options, isPart)
  if (options.type === 'mariadb') return sources.mariadb(options)
  if (options.type === 'mysql') return sources.mysql(options)
  if (options.type === 'mongodb') return sources.mongodb(options)
  if (options.type === 'sqlite') return sources.sqlite(options)
  if (options.type === 'file') return sources.file(options)
  return sources.files(options, storeFolders(config))
}

export function openRestorer(manifest: Manifest, to: string | null, config: Config): Restorer {
  const { engine } = manifest.source
  const own = ownSource(manifest, config)
  if (engine === 'postgres') return restorers.postgres(to, own?.type === 'postgres' ? own : null)
  if (engine === 'mariadb' || engine === 'mysql')
    return restorers[engine](to, own?.type === engine ? own : null)
  if (engine === 'mongodb') return restorers.mongodb(to, own?.type === 'mongodb' ? own : null)
  if (engine === 'sqlite') return restorers.sqlite(to)
  if (engine === 'files') return restorers.files(to, storeFolders(config))
  if (engine === 'file') return restorers.file(to, ...placeOf(manifest))
  if (engine === 'archive') return openArchiveRestorer(manifest, to, own, config)
  throw usage(
    `cannot restore ${manifest.id}`,
    `this Cairn does not know the engine "${engine}"`,
    'use a newer Cairn',
  )
}

/** Where a file was, and whose; no more rights than those to read, write and run it. */
function placeOf({ id, source: { options } }: Manifest): [path: string, owner: FileOwner] {
  const { path, mode, uid, gid } = options
  if (typeof path !== 'string')
    throw damage(`cannot restore ${id}`, 'its manifest does not tell where the file was')
  const number = (value: unknown): number | undefined => (typeof value === 'number' ? value : undefined)
  return [
    path,
    { mode: typeof mode === 'number' ? mode & 0o777 : undefined, uid: number(uid), gid: number(gid) },
  ]
}

/** Without the job, or when a person says where to, the archive's members are put there as they are. */
function openArchiveRestorer(
  manifest: Manifest,
  to: string | null,
  own: SourceConfig | null,
  config: Config,
): Restorer {
  if (to !== null) return restorers.unpacked(to, storeFolders(config))
  if (own?.type === 'archive')
    return restorers.archive(own.members.flatMap(member => restorable(member, config)))
  throw usage(
    `cannot restore ${manifest.id}`,
    `the configuration has no job ${manifest.job} that says where its parts go`,
    'say --to FOLDER: the parts are put there as they are',
  )
}

/** A member, and how it is brought back. */
export function restorable({ name, source, gzip }: MemberConfig, config: Config): RestorableMember {
  const undo = gzip ? [gzipStage().decode()] : []
  const common = { name, undo, role: 'data' as const, options: {} }
  if (source.type === 'postgres') {
    const { globals, format, database } = source
    const media = globals === 'only' || format === 'plain' ? 'sql' : `pg_dump-${format}`
    return {
      ...common,
      ...{ unit: database ?? 'postgres', artifact: `postgres/${name}` },
      role: globals === 'only' ? 'globals' : 'data',
      by: () => ({ engine: 'postgres', media, restorer: restorers.postgres(null, source) }),
    }
  }
  if (source.type === 'mariadb' || source.type === 'mysql') {
    const { type } = source
    return {
      ...common,
      ...{ unit: source.database ?? name, artifact: `${type}/${name}` },
      by: () => ({ engine: type, media: 'sql', restorer: restorers[type](null, source) }),
    }
  }
  if (source.type === 'mongodb') {
    const named = source.database ?? source.databases
    const media = source.layout === 'archive' ? 'mongodump-archive' : 'mongodump-directory'
    return {
      ...common,
      ...{ unit: name, artifact: `mongodb/${name}`, isFolder: source.layout === 'directory' },
      // None: those that the URI names, or that are found in the member.
      options: { databases: named === undefined || named === 'all' ? [] : [named].flat() },
      by: () => ({ engine: 'mongodb', media, restorer: restorers.mongodb(null, source) }),
    }
  }
  if (source.type === 'files') return restorableFiles(common, source, config)
  const { path } = source
  return {
    ...common,
    ...{ unit: path, artifact: `sqlite/${basename(path)}`, options: { path } },
    by: content => byContent(path, source.type === 'sqlite' || beginsAsDatabase(content)),
  }
}

/** A database is written into by SQLite itself: programs that have it open see the old content or the new. */
function byContent(path: string, isDatabase: boolean): ReturnType<RestorableMember['by']> {
  return isDatabase
    ? { engine: 'sqlite', media: 'sqlite', restorer: restorers.sqlite(path) }
    : { engine: 'file', media: 'file', restorer: restorers.file(null, path) }
}

function restorableFiles(
  common: Pick<RestorableMember, 'name' | 'undo' | 'role'>,
  { paths, withName }: Extract<PartConfig, { type: 'files' }>,
  config: Config,
): RestorableMember {
  const [first] = paths
  const path = typeof first === 'string' ? first : (first?.path ?? '/')
  const own = basename(path) || 'root'
  return {
    ...common,
    ...{ unit: path, artifact: `files/${own}.tar` },
    options: { withName, paths: [{ name: own, path, kind: 'folder' }] },
    by: () => ({ engine: 'files', media: 'tar', restorer: restorers.files(null, storeFolders(config)) }),
  }
}

/** The configured source that a backup was made of; null where that is not certain. */
export function ownSource(manifest: Manifest, config: Config): SourceConfig | null {
  const job = jobOf(manifest.job, config)
  const candidates = job ? sourcesOf(job).filter(source => source.type === manifest.source.engine) : []
  return candidates.length === 1 ? (candidates[0] ?? null) : null
}

/** The job that has this name, or had it. */
export function jobOf(name: string, config: Config): JobConfig | undefined {
  return config.jobs[name] ?? Object.values(config.jobs).find(({ formerly }) => formerly?.includes(name))
}

export function sourcesOf({ source, sources }: JobConfig): SourceConfig[] {
  return sources ?? (source ? [source] : [])
}
