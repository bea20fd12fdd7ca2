import { existsSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import * as z from 'zod'
import { isDialect, translate } from './config/dialects/index.ts'
import { cleaned } from './config/dialects/variables.ts'
import { findConfig, readConfig } from './config/read.ts'
import {
  Config,
  Containers,
  type ContainersConfig,
  type HooksConfig,
  type JobConfig,
  type KeepConfig,
  type MemberConfig,
  type PartConfig,
  type SourceConfig,
  type StoreConfig,
} from './config/schema.ts'
import { type ContainerOptions, containerGuard } from './containers/index.ts'
import type { NamedObjects } from './engine/foreign.ts'
import { type Hook, type Hooks, hookGuard } from './engine/hooks.ts'
import type { Context } from './model/context.ts'
import type { RunEvent } from './model/event.ts'
import { usage } from './model/failure.ts'
import type { Destination, Job, Retention } from './model/job.ts'
import { nativeNaming, patternNaming } from './model/key.ts'
import { type KeyPattern, keyPattern } from './model/key-pattern.ts'
import type { Manifest } from './model/manifest.ts'
import type { Notifier } from './model/notifier.ts'
import type { Restorer } from './model/restore.ts'
import type { Guard, Source } from './model/source.ts'
import type { Store } from './model/store.ts'
import { webhooks } from './notifiers/index.ts'
import { runContext } from './platform/run-context.ts'
import { openState, type State } from './platform/state.ts'
import { localZone } from './platform/zone.ts'
import { beginsAsDatabase, type RestorableMember, restorers, sources } from './sources/index.ts'
import { type Encryption, gzipStage, type Reading, readingStages, writingStages } from './stages/index.ts'
import { storeOptions, stores } from './stores/index.ts'

const day = 24 * 3_600_000
const defaultStallMs = 10 * 60_000
/** How long a look at public keys may take. */
const keyCheckMs = 60_000
const defaultUndeleteMs = 7 * day

/** When a job runs, and what is expected of it. */
export interface Timing {
  /** Null: only when it is told to. */
  readonly schedule: string | null
  readonly zone: string
  readonly jitterMs: number
  readonly retry: { readonly times: number; readonly afterMs: number }
  /** How often something good must arrive in each of its stores; null: nobody minds. */
  readonly expectMs: number | null
}

/** The configuration turned into things that work. The only place that knows every adapter. */
export interface App {
  readonly config: Config
  readonly state: State
  /** What is odd about the configuration and does no harm. */
  readonly notes: readonly string[]
  /** All jobs, or those named; throws a Failure (exit 2) for a name that is none. */
  jobNames(named: readonly string[]): string[]
  job(name: string): Promise<Job>
  hooks(job: string): Hooks
  /** What stands still while a backup of that job goes back to where it came from; null: nothing. */
  standstill(job: string): Guard | null
  /** Guards that a run which is over, or one that goes on, has entered and not left; also of jobs that are not configured any more. */
  entered(): { readonly job: string; readonly guard: Guard }[]
  /** Who is told what becomes of it. */
  notifiers(job: string): Notifier[]
  timing(job: string): Timing
  /** The stores that get a copy of it. */
  storesOf(job: string): Store[]
  /** All names under which a job's backups were made: its own, and those it had. */
  namesOf(job: string): string[]
  /** Where the objects of jobs are backups by their names alone. */
  readonly named: readonly NamedObjects[]
  /** The configured store of that name, or the one at an address (`/path`, `s3://bucket/prefix`, `rclone:remote:path`). */
  store(nameOrAddress: string): Store
  /** Those named, else all that are configured. */
  stores(named: readonly string[]): Store[]
  destination(store: Store, job: string): Destination
  restorer(manifest: Manifest, to: string | null): Restorer
  /** The stages for reading, with the keys of the configuration and of `identity`, a key file of any kind. */
  reading(identity: string | undefined): Promise<Reading>
  context(signal: AbortSignal, emit: (event: RunEvent) => void, stallMs?: number): Context & Disposable
  close(): Promise<void>
}

/**
 * Opens the configuration and the state folder. In this order: the file that the flag names, `CAIRN_DIALECT`, the file that is
 * found, the environment of a tool that Cairn replaces; none is an empty one: stores can be given by address.
 */
export function openApp(configFlag: string | undefined): App {
  const path = findConfig(configFlag)
  if (configFlag === undefined && (process.env.CAIRN_DIALECT || (path === null && isDialect(process.env))))
    return dialectApp([])
  return appFor(path === null ? Config.parse({}) : readConfig(path), openState())
}

/** The same for who is to run what is configured: throws a Failure that says what is needed where nothing is. `args` follow the name of an image. */
export function appToRun(configFlag: string | undefined, args: readonly string[]): App {
  const path = findConfig(configFlag)
  if (path === null || (configFlag === undefined && process.env.CAIRN_DIALECT)) return dialectApp(args)
  const [first] = args
  if (first !== undefined)
    throw usage(
      `"${first}" means nothing here`,
      'no command of Cairn is called so',
      'cairn --help lists them',
    )
  return openApp(configFlag)
}

function dialectApp(args: readonly string[]): App {
  const { config, warnings } = translate(process.env, args)
  // Secrets are read from the variables when they are needed.
  for (const [name, value] of Object.entries(cleaned(process.env)))
    if (value !== process.env[name] && !name.startsWith('RCLONE_')) process.env[name] = value
  return { ...appFor(config, openState()), notes: warnings }
}

export function appFor(config: Config, state: State): App {
  const opened = new Map<string, Store>()
  const once = (key: string, open: () => Store): Store => {
    const store = opened.get(key) ?? open()
    opened.set(key, store)
    return store
  }
  const store = (named: string): Store => {
    const configured = config.stores[named]
    if (configured) return once(named, () => openStore(named, configured))
    if (/[/:]/.test(named)) return once(named, () => storeAt(named))
    const known = Object.keys(config.stores)
    throw usage(
      `there is no store "${named}"`,
      known.length > 0 ? `there are ${known.join(', ')}` : 'none is configured',
    )
  }
  const app: App = {
    config,
    state,
    notes: [],
    store,
    jobNames(named) {
      const known = Object.keys(config.jobs)
      const unknown = named.find(name => !known.includes(name))
      if (unknown !== undefined) {
        throw usage(
          `there is no job "${unknown}"`,
          known.length > 0 ? `there are ${known.join(', ')}` : 'none is configured',
        )
      }
      if (known.length === 0)
        throw usage('there is nothing to do', 'no job is configured', 'cairn init writes a configuration')
      return named.length > 0 ? [...named] : known
    },
    async job(name) {
      const own = config.jobs[name]
      if (!own) throw usage(`there is no job "${name}"`, 'it is not in the configuration')
      const merged = { ...config.defaults, ...own }
      using ctx = app.context(AbortSignal.timeout(keyCheckMs), () => {})
      return {
        name,
        formerly: own.formerly ?? [],
        sources: sourcesOf(own).map(source => openSource(source, config)),
        stages: await writingStages(
          {
            compression: merged.compression ?? config.compression,
            encryption: merged.encryption ?? config.encryption,
          },
          ctx,
        ),
        to: (merged.to ?? []).map(to => destinationOf(to, merged.keep, config, store)),
        ...namingOf(own, merged.timezone),
        guards: guardsOf(name, merged, state),
        capture: merged.capture ?? (merged.containers ? 'spool' : 'stream'),
        census: merged.census ?? 'counts',
        zone: zoneOf(merged.timezone),
        undeleteMs: merged.undelete ?? defaultUndeleteMs,
      }
    },
    standstill(name) {
      const containers = config.jobs[name]?.containers ?? config.defaults.containers
      if (!containers) return null
      return containerGuard(name, { ...containerOptions(containers), isBackup: false }, state)
    },
    entered() {
      const prefix = 'containers.'
      const stopped = state.journal.entries().filter(({ name }) => name.startsWith(prefix))
      const jobs = new Set([
        ...Object.keys(config.jobs),
        ...stopped.map(({ name }) => name.slice(prefix.length)),
      ])
      return [...jobs].flatMap(job =>
        guardsOf(job, { containers: Containers.parse({}), ...config.defaults, ...config.jobs[job] }, state)
          .filter(guard => guard.isLeft?.())
          .map(guard => ({ job, guard })),
      )
    },
    named: namedObjects(config),
    namesOf: name => [name, ...(config.jobs[name]?.formerly ?? [])],
    hooks: name => hooksOf(config.jobs[name]?.hooks ?? config.defaults.hooks),
    notifiers(name) {
      const said = config.jobs[name]?.webhooks ?? config.defaults.webhooks
      return said ? [webhooks(said)] : []
    },
    timing(name) {
      const { schedule, timezone, jitter, retry, expect } = { ...config.defaults, ...config.jobs[name] }
      return {
        schedule: schedule ?? null,
        zone: zoneOf(timezone),
        jitterMs: jitter ?? 0,
        retry: { times: retry?.times ?? 0, afterMs: retry?.after ?? 0 },
        expectMs: expect ?? null,
      }
    },
    storesOf: name =>
      ({ ...config.defaults, ...config.jobs[name] }).to?.map(to =>
        store(typeof to === 'string' ? to : to.store),
      ) ?? [],
    stores(named) {
      const names = named.length > 0 ? named : Object.keys(config.stores)
      if (names.length === 0) {
        throw usage(
          'no store is known',
          'none is configured, and none was given',
          'name one: --store /path, or s3://bucket/prefix',
        )
      }
      return names.map(name => mustBeThere(store(name), name, config))
    },
    destination(to, job) {
      const merged = { ...config.defaults, ...jobOf(job, config) }
      const said = merged.to?.find(each => (typeof each === 'string' ? each : each.store) === to.name)
      return destinationOf(said ?? to.name, merged.keep, config, () => to)
    },
    restorer: (manifest, to) => openRestorer(manifest, to, config),
    reading: identity => readingStages(identity, encryptionsOf(config)),
    context: (signal, emit, stallMs = defaultStallMs) =>
      runContext({
        signal,
        emit,
        stallMs,
        clock: { now: () => new Date() },
        tmp: state.tmp,
        spool: state.spool,
      }),
    async close() {
      await Promise.all([...opened.values()].map(each => each.close?.()))
    },
  }
  return app
}

function zoneOf(said: string | undefined): string {
  return said ?? localZone()
}

function patternOf({ key }: JobConfig, timezone: string | undefined): KeyPattern | null {
  if (!key) return null
  return keyPattern(key.name, { zone: key.timezone ?? zoneOf(timezone), plain: key.plain })
}

function namingOf(job: JobConfig, timezone: string | undefined): Pick<Job, 'naming' | 'pattern'> {
  const pattern = patternOf(job, timezone)
  return pattern
    ? { naming: patternNaming(pattern, job.key?.suffix !== false), pattern }
    : { naming: nativeNaming }
}

/** Of jobs that name their objects and have one source: what is in them follows from it. */
function namedObjects(config: Config): NamedObjects[] {
  return Object.entries(config.jobs).flatMap(([job, own]) => {
    const pattern = patternOf(own, own.timezone ?? config.defaults.timezone)
    const [source, second] = sourcesOf(own)
    if (!pattern || !source || second) return []
    const to = own.to ?? config.defaults.to ?? []
    const encryption = own.encryption ?? config.defaults.encryption ?? config.encryption
    const sealed = encryption !== undefined && encryption !== 'none' && encryption.aespipe !== undefined
    return {
      ...{ job, pattern, engine: source.type, media: mediaOf(source), unit: job },
      stores: to.map(each => (typeof each === 'string' ? each : each.store)),
      // aespipe is the one whose output nothing tells from random bytes.
      stages: sealed ? [{ name: 'gzip' }, { name: 'aespipe' }] : [{ name: 'detect' }],
      undo: '',
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

/** How long a job may be silent before it has stalled. */
export function stallOf(config: Config, job: string): number {
  return config.jobs[job]?.stall ?? config.defaults.stall ?? defaultStallMs
}

function openStore(
  name: string,
  { lock: _lock, tags: _tags, keep: _keep, expires: _expires, ...options }: StoreConfig,
): Store {
  if (options.type === 'local') return stores.local(name, options)
  if (options.type === 's3') return stores.s3(name, options)
  return stores.rclone(name, options)
}

/** A mistyped path would look like a store without backups. */
function mustBeThere(store: Store, named: string, config: Config): Store {
  const isFolder = !config.stores[named] && !/^(s3|rclone):/.test(named)
  if (!isFolder || existsSync(folderAt(named))) return store
  throw usage(`there is no store at ${named}`, 'there is no such folder', 'check the path')
}

function folderAt(address: string): string {
  return resolve(address.replace(/^file:(\/\/)?/, ''))
}

/** A store by its address alone: what a person has on an empty machine. */
function storeAt(address: string): Store {
  if (address.startsWith('s3://')) return stores.s3(address, s3Address(address))
  const remote = /^rclone:(.+)$/s.exec(address)?.[1]
  if (remote !== undefined) {
    // A connection string may hold a password, and the name of a store is printed.
    const name = /[=@]/.test(remote) ? 'the rclone remote given' : address
    return stores.rclone(name, storeOptions.rclone.parse({ remote }))
  }
  return stores.local(address, storeOptions.local.parse({ path: folderAt(address) }))
}

/** `s3://bucket/prefix?endpoint=https://…&region=…`; credentials come from AWS's own chain. */
function s3Address(address: string): z.output<typeof storeOptions.s3> {
  const match = /^s3:\/\/([^/?]+)\/?([^?]*)(?:\?(.*))?$/.exec(address)
  if (/[?&](accessKeyId|secretAccessKey|sessionToken)=/.test(address)) {
    throw usage(
      'the address of a store holds a key',
      'addresses are printed and logged',
      'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
    )
  }
  const query = Object.fromEntries(new URLSearchParams(match?.[3] ?? ''))
  const parsed = storeOptions.s3.safeParse({
    bucket: match?.[1],
    prefix: match?.[2],
    ...query,
  })
  if (parsed.success) return parsed.data
  throw usage(
    `"${address}" is not the address of a store`,
    z.prettifyError(parsed.error),
    'write s3://bucket/prefix?endpoint=https://…&region=…',
  )
}

/** The folders of the configured local stores: a backup must not hold them, nor a restore replace them. */
function storeFolders(config: Config): string[] {
  return Object.values(config.stores).flatMap(store => (store.type === 'local' ? [resolve(store.path)] : []))
}

function openSource(options: SourceConfig, config: Config): Source {
  return options.type === 'archive'
    ? openArchive(options.name, options.members, config)
    : openPart(options, config)
}

function openArchive(name: string, members: readonly MemberConfig[], config: Config): Source {
  return sources.archive(
    name,
    members.map(member => ({
      name: member.name,
      source: openPart(member.source, config),
      isFolder: member.source.type === 'mongodb' && member.source.layout === 'directory',
      optional: member.optional,
      steps: member.gzip ? [gzipStage().encode()] : [],
    })),
  )
}

function openPart(options: PartConfig, config: Config): Source {
  if (options.type === 'postgres') return sources.postgres(options)
  if (options.type === 'mariadb') return sources.mariadb(options)
  if (options.type === 'mysql') return sources.mysql(options)
  if (options.type === 'mongodb') return sources.mongodb(options)
  if (options.type === 'sqlite') return sources.sqlite(options)
  if (options.type === 'file') return sources.file(options)
  return sources.files({ ...options, exclude: [...options.exclude, ...storeFolders(config)] })
}

function openRestorer(manifest: Manifest, to: string | null, config: Config): Restorer {
  const { engine } = manifest.source
  const own = ownSource(manifest, config)
  if (engine === 'postgres') return restorers.postgres(to, own?.type === 'postgres' ? own : null)
  if (engine === 'mariadb' || engine === 'mysql')
    return restorers[engine](to, own?.type === engine ? own : null)
  if (engine === 'mongodb') return restorers.mongodb(to, own?.type === 'mongodb' ? own : null)
  if (engine === 'sqlite') return restorers.sqlite(to)
  if (engine === 'files') return restorers.files(to, storeFolders(config))
  if (engine === 'archive') return openArchiveRestorer(manifest, to, own, config)
  throw usage(
    `cannot restore ${manifest.id}`,
    `this Cairn does not know the engine "${engine}"`,
    'use a newer Cairn',
  )
}

/** Without the job, or when a person says where to, the archive's members are put there as they are. */
function openArchiveRestorer(
  manifest: Manifest,
  to: string | null,
  own: SourceConfig | null,
  config: Config,
): Restorer {
  if (to !== null) return restorers.unpacked(resolve(to), storeFolders(config))
  if (own?.type === 'archive')
    return restorers.archive(own.members.flatMap(member => restorable(member, config)))
  throw usage(
    `cannot restore ${manifest.id}`,
    `the configuration has no job ${manifest.job} that says where its parts go`,
    'say --to FOLDER: the parts are put there as they are',
  )
}

function restorable({ name, source, gzip }: MemberConfig, config: Config): RestorableMember {
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
    : { engine: 'file', media: 'file', restorer: restorers.file(path) }
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
function ownSource(manifest: Manifest, config: Config): SourceConfig | null {
  const job = jobOf(manifest.job, config)
  const candidates = job ? sourcesOf(job).filter(source => source.type === manifest.source.engine) : []
  return candidates.length === 1 ? (candidates[0] ?? null) : null
}

/** The job that has this name, or had it. */
function jobOf(name: string, config: Config): JobConfig | undefined {
  return config.jobs[name] ?? Object.values(config.jobs).find(({ formerly }) => formerly?.includes(name))
}

function sourcesOf({ source, sources }: JobConfig): SourceConfig[] {
  return sources ?? (source ? [source] : [])
}

function hooksOf(hooks: HooksConfig | undefined): Hooks {
  const each = (list: HooksConfig['before']): Hook[] =>
    (list ?? []).map(({ run, timeout, env }) => ({
      run,
      timeoutMs: timeout,
      env: async () => {
        const values = Object.entries(env).map(async ([name, from]) => [name, await from.read()] as const)
        return Object.fromEntries(await Promise.all(values))
      },
    }))
  return { before: each(hooks?.before), after: each(hooks?.after), onFailure: each(hooks?.onFailure) }
}

function guardsOf(
  job: string,
  { hooks, containers }: Pick<JobConfig, 'hooks' | 'containers'>,
  state: State,
): Guard[] {
  return [
    ...(hooks ? [hookGuard(job, hooksOf(hooks), state.journal)] : []),
    ...(containers ? [containerGuard(job, containerOptions(containers), state)] : []),
  ]
}

/** Longer waits than a timer can count make no sense here. */
const longestWaitMs = 20 * day

function containerOptions({
  wait,
  startWait,
  startTimeout,
  execTimeout,
  ...said
}: ContainersConfig): ContainerOptions {
  const upTo = (ms: number): number => Math.min(ms, longestWaitMs)
  return {
    ...said,
    waitMs: upTo(wait),
    startWaitMs: upTo(startWait),
    startTimeoutMs: upTo(startTimeout),
    execTimeoutMs: upTo(execTimeout),
    isBackup: true,
  }
}

/** Every encryption of the configuration: a manifest does not say which key fits. */
function encryptionsOf(config: Config): (Encryption | undefined)[] {
  const ofJobs = Object.values(config.jobs).map(job => job.encryption)
  return [config.encryption, config.defaults.encryption, ...ofJobs]
}

function destinationOf(
  to: NonNullable<JobConfig['to']>[number],
  jobKeep: KeepConfig | undefined,
  config: Config,
  open: (name: string) => Store,
): Destination {
  const said = typeof to === 'string' ? { store: to } : to
  const store = config.stores[said.store]
  const keep = said.keep ?? jobKeep ?? store?.keep
  return {
    store: open(said.store),
    keep: retentionOf(keep),
    ...(store?.lock ? { lock: { mode: store.lock.mode, for: store.lock.for } } : {}),
    ...(store?.tags ? { tags: store.tags } : {}),
    ...(store?.expires === undefined ? {} : { expires: store.expires }),
    ...(said.after ? { after: said.after } : {}),
  }
}

/** Retention counts back from the newest backup, and rather keeps a day too many. */
const longestMonth = 31 * day

function retentionOf(keep: KeepConfig | undefined): Retention {
  const { within, ...counts } = keep ?? {}
  const withinMs = within && within.ms + within.months * longestMonth
  const said = Object.entries(counts).filter(([, count]) => count !== undefined)
  return { ...Object.fromEntries(said), ...(withinMs === undefined ? {} : { withinMs }) }
}
