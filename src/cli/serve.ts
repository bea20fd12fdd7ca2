import { closeSync, openSync } from 'node:fs'
import { type App, openApp } from '../app.ts'
import { listenAddress } from '../config/schema/timing.ts'
import { serveHealth } from '../daemon/health.ts'
import { type Daemon, daemon } from '../daemon/serve.ts'
import type { Context } from '../model/context.ts'
import { asFailure, type ExitCode, usage } from '../model/failure.ts'
import { answerHangUps, endAtHangUp } from './hang-up.ts'
import { type Global, logForPrograms, tell } from './io.ts'
import { openOrTell } from './open.ts'
import { type Work, withApp } from './work.ts'

export interface ServeOptions extends Global {
  readonly listen?: string
}

/** `cairn serve`: runs the jobs by their schedules and watches what is expected of them, until it is told to stop. */
export function run(options: ServeOptions): Promise<ExitCode> {
  logForPrograms(options)
  return withApp(
    options,
    work => serve(work, options, () => openApp(options.config), false),
    () => openOrTell(options.config, () => openApp(options.config)),
    false,
  )
}

/**
 * Ends by the signal only, with its code; SIGHUP has the configuration read again. `open` reads it. `idle`: also when there
 * is nothing to do.
 */
export async function serve(
  { app, ctx }: Work,
  options: ServeOptions,
  open: () => App,
  idle: boolean,
): Promise<ExitCode> {
  if (!idle) mustHaveWork(app)
  const address = addressOf(app, options)
  const running = daemon(app, ctx.signal, ctx.emit)
  await using health = address ? await serveHealth(address, running.health) : null
  if (health) tell(`health: http://${address?.host ?? '0.0.0.0'}:${health.port}/health`)
  if (timedJobs(app).length === 0) tell('no job has a schedule: waiting; `cairn backup` runs the jobs now')
  answerHangUps(() => {
    if (isHungUp()) endAtHangUp()
    else reload(open, running, { idle, listen: app.config.serve.listen }, ctx)
  })
  return await running.run()
}

/** A configuration that is broken is reported, and changes nothing. */
function reload(
  open: () => App,
  running: Daemon,
  { idle, listen }: { readonly idle: boolean; readonly listen: string | undefined },
  { emit }: Context,
): void {
  try {
    const app = open()
    if (!idle) mustHaveWork(app)
    running.reload(app.config)
    const jobs = Object.keys(app.config.jobs)
    emit({ type: 'notice', text: `the configuration was read again: ${jobs.join(', ') || 'no job'}` })
    if (app.config.serve.listen !== listen)
      emit({ type: 'notice', text: 'another "serve.listen" holds from the next start on' })
  } catch (error) {
    const { message, remedy } = asFailure(error, 'cannot read the configuration')
    const what = 'the configuration stays as it was'
    emit({ type: 'failure', what, why: message, remedy: remedy || 'correct it, and send SIGHUP again' })
  }
}

/** A terminal that is closed sends SIGHUP too: whoever closes it wants an end. */
function isHungUp(): boolean {
  if (!process.stderr.isTTY) return false
  try {
    closeSync(openSync('/dev/tty', 'r'))
    return false
  } catch {
    return true
  }
}

function timedJobs(app: App): string[] {
  return Object.keys(app.config.jobs).filter(job => app.timing(job).schedule ?? app.timing(job).expectMs)
}

function mustHaveWork(app: App): void {
  if (timedJobs(app).length > 0) return
  throw usage(
    'there is nothing to do',
    'no job has a schedule, and nothing is expected of any',
    'add "schedule" to a job; cairn backup runs the jobs now',
  )
}

function addressOf({ config }: App, options: ServeOptions): ReturnType<typeof listenAddress> {
  const listen = options.listen ?? config.serve.listen
  const address = listen === undefined ? null : listenAddress(listen)
  if (listen === undefined || address) return address
  throw usage(`"${listen}" is not an address`, 'HOST:PORT is needed', 'for example: --listen 127.0.0.1:8080')
}
