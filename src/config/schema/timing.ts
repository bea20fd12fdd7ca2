// When a job runs, and what is expected of it; and what watches that.

import * as z from 'zod'
import { parseDuration } from '../../model/quantity.ts'
import { scheduleFault } from '../../model/schedule.ts'
import { Duration } from './values.ts'

export const Schedule = z
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

export const Retry = z
  .strictObject({
    times: z.int().min(0).max(100).describe('how often a run that failed is tried again'),
    after: Duration.describe(
      'how long to wait before that, twice as long each time; 1 min unless set',
    ).default(retryMs),
    only: z
      .enum(['stores'])
      .describe(
        'stores: only when a store failed in a way that may pass by itself; after any failure unless set',
      )
      .optional(),
  })
  .meta({
    description: 'what `cairn serve` and `cairn run` do with a run that failed, wholly or in part',
    example: { times: 3, after: '5 min' },
  })

/** `24h`, `every 24h`: gives milliseconds. */
export const Expect = z
  .string()
  .transform((text, ctx) => {
    const ms = parseDuration(text.replace(/^\s*every\s+/, ''))
    if (ms !== null && ms > 0) return ms
    ctx.addIssue(`"${text}" is not a duration: write for example "every 26h"`)
    return z.NEVER
  })
  .meta({
    description:
      'a complete backup must arrive in each store of the job this often; alarm when none did, whoever makes them',
    example: 'every 26h',
  })

export const Serve = z
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
