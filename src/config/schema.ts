import { resolve } from 'node:path'
import * as z from 'zod'
import { parseWords } from '../model/duration-words.ts'
import { usage } from '../model/failure.ts'
import { keyFault } from '../model/key.ts'
import { keyPattern } from '../model/key-pattern.ts'
import { parseDuration } from '../model/quantity.ts'
import { scheduleFault } from '../model/schedule.ts'
import { webhookOptions } from '../notifiers/index.ts'
import { secretOption } from '../platform/secret-source.ts'
import { sourceOptions } from '../sources/index.ts'
import { Compression, Encryption } from '../stages/index.ts'
import { storeOptions } from '../stores/index.ts'

/** `30 days`, `12h`: gives milliseconds. */
const Duration = z
  .string()
  .transform((text, ctx) => {
    const ms = parseDuration(text)
    if (ms !== null) return ms
    ctx.addIssue(
      `"${text}" is not a duration: write a whole number and s, min, h, days or weeks, as in "30 days"`,
    )
    return z.NEVER
  })
  .meta({
    id: 'Duration',
    description: 'a whole number and a unit: s, min, h, days, weeks',
    example: '30 days',
  })

/** `30 days`, `1 month`, `a year and 6 months`. */
const CalendarSpan = z
  .string()
  .transform((text, ctx) => {
    const ms = parseDuration(text)
    const span = ms === null ? parseWords(text) : { months: 0, ms }
    if (span) return span
    ctx.addIssue(`"${text}" is not a length of time: write it as "30 days", "2 weeks" or "1 month"`)
    return z.NEVER
  })
  .meta({
    id: 'CalendarSpan',
    description: 'a length of time in words, from the minute to the year; months are those of the calendar',
    example: '30 days',
  })

const name = (what: string) =>
  z.string().regex(/^[a-z0-9][a-z0-9_-]{0,59}$/, {
    message: `the name of a ${what} is made of a-z, 0-9, "-" and "_" (some stores do not tell upper case from lower)`,
  })

const Zone = z
  .string()
  .refine(isZone, { message: 'is not a time zone: write one like Europe/Berlin, or UTC' })

const KeyName = z.string().superRefine((text, ctx) => {
  try {
    const { key } = keyPattern(text, { zone: 'UTC', plain: false })
    const fault = keyFault(key('name', new Date(0)))
    if (fault) ctx.addIssue(`"${text}" cannot be the name of an object: ${fault}`)
  } catch (error) {
    ctx.addIssue((error as Error).message)
  }
})

const Key = z
  .strictObject({
    name: KeyName.meta({
      description:
        'in the words of strftime, with ${DB} for the database ($$ is a $); what the stages add follows it',
      example: '${DB}-%Y-%m-%dT%H-%M-%SZ.sql',
    }),
    timezone: Zone.meta({
      description: 'whose clocks; the zone of the job unless set',
      example: 'UTC',
    }).optional(),
    plain: z
      .boolean()
      .default(false)
      .describe('every run of characters but A-Z a-z 0-9 _ . / becomes one "-"'),
    suffix: z.boolean().default(true).describe('false: what the stages add to a name is left out'),
  })
  .meta({
    id: 'Key',
    description:
      'names the objects, which are backups by these names alone then, one object each; for what an older tool wrote or reads',
    example: { name: '${DB}-%Y-%m-%dT%H-%M-%SZ.sql' },
  })

const JobName = name('job').refine(text => text !== 'latest', { message: '"latest" means the newest backup' })

function isZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone: name }) !== null
  } catch {
    return false
  }
}

const keptPeriods = (what: string) =>
  z.int().positive().describe(`the newest backup of each of the newest n ${what} that have one`).optional()

const Keep = z
  .strictObject({
    last: z.int().positive().describe('the newest n backups').optional(),
    within: CalendarSpan.describe('backups not older than this when the newest was made').optional(),
    hourly: keptPeriods('hours'),
    daily: keptPeriods('days'),
    weekly: keptPeriods('weeks, from Monday,'),
    monthly: keptPeriods('months'),
    yearly: keptPeriods('years'),
  })
  .refine(keep => Object.values(keep).some(rule => rule !== undefined), {
    message: 'say at least one of last, within, hourly, daily, weekly, monthly, yearly',
  })
  .meta({
    id: 'Keep',
    description: 'what stays; a backup that any rule keeps stays, and the newest always does',
    example: { last: 3, daily: 7, weekly: 4, monthly: 12, yearly: 3 },
  })

