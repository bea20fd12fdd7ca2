import { randomBytes, randomUUID } from 'node:crypto'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text as readText } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import { mask, Secret } from '../../model/secret.ts'
import type { Program } from '../../model/step.ts'
import { flow } from '../../platform/flow.ts'
import { http } from '../../platform/http.ts'
import { describeExit, type Running, start } from '../../platform/program.ts'
import { briefly, RcloneError } from './failure.ts'

/** How long rclone may take until it listens. */
const startMs = 30_000

/** An `rclone rcd` of our own, and requests to it (https://rclone.org/rc/). */
export interface Daemon {
  readonly pid: number
  /** Its private folder, without which nobody can reach it. */
  readonly dir: string
  /** Sends a request whose answer and errors are the caller's; a path begins with `/`. */
  send(method: 'GET' | 'POST', path: string, headers?: Readonly<Record<string, string>>): ClientRequest
  /** Calls a remote control method. Throws RcloneError when rclone says no, a Failure when there is no rclone any more. */
  call(
    method: string,
    params: Readonly<Record<string, unknown>>,
    signal: AbortSignal,
  ): Promise<Record<string, unknown>>
  /** The error of a request that broke: why rclone has ended if it has, without anything secret. */
  reason(error: unknown): Promise<unknown>
  /** What rclone said, without secrets. */
  said(text: string): RcloneError
  alive(): boolean
  /** Resolves when no process, socket or port is left. May be called again. */
  stop(): Promise<void>
}

/** What a daemon is started with. */
export interface RcloneProgram {
  readonly program: string
  readonly env: Readonly<Record<string, string | Secret>>
  /** Further texts that must not be seen. */
  readonly secrets: readonly Secret[]
}

/**
 * Starts a daemon that only we can talk to: on a socket in the private folder, or, before rclone 1.61 and where the
 * folder's path is too long for a socket, on a port of 127.0.0.1; with a password made up for it in either case,
 * which it gets by environment. It dies when we die.
 *
 * Throws a Failure when rclone is missing or does not start; nothing is left behind then.
 */
export async function startDaemon(rclone: RcloneProgram, ctx: Context): Promise<Daemon> {
  const socketPath = join(ctx.dir, `rc-${randomUUID().slice(0, 8)}`)
  const fits = Buffer.byteLength(socketPath) < 100
  const socket = fits && (await knowsSockets(rclone, ctx)) ? socketPath : null
  const password = new Secret(randomBytes(24).toString('base64url'))
  const port = Promise.withResolvers<number>()
  const program: Program = {
    program: rclone.program,
    args: [
      'rcd',
      ...['--rc-addr', socket ? `unix://${socket}` : '127.0.0.1:0', '--rc-serve'],
      // The default ends every transfer after an hour.
      ...['--rc-server-read-timeout', '0', '--rc-server-write-timeout', '0'],
      // Keys stand in the request line.
      ...['--rc-max-header-bytes', '1048576'],
      // Else a request that is cut within the first 100 KiB is taken for a small object and stored as if whole.
      ...['--streaming-upload-cutoff', '0', '--log-level', 'NOTICE'],
    ],
    env: { ...rclone.env, TMPDIR: ctx.spool, RCLONE_RC_USER: 'cairn', RCLONE_RC_PASS: password },
    judge: (exit, tail) =>
      new Failure({ what: 'rclone has ended', why: describeExit(exit, tail), remedy: 'try again' }),
    onStderr: line => {
      // The host may be masked: a remote's own setting can have the same value.
      const said = /Serving remote control on http:\/\/[^/]+:(\d+)\//.exec(line)
      if (said) port.resolve(Number(said[1]))
    },
  }
  const running = start(program, { stdin: 'ignore', stdout: 'ignore' }, ctx)
  try {
    const listening = socket ? listens(socket).then(() => null) : port.promise
    const ready = await Promise.race([listening, running.verdict, sleep(startMs, 'late', { ref: false })])
    if (ready instanceof Error) throw ready
    if (ready === 'late') throw new Failure({ what: 'rclone does not start', why: 'it does not listen' })
    const where = socket ? { socketPath: socket } : { host: '127.0.0.1', port: Number(ready) }
    const secrets = [...rclone.secrets, ...Object.values(rclone.env).filter(value => value instanceof Secret)]
    return daemon(running, ctx.dir, where, password, secrets)
  } catch (error) {
    await running.stop()
    throw error
  }
}

