import { statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import type { ContentCheck } from '../model/content.ts'
import { usage } from '../model/failure.ts'
import type { ArtifactRecord } from '../model/manifest.ts'
import type { Restorer } from '../model/restore.ts'
import type { Source } from '../model/source.ts'
import { secretSource } from '../platform/secret-source.ts'
import { archiveCheck, type CheckedMember, lookAtTar } from './archive/contents.ts'
import { type ArchiveMember, archiveSource } from './archive/index.ts'
import { archiveRestorer, type RestorableMember, unpackingRestorer } from './archive/restorer.ts'
import { FilesOptions, filesSource } from './files/index.ts'
import { filesRestorer } from './files/restorer.ts'
import { lookAtDump } from './mariadb/ending.ts'
import { MariadbOptions, mariadbRestorer, mariadbSource } from './mariadb/index.ts'
import { MongodbOptions, mongodbRestorer, mongodbSource } from './mongodb/index.ts'
import { FileOptions, type FileOwner, fileRestorer, fileSource } from './one-file.ts'
import { lookAtScript } from './postgres/ending.ts'
import { PostgresOptions, postgresRestorer, postgresSource } from './postgres/index.ts'
import { SqliteOptions, sqliteSource } from './sqlite/index.ts'
import { sqliteRestorer } from './sqlite/restorer.ts'

export { beginsAsDatabase } from './one-file.ts'
export type { CheckedMember, FileOwner, RestorableMember }
export { archiveCheck }

/** Every source there is. To add one: its folder, a line in each table here and in the schema, its contract test (CONTRIBUTING.md). */
export const sourceOptions = {
  postgres: PostgresOptions,
  mariadb: MariadbOptions,
  mysql: MariadbOptions,
  mongodb: MongodbOptions,
  sqlite: SqliteOptions,
  files: FilesOptions,
  file: FileOptions,
} as const

export const sources = {
  postgres: (options: PostgresOptions, isPart = false): Source => postgresSource(options, isPart),
  mariadb: (options: MariadbOptions): Source => mariadbSource('mariadb', options),
  mysql: (options: MariadbOptions): Source => mariadbSource('mysql', options),
  mongodb: (options: MongodbOptions): Source => mongodbSource(options),
  sqlite: (options: SqliteOptions): Source => sqliteSource(options),
  /** `apart`: folders that are no part of it, by whatever path they are reached. */
  files: (options: FilesOptions, apart: readonly string[]): Source => filesSource(options, apart),
  file: (options: FileOptions): Source =>
    fileSource(options, () => sqliteSource({ path: options.path, allowEmpty: true })),
  archive: (name: string, members: readonly ArchiveMember[]): Source => archiveSource(name, members),
} as const

/** Where the servers of a source's databases are: those with a host. */
export const servers = {
  async postgres(options: PostgresOptions): Promise<{ host: string; port: number }[]> {
    const { placesOf, resolveConnection } = await import('./postgres/connection.ts')
    return placesOf(await resolveConnection(options)).map(({ host, address, port }) => ({
      host: address ?? host,
      port,
    }))
  },
  async mariadb(options: MariadbOptions): Promise<{ host: string; port: number }[]> {
    const { resolveConnection } = await import('./mariadb/connection.ts')
    const { host, fallbackHost, port = 3306 } = await resolveConnection('mariadb', options)
    const known = host ?? fallbackHost
    return known === undefined ? [] : [{ host: known, port }]
  },
  async mongodb({ uri }: MongodbOptions): Promise<{ host: string; port: number }[]> {
    const [, hosts = ''] = /^mongodb:\/\/(?:[^/]*@)?([^/?]*)/.exec((await uri.read()).reveal()) ?? []
    return hosts.split(',').map(each => {
      const [, host = '', port = '27017'] = /^\[?(.*?)\]?(?::(\d+))?$/.exec(each) ?? []
      return { host, port: Number(port) }
    })
  },
} as const

/**
 * What brings back the backups of an engine, as manifests name it. `to` is where a person wants it (a URL or a path); null: where
 * it came from, as the job's own options say, which are null on a machine without that job.
 */
export const restorers = {
  postgres: (to: string | null, own: PostgresOptions | null): Restorer =>
    postgresRestorer({
      target: to === null ? undefined : secretSource(to),
      source: own ?? undefined,
      clients: own?.clients,
    }),
  mariadb: (to: string | null, own: MariadbOptions | null): Restorer => ofFlavour('mariadb', to, own),
  mysql: (to: string | null, own: MariadbOptions | null): Restorer => ofFlavour('mysql', to, own),
  mongodb: (to: string | null, own: MongodbOptions | null): Restorer =>
    mongodbRestorer({ target: to === null ? undefined : secretSource(to), source: own?.uri }),
  sqlite: (to: string | null): Restorer => sqliteRestorer(to === null ? {} : { to: pathOf(to) }),
  files: (to: string | null, protect: readonly string[]): Restorer =>
    filesRestorer({ protect, ...(to === null ? {} : { to: pathOf(to) }) }),
  /** `path`: where it was. */
  file: (to: string | null, path: string, owner?: FileOwner): Restorer =>
    fileRestorer(to === null ? path : inFolder(pathOf(to), basename(path)), owner),
  archive: (members: readonly RestorableMember[]): Restorer => archiveRestorer(members),
  /** The members of an archive, put into a folder as they are. */
  unpacked: (folder: string, protect: readonly string[]): Restorer =>
    unpackingRestorer(filesRestorer({ to: resolve(pathOf(folder)), protect })),
} as const

/**
 * What looks at the plain bytes of an artifact, by its engine and kind; null for kinds whose bytes do not tell whether they are
 * whole. `archive`: what looks at one, by what is known of its members.
 */
export function contentCheck(
  engine: string,
  { media, role }: Pick<ArtifactRecord, 'media' | 'role'>,
  archive: () => ContentCheck,
): ContentCheck | null {
  if (media === 'archive') return archive()
  if (media === 'tar' || media === 'pg_dump-directory') return lookAtTar
  if (media !== 'sql') return null
  const isDump = role === 'data'
  if (engine === 'postgres') return bytes => lookAtScript(bytes, isDump)
  return engine === 'mariadb' || engine === 'mysql' ? bytes => lookAtDump(bytes, isDump) : null
}

/** Throws a usage Failure for a URL: as a path it would make a folder that is named like a password. It is not repeated. */
function pathOf(to: string): string {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(to)) return to
  throw usage(
    'cannot restore to a URL',
    'this backup is of files, which are restored to a folder or a file',
    'give a path: --to /path; `cairn list` shows what each backup is of',
  )
}

/** As cp does: below a folder that is there, else the path itself. */
function inFolder(to: string, name: string): string {
  return statSync(to, { throwIfNoEntry: false })?.isDirectory() ? join(to, name) : to
}

function ofFlavour(flavour: 'mariadb' | 'mysql', to: string | null, own: MariadbOptions | null): Restorer {
  return mariadbRestorer(flavour, {
    target: to === null ? undefined : secretSource(to),
    source: own ?? undefined,
    clients: own?.clients,
  })
}