const Lock = z
  .strictObject({
    mode: z
      .enum(['governance', 'compliance'])
      .describe(
        'governance: who has the right may take it off; compliance: nobody may, and it cannot be shortened',
      ),
    for: CalendarSpan.describe('how long, from the start of the backup'),
  })
  .meta({ id: 'Lock', description: 'locks every object against deletion' })

/** What every store can say beside its own options. */
const storeCommon = {
  lock: Lock.optional(),
  tags: z
    .record(z.string(), z.string())
    .meta({ description: 'tags of every object', example: { team: 'shop' } })
    .optional(),
  expires: CalendarSpan.describe(
    'says in the Expires header of every object when it may go, so long from the start of the backup (S3)',
  ).optional(),
  keep: Keep.optional(),
}

const [localStore, s3Store, rcloneStore] = [
  storeOptions.local.extend(storeCommon).extend({ type: z.literal('local') }),
  storeOptions.s3.safeExtend(storeCommon).safeExtend({ type: z.literal('s3') }),
  storeOptions.rclone.extend(storeCommon).extend({ type: z.literal('rclone') }),
]

const Store = z.discriminatedUnion('type', [localStore, s3Store, rcloneStore])

const sources = [
  sourceOptions.postgres.safeExtend({ type: z.literal('postgres') }),
  sourceOptions.mariadb.safeExtend({ type: z.literal('mariadb') }),
  sourceOptions.mysql.safeExtend({ type: z.literal('mysql') }),
  sourceOptions.mongodb.safeExtend({ type: z.literal('mongodb') }),
  sourceOptions.sqlite.extend({ type: z.literal('sqlite') }),
  sourceOptions.files.extend({ type: z.literal('files') }),
  sourceOptions.file.extend({ type: z.literal('file') }),
] as const

const PartSource = z.discriminatedUnion('type', [...sources])

const ArchiveMember = z.strictObject({
  name: z
    .string()
    .regex(/^(?!\.{1,2}$)[^/\0]+$/, 'must be a single name without "/"')
    .meta({ description: 'the name in the archive', example: 'shop.dump' }),
  source: PartSource,
  gzip: z.boolean().default(false).describe('compress this member by itself, too'),
  optional: z.boolean().default(false).describe('its absence is a warning, not a failure'),
  required: z
    .boolean()
    .default(false)
    .describe('without it there is no archive: one under the same name stays as it is'),
})

const Archive = z.strictObject({
  type: z.literal('archive'),
  name: z.string().min(1).meta({ description: 'what the backup is called', example: 'shop' }),
  members: z
    .array(ArchiveMember)
    .min(1)
    .refine(members => new Set(members.map(({ name }) => name)).size === members.length, {
      message: 'two members have one name',
    })
    .meta({
      description: 'several sources as one tar; what cannot be read is left out, and told',
      example: [
        { name: 'shop.dump', source: { type: 'postgres', url: { env: 'SHOP_URL' }, globals: false } },
        { name: 'shop.json', source: { type: 'file', path: '/etc/shop.json' } },
      ],
    }),
})

const Source = z.discriminatedUnion('type', [...sources, Archive])

const To = z
  .union([
    z.string(),
    z.strictObject({
      store: z.string(),
      keep: Keep.optional(),
      after: z.string().describe('fed from that store when it has the whole backup').optional(),
    }),
  ])
  .meta({
    id: 'To',
    description: 'the name of a store, or a store with what this job keeps there',
    example: 'disk',
  })

const HookCommand = z
  .union([z.string().min(1), z.array(z.string()).min(1)])
  .describe('a line for /bin/sh, or [PROGRAM, ARG...]')

const hookMs = 5 * 60_000

