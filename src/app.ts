import { isDialectMeant, translate, webhooksIn } from './config/dialects/index.ts'
import { cleaned } from './config/dialects/variables.ts'
import { findConfig, readConfig } from './config/read.ts'
import { Containers } from './config/schema/guards.ts'
import { Config } from './config/schema.ts'
import { containerGuard } from './containers/index.ts'
import type { NamedObjects } from './engine/foreign.ts'
import type { Hooks } from './engine/hooks.ts'
import type { ContentCheck } from './model/content.ts'
import type { Context } from './model/context.ts'
import type { RunEvent } from './model/event.ts'
import { usage } from './model/failure.ts'
import type { Destination, Job } from './model/job.ts'
import type { ArtifactRecord, Manifest } from './model/manifest.ts'
import type { Notifier } from './model/notifier.ts'
import type { Restorer } from './model/restore.ts'
import type { Guard } from './model/source.ts'
import type { Store } from './model/store.ts'
import { webhookOptions, webhooks } from './notifiers/index.ts'
import { runContext } from './platform/run-context.ts'
import { openState, type State } from './platform/state.ts'
import { type Encryption, type Reading, readingStages, writingStages } from './stages/index.ts'
import { contentOf } from './wiring/contents.ts'
import { containerOptions, guardsOf, hooksOf } from './wiring/guards.ts'
import { namedObjects, namingOf, zoneOf } from './wiring/names.ts'
import { oldScratch } from './wiring/scratch.ts'
import { serversOf } from './wiring/servers.ts'
import { jobOf, openRestorer, openSource, sourcesOf } from './wiring/sources.ts'
import { destinationOf, mustBeThere, openStore, storeAt, withAddressed } from './wiring/stores.ts'

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
  readonly retry: { readonly times: number; readonly afterMs: number; readonly only?: 'stores' | undefined }
  /** How often something good must arrive in each of its stores; null: nobody minds. */
  readonly expectMs: number | null
}

/** The configuration turned into things that work. The only place that knows every adapter. */
export interface App {
  readonly config: Config
  readonly state: State
  /** What is odd about the configuration and does no harm. */
  readonly notes: readonly string[]
  /** Whether the environment asks for what `--verbose` does. */
  readonly isVerbose: boolean
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
  /** Those named, else all that are configured. Throws a Failure (exit 2) where none is, or one named is not there. */
  stores(named: readonly string[]): Promise<Store[]>
  destination(store: Store, job: string): Destination
  restorer(manifest: Manifest, to: string | null): Restorer
  /** What looks at the plain bytes of an artifact; null where they do not tell whether they are whole. */
  contentOf(manifest: Manifest, record: ArtifactRecord): ContentCheck | null
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
  if (isDialectMeant(configFlag, path, process.env)) return dialectApp([])
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
  const { config, warnings, isVerbose } = translate(process.env, args)
  cleanEnvironment()
  const spool = process.env.CAIRN_SPOOL || oldScratch(config.stores)
  const state = openState({ ...process.env, ...(spool ? { CAIRN_SPOOL: spool } : {}) })
  const app = appFor(config, state)
  return { ...app, notes: [...app.notes, ...warnings], isVerbose }
}

/** Secrets are read from the variables when they are needed. */
function cleanEnvironment(): void {
  for (const [name, value] of Object.entries(cleaned(process.env)))
    if (value !== process.env[name] && !name.startsWith('RCLONE_')) process.env[name] = value
}

/** Who can be told that the environment of a replaced tool is wrong; nobody where a file is the configuration. */
export function notifiersOfEnvironment(configFlag: string | undefined): Notifier[] {
  if (!isDialectMeant(configFlag, findConfig(configFlag), process.env)) return []
  cleanEnvironment()
  return webhooksIn(process.env).map(said => webhooks(webhookOptions.parse(said)))
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
      `an address says more: ./${named}, /path, s3://bucket/prefix, rclone:remote:path`,
    )
  }
  const app: App = {
    config,
    state,
    notes: state.note === null ? [] : [state.note],
    isVerbose: false,
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
        guards: guardsOf(name, merged, () => serversOf(own), state),
        capture: merged.capture ?? (merged.containers ? 'spool' : 'stream'),
        census: merged.census ?? 'counts',
        zone: zoneOf(merged.timezone),
        undeleteMs: merged.undelete ?? defaultUndeleteMs,
      }
    },
    standstill(name) {
      const own = config.jobs[name]
      const containers = own?.containers ?? config.defaults.containers
      if (!containers) return null
      const servers = async () => (own ? await serversOf(own) : [])
      return containerGuard(name, { ...containerOptions(containers, servers), isBackup: false }, state)
    },
    entered() {
      const prefix = 'containers.'
      const stopped = state.journal.entries().filter(({ name }) => name.startsWith(prefix))
      const jobs = new Set([
        ...Object.keys(config.jobs),
        ...stopped.map(({ name }) => name.slice(prefix.length)),
      ])
      return [...jobs].flatMap(job =>
        guardsOf(
          job,
          { containers: Containers.parse({}), ...config.defaults, ...config.jobs[job] },
          async () => [],
          state,
        )
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
        retry: { times: retry?.times ?? 0, afterMs: retry?.after ?? 0, only: retry?.only },
        expectMs: expect ?? null,
      }
    },
    storesOf: name =>
      ({ ...config.defaults, ...config.jobs[name] }).to?.map(to =>
        store(typeof to === 'string' ? to : to.store),
      ) ?? [],
    async stores(named) {
      const names = named.length > 0 ? named : Object.keys(config.stores)
      if (names.length === 0) {
        throw usage(
          'no store is known',
          'none is configured, and none was given',
          'name one: --store /path, or s3://bucket/prefix',
        )
      }
      return await Promise.all(names.map(async name => mustBeThere(store(name), name, config)))
    },
    destination(to, job) {
      const merged = { ...config.defaults, ...jobOf(job, config) }
      const said = merged.to?.find(each => (typeof each === 'string' ? each : each.store) === to.name)
      return destinationOf(said ?? to.name, merged.keep, config, () => to)
    },
    restorer: (manifest, to) => openRestorer(manifest, to, withAddressed(config, opened.keys())),
    contentOf: (manifest, record) => contentOf(manifest, record, config),
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

/** How long a job may be silent before it has stalled. */
export function stallOf(config: Config, job: string): number {
  return config.jobs[job]?.stall ?? config.defaults.stall ?? defaultStallMs
}

/** Every encryption of the configuration: a manifest does not say which key fits. */
function encryptionsOf(config: Config): (Encryption | undefined)[] {
  const ofJobs = Object.values(config.jobs).map(job => job.encryption)
  return [config.encryption, config.defaults.encryption, ...ofJobs]
}
