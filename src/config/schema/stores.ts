// Stores, what stays in them, and which of them a job goes to.

import * as z from 'zod'
import { storeOptions } from '../../stores/index.ts'
import { CalendarSpan } from './values.ts'

const keptPeriods = (what: string) =>
  z.int().positive().describe(`the newest backup of each of the newest n ${what} that have one`).optional()

export const Keep = z
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

export const Store = z.discriminatedUnion('type', [localStore, s3Store, rcloneStore])

export const To = z
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