const Hook = z
  .union([
    HookCommand,
    z.strictObject({
      run: HookCommand,
      timeout: Duration.describe('longer than this: ended, and failed; 5 min unless set').default(hookMs),
      env: z
        .record(z.string(), secretOption)
        .meta({
          description: 'environment variables; the others of Cairn are not handed on',
          example: { TOKEN: { file: '/run/secrets/token' } },
        })
        .default({}),
    }),
  ])
  .meta({
    id: 'Hook',
    description: 'a command, or one with a time-out or an environment',
    example: ['systemctl', 'stop', 'shop'],
  })
  .transform(said =>
    typeof said === 'string' || Array.isArray(said) ? { run: said, timeout: hookMs, env: {} } : said,
  )

const Hooks = z
  .strictObject({
    before: z.array(Hook).describe('before the sources are looked at; the first that fails stops the job'),
    after: z
      .array(Hook)
      .describe(
        'when the sources were read, whatever happened; after a crash, at the beginning of the next run',
      ),
    onFailure: z
      .array(Hook)
      .describe('at the end of a job that failed, wholly or in part; CAIRN_ERROR says why'),
  })
  .partial()
  .describe('commands of yours, run around the reading')

const second = 1000

export const Containers = z
  .strictObject({
    stop: z
      .array(z.string().min(1))
      .meta({
        description:
          'containers by their exact names, else services of the compose project, all replicas; beside those with the label cairn.stop=JOB',
        example: ['app', 'worker'],
      })
      .default([]),
    project: z
      .string()
      .min(1)
      .meta({
        description:
          "the compose project; that of Cairn's own container, else COMPOSE_PROJECT_NAME, unless set",
        example: 'shop',
      })
      .optional(),
    wait: Duration.describe('how long to wait after stopping; 2 s unless set').default(2 * second),
    startWait: Duration.describe(
      'how long to wait after starting, beside the wait for health; none unless set',
    ).default(0),
    startTimeout: Duration.describe(
      'a container that is not healthy, or not running, so long after its start is a warning; 5 min unless set',
    ).default(hookMs),
    execTimeout: Duration.describe(
      'a command of the labels cairn.exec-before and cairn.exec-after may take so long; 5 min unless set',
    ).default(hookMs),
    host: z
      .string()
      .regex(/^(unix:\/\/\/|tcp:\/\/|https?:\/\/)/, 'must begin with unix:///, tcp://, http:// or https://')
      .meta({
        description: 'where Docker answers; DOCKER_HOST, else unix:///var/run/docker.sock, unless set',
        example: 'unix:///var/run/docker.sock',
      })
      .optional(),
  })
  .meta({
    description:
      'containers that stand still while the sources are read, and are started again whatever happens; {} for those with labels alone',
    example: { stop: ['app'] },
  })

const Schedule = z
  .string()
  .superRefine((text, ctx) => {
    const fault = scheduleFault(text)
    if (fault) ctx.addIssue(`"${text}" is not a schedule: ${fault}`)
  })
  .meta({
    description:
      'when `cairn serve` runs the job: minute, hour, day of month, month, weekday (a sixth field before them is the second), or @daily and the like',
    example: '0 2 * * *',
  })

const retryMs = 60_000

const Retry = z
  .strictObject({
    times: z.int().min(0).max(100).describe('how often a run that failed is tried again'),
    after: Duration.describe(
      'how long to wait before that, twice as long each time; 1 min unless set',
    ).default(retryMs),
  })
  .meta({
    description: 'what `cairn serve` and `cairn run` do with a run that failed, wholly or in part',
    example: { times: 3, after: '5 min' },
  })

/** `24h`, `every 24h`: gives milliseconds. */
const Expect = z
  .string()
  .transform((text, ctx) => {
    const ms = parseDuration(text.replace(/^\s*every\s+/, ''))
    if (ms !== null && ms > 0) return ms
    ctx.addIssue(`"${text}" is not a duration: write for example "every 26h"`)
    return z.NEVER
  })
  .meta({
    description:
      'a good backup must arrive in each store of the job this often; alarm when none did, whoever makes them',
    example: 'every 26h',
  })

