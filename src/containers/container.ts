import { setTimeout as sleep } from 'node:timers/promises'
import type { Context } from '../model/context.ts'
import { Failure } from '../model/failure.ts'
import { writeDuration } from '../model/quantity.ts'
import { askFor, type Docker, Refused } from './client.ts'

const pollMs = 500
/** How long Docker may take to come back while something is stopped or started: it may be restarting. */
const patienceMs = 120_000
/** Beyond the grace that a container has; Docker kills it then. */
const killMs = 60_000
const defaultGraceSeconds = 10
/** So much of what a command in a container says is kept. */
const saidBytes = 64 * 1024

/** A container that is to be put back into the state it had. */
export interface Held {
  readonly id: string
  readonly name: string
  readonly wasPaused: boolean
}

interface Inspected {
  readonly Config: { readonly StopTimeout?: number | null }
  readonly HostConfig: { readonly AutoRemove?: boolean }
  readonly State: {
    readonly Running: boolean
    readonly Restarting: boolean
    readonly ExitCode: number
    readonly Health?: { readonly Status: string }
  }
}

function inspect(docker: Docker, id: string, signal?: AbortSignal): Promise<Inspected> {
  return askFor<Inspected>(docker, `/containers/${id}/json`, { patienceMs, ...(signal ? { signal } : {}) })
}

/** Whether Docker removes it as soon as it stops (`docker run --rm`): then it cannot be started again. */
export async function goesWhenStopped(docker: Docker, id: string): Promise<boolean> {
  return (await inspect(docker, id)).HostConfig.AutoRemove === true
}

/**
 * Stops it with the signal and within the grace that it was made with, and warns when Docker had to kill it. Does not
 * heed an abort: Docker would go on stopping, and stop what was started again in the meantime.
 */
export async function stop(docker: Docker, { id, name, wasPaused }: Held, ctx: Context): Promise<void> {
  const { Config } = await inspect(docker, id)
  const grace = Config.StopTimeout ?? defaultGraceSeconds
  const timeoutMs = grace < 0 ? 2 ** 31 - 1 : grace * 1000 + killMs
  // A frozen process cannot end by itself.
  if (wasPaused) await tolerating(409, () => docker.ask('POST', `/containers/${id}/unpause`, { patienceMs }))
  const { status } = await docker.ask('POST', `/containers/${id}/stop`, { timeoutMs, patienceMs })
  if (status === 304) return
  const { State } = await inspect(docker, id)
  if (State.ExitCode !== 137) return
  ctx.emit({
    type: 'warning',
    what: `container ${name} was killed`,
    why: `it had not ended ${grace} s after it was told to stop (exit code 137): what it had not written yet is lost`,
    remedy: 'make it end on its stop signal, or raise its stop_grace_period',
  })
}

/**
 * Starts it, as if it had never been stopped. Tells whether it was running: somebody else has started it then. Throws a
 * `Refused` when Docker cannot, with status 404 when there is no such container any more.
 */
export async function start(docker: Docker, { id }: Held, ctx: Context): Promise<{ wasRunning: boolean }> {
  const { signal } = ctx
  const { status, wasRetried } = await docker.ask('POST', `/containers/${id}/start`, { patienceMs, signal })
  return { wasRunning: status === 304 && !wasRetried }
}

/** Waits until it is healthy, or running where it has no health check; says why it is not, or null. Pauses it if it was. */
export async function ready(docker: Docker, held: Held, ms: number, ctx: Context): Promise<string | null> {
  const { signal } = ctx
  const deadline = performance.now() + ms
  for (;;) {
    const { State } = await inspect(docker, held.id, signal)
    if (!State.Running && !State.Restarting) return `it ended again with exit code ${State.ExitCode}`
    const health = State.Health?.Status ?? (State.Restarting ? 'restarting' : 'healthy')
    if (health === 'healthy' || health === 'none') break
    if (performance.now() > deadline) return `it is ${health} after ${writeDuration(ms)}`
    await sleep(pollMs, undefined, { signal })
  }
  if (held.wasPaused)
    await tolerating(409, () => docker.ask('POST', `/containers/${held.id}/pause`, { patienceMs, signal }))
  return null
}

/** Runs a line of the shell inside a container, as the user it has; throws a Failure unless it ends with 0 in time. */
export async function exec(
  docker: Docker,
  { id, name }: Pick<Held, 'id' | 'name'>,
  command: string,
  timeoutMs: number,
  ctx: Context,
): Promise<void> {
  const what = `a command in container ${name} failed: ${command}`
  const timeout = AbortSignal.timeout(timeoutMs)
  const signal = AbortSignal.any([ctx.signal, timeout])
  try {
    const made = await docker.ask('POST', `/containers/${id}/exec`, {
      body: { AttachStdout: true, AttachStderr: true, Cmd: ['/bin/sh', '-c', command] },
      ...{ patienceMs, signal },
    })
    const { Id } = JSON.parse(made.body.toString('utf8')) as { Id: string }
    const body = { Detach: false, Tty: false }
    const options = { body, signal, timeoutMs: timeoutMs + killMs, keepBytes: saidBytes }
    const said = await docker.ask('POST', `/exec/${Id}/start`, options)
    const { ExitCode } = await askFor<{ ExitCode: number }>(docker, `/exec/${Id}/json`, { signal })
    if (ExitCode !== 0) throw new Failure({ what, why: lastWords(said.body, ExitCode) })
  } catch (error) {
    ctx.signal.throwIfAborted()
    if (timeout.aborted)
      throw new Failure({
        what,
        why: `it took longer than ${writeDuration(timeoutMs)}`,
        remedy: 'raise "execTimeout"',
      })
    if (error instanceof Refused) throw new Failure({ what, why: error.why, cause: error })
    throw error
  }
}

function lastWords(stream: Buffer, code: number): string {
  const said = textOf(stream).trim().split('\n').slice(-3).join(' ').slice(-600)
  return said ? `${said} (exit code ${code})` : `exit code ${code}`
}

/** Docker sends stdout and stderr as frames: which one, three zeroes, the length in four bytes, the bytes. */
export function textOf(stream: Buffer): string {
  const parts: Buffer[] = []
  for (let at = 0; at + 8 <= stream.byteLength; at += 8 + stream.readUInt32BE(at + 4))
    parts.push(stream.subarray(at + 8, at + 8 + stream.readUInt32BE(at + 4)))
  return Buffer.concat(parts).toString('utf8')
}

async function tolerating(status: number, ask: () => Promise<unknown>): Promise<void> {
  try {
    await ask()
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== status) throw error
  }
}
