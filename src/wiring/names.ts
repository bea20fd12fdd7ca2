// How the objects of a job are named that names them itself, and what is in those that are found by their names.

import type { Config, JobConfig, SourceConfig } from '../config/schema.ts'
import type { NamedObjects } from '../engine/foreign.ts'
import type { Job } from '../model/job.ts'
import { nativeNaming, patternNaming } from '../model/key.ts'
import { type KeyPattern, keyPattern } from '../model/key-pattern.ts'
import { localZone } from '../platform/zone.ts'
import { sourcesOf } from './sources.ts'

export function zoneOf(said: string | undefined): string {
  return said ?? localZone()
}

function patternOf({ key }: JobConfig, timezone: string | undefined): KeyPattern | null {
  if (!key) return null
  return keyPattern(key.name, { zone: key.timezone ?? zoneOf(timezone), plain: key.plain })
}

export function namingOf(
  job: JobConfig,
  timezone: string | undefined,
): Pick<Job, 'naming' | 'pattern' | 'units'> {
  const pattern = patternOf(job, timezone)
  if (!pattern) return { naming: nativeNaming }
  const units = pattern.namesUnit ? unitsOf(job) : null
  return {
    naming: patternNaming(pattern, job.key?.suffix !== false),
    pattern,
    ...(units ? { units } : {}),
  }
}

/** What the backups of a source are called, where it is one thing; null where the configuration does not tell. */
function unitOf(source: SourceConfig): string | null {
  if (source.type === 'archive') return source.name
  if (source.type === 'files') return 'files'
  if ('whole' in source && source.whole) return 'all'
  const [only, second] = 'databases' in source && Array.isArray(source.databases) ? source.databases : []
  if (only !== undefined && second === undefined) return only
  return ('database' in source && source.database) || null
}

/** Null where the server says what there is to back up. */
function unitsOf(job: JobConfig): readonly string[] | null {
  const named = sourcesOf(job).map(source =>
    'databases' in source && Array.isArray(source.databases) ? source.databases : null,
  )
  return named.some(names => names === null) ? null : named.flatMap(names => names ?? [])
}

/** Of jobs that name their objects and have one source: what is in them follows from it. */
export function namedObjects(config: Config): NamedObjects[] {
  return Object.entries(config.jobs).flatMap(([job, own]) => {
    const pattern = patternOf(own, own.timezone ?? config.defaults.timezone)
    const [source, second] = sourcesOf(own)
    if (!pattern || !source || second) return []
    const to = own.to ?? config.defaults.to ?? []
    const encryption = own.encryption ?? config.defaults.encryption ?? config.encryption
    const units = unitsOf(own)
    const sealed = encryption !== undefined && encryption !== 'none' && encryption.aespipe !== undefined
    return {
      ...{ job, pattern, engine: source.type, media: mediaOf(source), unit: unitOf(source) ?? job },
      stores: to.map(each => (typeof each === 'string' ? each : each.store)),
      // aespipe is the one whose output nothing tells from random bytes.
      stages: sealed ? [{ name: 'gzip' }, { name: 'aespipe' }] : [{ name: 'detect' }],
      undo: '',
      ...(units ? { units } : {}),
      facts: (unit: string) => factsOf(source, unit),
    }
  })
}

/** What the restorers want to know of a dump, as far as the configuration tells. */
function factsOf(source: SourceConfig, unit: string): ReturnType<NamedObjects['facts']> {
  if (source.type === 'postgres')
    return { artifact: source.whole ? 'postgres/all.sql' : `postgres/${unit}`, options: {} }
  const artifact = `${source.type}/${unit}`
  if (source.type !== 'mariadb' && source.type !== 'mysql') return { artifact, options: {} }
  const named = source.whole || source.createDatabase
  const databases = source.whole ? {} : { databases: [unit] }
  return { artifact, options: named ? { scope: 'whole', ...databases } : {} }
}

function mediaOf(source: SourceConfig): string {
  if (source.type === 'postgres')
    return source.whole || source.format === 'plain' ? 'sql' : `pg_dump-${source.format}`
  if (source.type === 'sqlite') return 'sqlite'
  return source.type === 'files' ? 'tar' : source.type === 'archive' ? 'archive' : 'sql'
}
