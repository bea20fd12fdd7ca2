import * as z from 'zod'
import { webhookOptions } from '../notifiers/index.ts'
import { Compression, Encryption } from '../stages/index.ts'
import { Containers, Hooks } from './schema/guards.ts'
import { Key } from './schema/key.ts'
import { type ArchiveMember, type PartSource, Source } from './schema/sources.ts'
import { Keep, Store, To } from './schema/stores.ts'
import { Expect, Retry, Schedule, Serve } from './schema/timing.ts'
import { Duration, JobName, name, Zone } from './schema/values.ts'

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
export type ToConfig = z.infer<typeof To>
export type KeepConfig = z.infer<typeof Keep>