/** What a job can say, and so can `defaults`. */
const jobCommon = {
  to: z.array(To).min(1).describe('the stores that get a copy').optional(),
  keep: Keep.optional(),
  encryption: Encryption.optional(),
  compression: Compression.optional(),
  capture: z
    .enum(['stream', 'spool'])
    .describe(
      'spool: read the source onto local disk first, and feed the stores when it was let go; stream unless set, with containers spool',
    )
    .optional(),
  census: z
    .enum(['none', 'objects', 'counts'])
    .describe('how exactly to record what was in the source')
    .optional(),
  timezone: Zone.meta({
    description:
      'whose clocks the schedule means, and where the days, weeks and years of retention begin; the zone of the machine unless set',
    example: 'Europe/Berlin',
  }).optional(),
  undelete: Duration.describe('how long a deletion can be taken back; 7 days unless set').optional(),
  hooks: Hooks.optional(),
  containers: Containers.optional(),
  schedule: Schedule.optional(),
  jitter: Duration.describe(
    'a scheduled run begins up to this much later, at random, so that many hosts do not begin at once',
  ).optional(),
  retry: Retry.optional(),
  expect: Expect.optional(),
  webhooks: webhookOptions.optional(),
  stall: Duration.describe('nothing moves for this long: failed; 10 min unless set').optional(),
}

const Job = z.strictObject({
  source: Source.optional(),
  sources: z
    .array(Source)
    .min(1)
    .describe('several, backed up one after another in one run, each by itself; instead of source')
    .optional(),
  formerly: z
    .array(JobName)
    .meta({
      description: 'names this job had before: the backups made under them stay under its retention',
      example: ['store'],
    })
    .optional(),
  key: Key.optional(),
  ...jobCommon,
})

const Serve = z
  .strictObject({
    listen: z
      .string()
      .refine(text => listenAddress(text) !== null, {
        message: 'write HOST:PORT, as in 127.0.0.1:8080, or a port alone for this machine only',
      })
      .meta({
        description:
          'where `GET /health` is answered: 200, or 503 while there is an alarm; nowhere unless set',
        example: '127.0.0.1:8080',
      })
      .optional(),
    idle: z
      .boolean()
      .describe('whether `cairn run` waits when no job has a schedule, instead of running all of them once')
      .default(false),
    parallel: z.int().min(1).max(64).describe('how many jobs run at once').default(2),
  })
  .describe('what `cairn serve` does beside the jobs')

/** `127.0.0.1:8080`, `[::1]:8080`, `8080` (of 127.0.0.1), `:8080` (of all); null when it is none of these. */
export function listenAddress(text: string): { host: string | undefined; port: number } | null {
  const [, ipv6, host, digits] = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/\s]*)):)?(\d{1,5})$/.exec(text) ?? []
  const port = Number(digits)
  if (digits === undefined || port > 65_535) return null
  if (!text.includes(':')) return { host: '127.0.0.1', port }
  return { host: (ipv6 ?? host) || undefined, port }
}

/** The configuration, with every value in the form the program uses (durations in milliseconds, secrets as sources). */
export const Config = z.strictObject({
  stores: z.record(name('store'), Store).default({}),
  encryption: Encryption.optional(),
  compression: Compression.optional(),
  defaults: z.strictObject(jobCommon).default({}),
  serve: Serve.default({ idle: false, parallel: 2 }),
  jobs: z.record(JobName, Job).default({}),
})

export type Config = z.infer<typeof Config>
export type JobConfig = Config['jobs'][string]
export type StoreConfig = Config['stores'][string]
export type SourceConfig = z.infer<typeof Source>
export type PartConfig = z.infer<typeof PartSource>
export type MemberConfig = z.infer<typeof ArchiveMember>
export type HooksConfig = z.infer<typeof Hooks>
export type ContainersConfig = z.infer<typeof Containers>
export type KeepConfig = z.infer<typeof Keep>