/** rclone 1.61 was the first to listen on a socket. */
async function knowsSockets(rclone: RcloneProgram, ctx: Context): Promise<boolean> {
  let text = ''
  for await (const chunk of flow({ ...rclone, args: ['version'] }, [], ctx))
    text += Buffer.from(chunk).toString()
  const [, major = '0', minor = '0'] = /rclone v(\d+)\.(\d+)/.exec(text) ?? []
  return Number(major) > 1 || Number(minor) >= 61
}

/** The socket's file is there a moment before anybody listens. */
async function listens(path: string): Promise<void> {
  for (let waited = 0; waited < startMs; waited += 10) {
    const connected = await new Promise<boolean>(resolve => {
      const probe = connect(path, () => resolve(true)).on('error', () => resolve(false))
      probe.once('connect', () => probe.destroy())
    })
    if (connected) return
    await sleep(10)
  }
}

function daemon(
  running: Running,
  dir: string,
  where: { readonly socketPath: string } | { readonly host: string; readonly port: number },
  password: Secret,
  secrets: readonly Secret[],
): Daemon {
  const agent = new http.Agent({ keepAlive: true })
  const authorization = `Basic ${Buffer.from(`cairn:${password.reveal()}`).toString('base64')}`
  let ended = false
  void running.verdict.then(() => {
    ended = true
  })
  const self: Daemon = {
    pid: running.pid,
    dir,
    send: (method, path, headers = {}) =>
      http.request({ ...where, agent, method, path, headers: { authorization, ...headers } }),
    async call(method, params, signal) {
      const sent = self.send('POST', `/${method}`, { 'content-type': 'application/json' })
      const stop = (): void => void sent.destroy()
      signal.addEventListener('abort', stop, { once: true })
      try {
        signal.throwIfAborted()
        const answer = answerOf(sent)
        sent.end(JSON.stringify(params))
        const { status, text } = await answer
        if (status !== 200) throw self.said(text)
        return JSON.parse(text) as Record<string, unknown>
      } catch (error) {
        sent.destroy()
        signal.throwIfAborted()
        throw await self.reason(error)
      } finally {
        signal.removeEventListener('abort', stop)
      }
    },
    async reason(error) {
      if (error instanceof RcloneError || error instanceof Failure) return error
      // A killed daemon's connections break before we are told of its end.
      const verdict = await Promise.race([running.verdict, sleep(1_000, null, { ref: false })])
      return verdict ?? error
    },
    said: text => new RcloneError(mask(errorIn(text), secrets)),
    alive: () => !ended,
    async stop() {
      agent.destroy()
      await running.stop()
    },
  }
  return self
}

/** rclone's message in its answer, in one line, without what is for its developers. */
function errorIn(text: string): string {
  let said = text
  try {
    const parsed = JSON.parse(text) as { error?: unknown }
    if (typeof parsed.error === 'string') said = parsed.error
  } catch {
    // An answer of the HTTP server's own, in plain text.
  }
  return briefly(said.trim().replaceAll(/\s*\n\s*/g, ' '))
}

/** The whole answer to a request. Rejects when the connection breaks first. */
export async function answerOf(sent: ClientRequest): Promise<{ status: number; text: string }> {
  const response = await responseTo(sent)
  return { status: response.statusCode ?? 0, text: await readText(response) }
}

/** The answer to a request when it begins. Errors after that are the response's. */
export function responseTo(sent: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    sent.once('response', resolve)
    sent.on('error', reject)
    sent.once('close', () => reject(new Error('the connection to rclone was closed')))
  })
}

/** The promise, or the signal's reason. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  promise.catch(() => {})
  signal.throwIfAborted()
  let abort = (): void => {}
  const aborted = new Promise<never>((_resolve, reject) => {
    abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
