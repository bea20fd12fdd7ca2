import { setTimeout as sleep } from 'node:timers/promises'
import * as z from 'zod'
import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import type { Moment, Notice, Notifier } from '../../model/notifier.ts'
import { secretOption } from '../../platform/secret-source.ts'
import { type Answer, post } from './post.ts'
import { reach } from './reach.ts'

/** A URL, which is a secret: whoever knows it can speak in our name. */
const url = (about: string) => secretOption.describe(about).optional()

export const webhookOptions = z
  .strictObject({
    start: url('when a run begins'),
    success: url('when a run has ended with exit 0'),
    failure: url('when it has ended with anything else, after the last retry'),
    alarm: url('when nothing good has arrived for as long as "expect" says; the one of failure unless set'),
    over: url('when an alarm is over; the one of success unless set'),
    healthchecks: url(
      'a check of healthchecks.io or what speaks like it: URL/start, URL and URL/fail are called, where no other is set',
    ),
    log: z
      .boolean()
      .describe(
        'whether the URLs of success and failure get the log of the run, and not only a line about it',
      )
      .default(false),
    as: z
      .enum(['text', 'form'])
      .describe('form: the same text, declared as a form, as curl -d does')
      .default('text'),
  })
  .meta({ description: 'URLs that are called (POST); each may be a secret, as { file: PATH }' })

export type WebhookOptions = z.output<typeof webhookOptions>

/** How long a try may take, and how long to wait before each further one. */
const patience = { timeoutMs: 10_000, pausesMs: [1_000, 2_000, 4_000] as readonly number[] }
/** What healthchecks.io keeps of a body. */
const bodyLimit = 100_000

const types = { text: 'text/plain; charset=utf-8', form: 'application/x-www-form-urlencoded' } as const

/** Calls URLs: four tries, ten seconds each; a redirect is not followed, a refusal (4xx) not repeated. */
export function webhooks(options: WebhookOptions, { timeoutMs, pausesMs } = patience): Notifier {
  return {
    async tell(notice, ctx) {
      const target = await urlFor(notice.moment, options)
      if (!target) return
      const body = Buffer.from(bodyOf(notice, options.log))
      const headers = body.length > 0 ? { 'content-type': types[options.as] } : {}
      const send = (): Promise<Answer> => post(target, headers, body, ctx.signal, timeoutMs)
      for (let tries = 0; ; tries++) {
        const answer = await send()
        if (answer.ok) return
        const pause = pausesMs[tries]
        if (!answer.again || pause === undefined || ctx.signal.aborted)
          throw refused(notice.moment, target, answer, tries + 1)
        await pauseFor(pause, ctx)
      }
    },
    async check(ctx) {
      const urls = await Promise.all(
        moments.map(moment => urlFor(moment, options, `the ${moment} webhook cannot be called`)),
      )
      const places = new Map(urls.flatMap(target => (target ? [[target.origin, target] as const] : [])))
      return await Promise.all([...places.values()].map(target => reach(target, ctx, timeoutMs)))
    },
  }
}

const moments: readonly Moment[] = ['start', 'success', 'failure', 'alarm', 'over']

async function pauseFor(ms: number, ctx: Context): Promise<void> {
  // Aborted, the next try says so at once.
  await sleep(ms, undefined, { signal: ctx.signal }).catch(() => {})
}

function refused(moment: Moment, target: URL, { why }: Answer, tries: number): Failure {
  return new Failure({
    what: `the ${moment} webhook was not delivered (${target.origin})`,
    why: tries > 1 ? `${why}, tried ${tries} times` : why,
    remedy: 'check the URL, and that it can be reached from here',
  })
}

/** The URL of a moment: its own, else the one that stands in for it, else what the check makes of it. */
async function urlFor(
  moment: Moment,
  options: WebhookOptions,
  what = `the ${moment} webhook was not delivered`,
): Promise<URL | null> {
  const own = options[moment] ?? options[standIns[moment] ?? moment]
  const source = own ?? options.healthchecks
  if (!source) return null
  const text = (await source.read()).reveal().trim()
  const parsed = URL.canParse(text) ? new URL(text) : null
  if (!parsed || !/^https?:$/.test(parsed.protocol)) {
    throw new Failure({
      what,
      why: `what ${source.where} holds is not a URL of http or https`,
      remedy: 'write the whole URL, with https://',
    })
  }
  if (!own) parsed.pathname = `${parsed.pathname.replace(/\/$/, '')}${suffixes[moment]}`
  return parsed
}

const standIns: Partial<Record<Moment, Moment>> = { alarm: 'failure', over: 'success' }

const suffixes: Readonly<Record<Moment, string>> = {
  start: '/start',
  success: '',
  failure: '/fail',
  alarm: '/fail',
  over: '',
}

/** The end of a log tells more than its beginning. */
function bodyOf({ moment, message, log }: Notice, wantsLog: boolean): string {
  if (moment === 'start') return ''
  if (!wantsLog || log === '') return message
  const bytes = Buffer.from(log)
  if (bytes.length <= bodyLimit) return log
  const note = '[the beginning is left out]\n'
  const tail = bytes.subarray(bytes.length - (bodyLimit - note.length)).toString('utf8')
  return note + tail.slice(tail.indexOf('\n') + 1)
}