/** A configuration that did not come from a file. Throws one Failure (exit 2) that lists every error. */
export function checkedConfig(plain: unknown, origin: string): Config {
  const result = Config.safeParse(plain)
  const faults = result.success
    ? crossCheck(result.data).map(({ text }) => text)
    : result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`)
  if (result.success && faults.length === 0) return result.data
  throw usage(`${origin} is not valid`, faults.join('; '), 'nothing was touched')
}

/** Faults that one value alone does not show: names that stand for nothing. Each with the path where it stands. */
export function crossCheck(
  config: Config,
): { path: PropertyKey[]; text: string; word: string; known: string[] }[] {
  const stores = Object.keys(config.stores)
  const places: { path: PropertyKey[]; to: z.infer<typeof To>[] }[] = [
    { path: ['defaults', 'to'], to: config.defaults.to ?? [] },
    ...Object.entries(config.jobs).map(([job, { to }]) => ({ path: ['jobs', job, 'to'], to: to ?? [] })),
  ]
  const unknown = places.flatMap(({ path, to }) =>
    to.flatMap((each, index) =>
      namesIn(each)
        .filter(store => !stores.includes(store))
        .map(store => ({
          path: [...path, index],
          text: `there is no store "${store}"`,
          known: stores,
          word: store,
        })),
    ),
  )
  const homeless = Object.entries(config.jobs)
    .filter(([, job]) => !job.to && !config.defaults.to)
    .map(([job]) => ({
      path: ['jobs', job],
      text: `job "${job}" says no store: add "to"`,
      known: [],
      word: '',
    }))
  return [
    ...unknown,
    ...homeless,
    ...sourceCount(config),
    ...formerNames(config),
    ...places.flatMap(({ path, to }) => faultsOfList(path, to)),
    ...sameFolders(config),
  ]
}

function sourceCount(config: Config) {
  return Object.entries(config.jobs)
    .filter(([, job]) => (job.source === undefined) === (job.sources === undefined))
    .map(([job, { source }]) => ({
      path: ['jobs', job],
      text: source
        ? `job "${job}" says both "source" and "sources"`
        : `job "${job}" says no source: add "source"`,
      word: '',
      known: [],
    }))
}

/** A former name that another job has would put that job's backups under this one's retention. */
function formerNames(config: Config) {
  const jobs = Object.entries(config.jobs)
  const holders = (name: string) =>
    jobs.filter(([job, { formerly }]) => job === name || formerly?.includes(name)).length
  return jobs.flatMap(([job, { formerly }]) =>
    (formerly ?? [])
      .filter(name => name === job || holders(name) > 1)
      .map(name => ({
        path: ['jobs', job, 'formerly'],
        text: `job "${job}" cannot have been "${name}": ${name === job ? 'that is its name' : 'another job is, or was'}`,
        word: '',
        known: [],
      })),
  )
}

/** Each store once, at least one fed directly, and whoever is fed later is fed by one of those. */
function faultsOfList(path: PropertyKey[], to: readonly z.infer<typeof To>[]) {
  const entries = to.map(each => (typeof each === 'string' ? { store: each, after: undefined } : each))
  const direct = entries.filter(each => each.after === undefined).map(each => each.store)
  const fault = (text: string) => [{ path, text, word: '', known: [] }]
  const twice = entries.find((each, index) => entries.findIndex(other => other.store === each.store) < index)
  if (twice) return fault(`${path.join('.')}: store "${twice.store}" stands there twice`)
  const late = entries.find(each => each.after !== undefined && !direct.includes(each.after))
  if (late)
    return fault(
      `${path.join('.')}: "after: ${late.after}" must name a store of the same list that is fed directly`,
    )
  return []
}

/** Two names for one folder would be one copy that counts as two. */
function sameFolders(config: Config) {
  const folders = Object.entries(config.stores).flatMap(([store, options]) =>
    options.type === 'local' ? [{ store, path: resolve(options.path) }] : [],
  )
  return folders.flatMap(({ store, path }, index) => {
    const twin = folders.slice(0, index).find(other => other.path === path)
    return twin
      ? [
          {
            path: ['stores', store],
            text: `stores ${twin.store} and ${store} are the same folder`,
            word: '',
            known: [],
          },
        ]
      : []
  })
}

function namesIn(to: z.infer<typeof To>): string[] {
  if (typeof to === 'string') return [to]
  return to.after === undefined ? [to.store] : [to.store, to.after]
}
