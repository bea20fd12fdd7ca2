import { openApp } from '../app.ts'
import { listenAddress } from '../config/schema.ts'
import { serveHealth } from '../daemon/health.ts'
import { daemon } from '../daemon/serve.ts'
import { type ExitCode, usage } from '../model/failure.ts'
import { type Global, say } from './io.ts'
import { type Work, withApp } from './work.ts'

export interface ServeOptions extends Global {
  readonly listen?: string
}

/** `cairn serve`: runs the jobs by their schedules and watches what is expected of them, until it is told to stop. */
export function run(options: ServeOptions): Promise<ExitCode> {
  return withApp(
    options,
    work => serve(work, options, false),
    () => openApp(options.config),
    false,
  )
}

/** Ends by the signal only, with its code. `idle`: also when there is nothing to do. */
export async function serve({ app, ctx }: Work, options: ServeOptions, idle: boolean): Promise<ExitCode> {
  const jobs = Object.keys(app.config.jobs)
  const timed = jobs.filter(job => app.timing(job).schedule ?? app.timing(job).expectMs)
  if (timed.length === 0 && !idle)
    throw usage(
      'there is nothing to do',
      'no job has a schedule, and nothing is expected of any',
      'add "schedule" to a job; cairn backup runs the jobs now',
    )
  const listen = options.listen ?? app.config.serve.listen
  const address = listen === undefined ? null : listenAddress(listen)
  if (listen !== undefined && !address)
    throw usage(
      `"${listen}" is not an address`,
      'HOST:PORT is needed',
      'for example: --listen 127.0.0.1:8080',
    )
  const running = daemon(app, ctx.signal, ctx.emit)
  await using health = address ? await serveHealth(address, running.health) : null
  if (health) say(`health: http://${address?.host ?? '0.0.0.0'}:${health.port}/health`)
  if (timed.length === 0) say('no job has a schedule: waiting; `cairn backup` runs the jobs now')
  return await running.run()
}
