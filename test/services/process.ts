// Programs that tests start: the short ones that are waited for, and the servers that are stopped at the end.

import { execFile, spawn } from 'node:child_process'
import { openSync, readFileSync } from 'node:fs'
import { createServer, type ListenOptions, type Server } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

const execute = promisify(execFile)

/** Runs a program to its end and returns what it printed; rejects with the end of its stderr. */
export async function run(
  command: string,
  args: string[],
  options: { env?: Record<string, string>; cwd?: string } = {},
): Promise<string> {
  const env = { ...process.env, LC_ALL: 'C.UTF-8', ...options.env }
  try {
    const { stdout } = await execute(command, args, { ...options, env, maxBuffer: 64 << 20 })
    return stdout
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim().split('\n').slice(-8).join('\n')
    throw new Error(`${command} ${args.join(' ')} failed: ${said || (error as Error).message}`)
  }
}

/** A server of ours. It also gets its signal from the kernel should we be killed without a chance to stop it. */
export interface Daemon {
  pid: number
  /** What ends it at once and without leaving anything; asked first, killed after. */
  stopWith: NodeJS.Signals
  /** Why it is no longer there, with the end of its log; undefined while it runs. */
  ended(): string | undefined
}

export interface DaemonOptions {
  log: string
  stopWith: NodeJS.Signals
  /** Another user to run as; needs root. */
  user?: string
  env?: Record<string, string>
}

/** Starts a server in a process group of its own, so that ^C at the terminal reaches only us. */
export function startDaemon(command: string, args: string[], options: DaemonOptions): Daemon {
  const log = openSync(options.log, 'a')
  const as = options.user ? [`--reuid=${options.user}`, `--regid=${options.user}`, '--init-groups'] : []
  const child = spawn('setpriv', ['--pdeathsig', options.stopWith, ...as, '--', command, ...args], {
    detached: true,
    stdio: ['ignore', log, log],
    env: { ...process.env, ...options.env },
  })
  let end: string | undefined
  child.on('error', error => {
    end = error.message
  })
  child.on('exit', (code, signal) => {
    end = `${command} ended with ${signal ?? `exit code ${code}`}\n${tail(options.log)}`
  })
  child.unref()
  return { pid: child.pid ?? 0, stopWith: options.stopWith, ended: () => end }
}

/** Repeats `check` until it answers; rejects after `seconds`, or at once when the daemon is gone. */
export async function until<T>(
  what: string,
  seconds: number,
  daemon: Daemon,
  check: () => Promise<T>,
): Promise<T> {
  const deadline = performance.now() + seconds * 1000
  for (;;) {
    try {
      return await check()
    } catch (error) {
      const ended = daemon.ended()
      if (ended !== undefined) throw new Error(`${what} did not start: ${ended}`)
      if (performance.now() > deadline) {
        throw new Error(`${what} did not answer within ${seconds} s`, { cause: error })
      }
      await sleep(50)
    }
  }
}

/** Ends servers and everything in their process groups. Synchronous: it also has to work while exiting. */
export function stopDaemons(daemons: Daemon[]): void {
  const deadline = performance.now() + 10_000
  for (const { pid, stopWith } of daemons) signal(pid, stopWith)
  for (const { pid } of daemons) {
    while (alive(pid) && performance.now() < deadline) pause(20)
    signal(-pid, 'SIGKILL')
  }
}

/**
 * The first of `count` ports in a row on 127.0.0.1 that are free; below those that outgoing connections get, and given to
 * nobody else on this machine who asks here, as long as this process lives.
 */
export async function freePorts(count = 1): Promise<number> {
  for (;;) {
    const first = 10_000 + Math.floor(Math.random() * (20_000 - count))
    const ports = Array.from({ length: count }, (_, i) => first + i)
    if ((await areOurs(ports)) && (await Promise.all(ports.map(isFree))).every(Boolean)) return first
  }
}

/** Whoever was given a port has a socket of its name, which no file stands for: it goes with the process. */
async function areOurs(ports: readonly number[]): Promise<boolean> {
  const claims = await Promise.all(ports.map(port => listening({ path: `\0cairn-test-port-${port}` })))
  if (!claims.includes(null)) return true
  for (const claim of claims) claim?.close()
  return false
}

async function isFree(port: number): Promise<boolean> {
  const server = await listening({ port, host: '127.0.0.1' })
  if (server) await new Promise(resolve => server.close(resolve))
  return server !== null
}

/** Null where somebody else listens. Does not keep the process alive. */
function listening(at: ListenOptions): Promise<Server | null> {
  const server = createServer().unref()
  return new Promise(resolve => {
    server.once('error', () => resolve(null))
    server.listen(at, () => resolve(server))
  })
}

/** Sends a signal; says whether anything was there to get it. Negative: a process group. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    // 0 would be our own group, -1 every process of the machine.
    return Math.abs(pid) > 1 && process.kill(pid, name)
  } catch {
    return false
  }
}

/** False for a zombie too: its files and ports are closed, only its parent has not looked. */
export function alive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'))
  } catch {
    return false
  }
}

export function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

/** The end of a log; '' when its folder has gone with the run. */
function tail(file: string): string {
  try {
    return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-15).join('\n')
  } catch {
    return ''
  }
}
