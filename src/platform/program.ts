import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { accessSync, closeSync, constants, openSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs'
import { basename, delimiter, join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import type { Context } from '../model/context.ts'
import { Failure, usage } from '../model/failure.ts'
import { mask, Secret } from '../model/secret.ts'
import type { Exit, Program, Verdict } from '../model/step.ts'

/** How long a program may take to end after SIGTERM. */
const graceMs = 5_000
const stderrTailBytes = 16 * 1024

/** A program that was started. It and whatever it starts are one process group. */
export interface Running {
  readonly name: string
  readonly pid: number
  readonly stdin: Writable | null
  readonly stdout: Readable | null
  /** What its end means, once it has ended; never rejects. */
  readonly verdict: Promise<Verdict>
  /** Ends the whole group, gently and then not, and resolves when it is gone. May be called again. */
  stop(): Promise<void>
}

/** The path of a program on PATH, or null. */
export function findProgram(name: string): string | null {
  if (name.includes('/')) return isExecutable(name) ? name : null
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, name)
    if (folder !== '' && isExecutable(path)) return path
  }
  return null
}

/** The path of a program on PATH; a Failure (exit 2) with the remedy when it is not there. */
export function needProgram(name: string, remedy = `install ${name}`): string {
  const path = findProgram(name)
  if (!path) throw usage(`cannot run ${name}`, 'it is not installed, or not on PATH', remedy)
  return path
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/**
 * Starts a program in a process group of its own. Where `setpriv` is there, the kernel ends the program when we
 * die, SIGKILL included: a pg_dump that waits for a lock would otherwise survive us and keep its snapshot.
 * Must be called from the main thread, because that death signal follows the thread.
 *
 * A Writable as stdout joins the program to that pipe in the kernel; the caller then closes or keeps our copy.
 * Throws a Failure (exit 2) when the program is not there; nothing is left behind then.
 */
export function start(
  program: Program,
  stdio: { readonly stdin: 'pipe' | 'ignore'; readonly stdout: 'pipe' | 'ignore' | Writable },
  ctx: Context,
): Running {
  const path = needProgram(program.program)
  const setpriv = findProgram('setpriv')
  const [file, args] = setpriv
    ? [setpriv, ['--pdeathsig', 'TERM', '--', path, ...program.args]]
    : [path, [...program.args]]
  const fds = (program.secretFds ?? []).map(secret => namelessFile(secret, ctx.dir))
  try {
    const child = spawn(file, args, {
      cwd: program.cwd ?? ctx.dir,
      env: environment(program, ctx),
      stdio: [stdio.stdin, stdio.stdout, 'pipe', ...fds],
      detached: true,
    })
    return running(program, child)
  } finally {
    for (const fd of fds) closeSync(fd)
  }
}

/** A secret in a file that has no name any more: the child reads it as /dev/fd/N, and nothing stays if we are killed. */
function namelessFile(secret: Secret, dir: string): number {
  const path = join(dir, randomUUID())
  writeFileSync(path, secret.reveal(), { mode: 0o600, flag: 'wx' })
  try {
    return openSync(path, 'r')
  } finally {
    unlinkSync(path)
  }
}

function environment(program: Program, ctx: Context): Record<string, string> {
  const env: Record<string, string> = {
    PATH: process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin',
    LC_ALL: 'C.UTF-8',
    HOME: ctx.dir,
    TMPDIR: ctx.dir,
  }
  for (const [name, value] of Object.entries(program.env ?? {})) {
    env[name] = value instanceof Secret ? value.reveal() : value
  }
  return env
}

function running(program: Program, child: ChildProcess): Running {
  const name = basename(program.program)
  const stderr = followStderr(program, child)
  const exited = new Promise<Exit | Error>(resolve => {
    child.once('error', resolve)
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })
  // A grandchild may keep stderr open after the program has ended: do not wait for it for long.
  const verdict = exited.then(async exit => {
    if (exit instanceof Error)
      return new Failure({ what: `cannot run ${name}`, why: exit.message, cause: exit })
    await Promise.race([stderr.ended, sleep(500)])
    return (program.judge ?? judgeByCode(name))(exit, stderr.tail())
  })
  // Broken pipes are expected when the other side ends first; verdicts say what really happened.
  for (const stream of [child.stdin, child.stdout]) stream?.on('error', () => {})

  let stopping: Promise<void> | undefined
  const stop = async (): Promise<void> => {
    signalGroup(child, 'SIGTERM')
    signalGroup(child, 'SIGCONT')
    const timer = setTimeout(() => signalGroup(child, 'SIGKILL'), graceMs)
    await exited
    clearTimeout(timer)
    signalGroup(child, 'SIGKILL')
    child.stdin?.destroy()
    child.stdout?.destroy()
    child.stderr?.destroy()
  }
  return {
    name,
    pid: child.pid ?? 0,
    stdin: child.stdin,
    stdout: child.stdout,
    verdict,
    stop: () => {
      stopping ??= stop()
      return stopping
    },
  }
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (!child.pid) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // The whole group has ended.
  }
}

/** Keeps the end of what a program writes to stderr, without the secrets it was given. */
function followStderr(program: Program, child: ChildProcess) {
  const secrets = [
    ...Object.values(program.env ?? {}).filter(value => value instanceof Secret),
    ...(program.secretFds ?? []),
  ]
  let tail = ''
  let line = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    tail = (tail + text).slice(-stderrTailBytes)
    if (!program.onStderr) return
    const lines = (line + text).split('\n')
    line = lines.pop() ?? ''
    for (const whole of lines) program.onStderr(mask(whole, secrets))
  })
  const ended = new Promise<void>(resolve => {
    child.stderr?.once('close', () => {
      if (line !== '') program.onStderr?.(mask(line, secrets))
      resolve()
    })
  })
  return { ended, tail: () => mask(tail, secrets) }
}

/** Exit code 0 is success; anything else is a Failure that quotes the last lines of stderr. */
function judgeByCode(name: string) {
  return (exit: Exit, stderrTail: string): Verdict =>
    exit.code === 0 ? null : new Failure({ what: `${name} failed`, why: describeExit(exit, stderrTail) })
}

/** What a program said last, or how it ended when it said nothing. */
export function describeExit(exit: Exit, stderrTail: string): string {
  const said = stderrTail.trim().split('\n').slice(-3).join(' ').slice(-600)
  const ended = exit.signal ? `killed by ${exit.signal}` : `exit code ${exit.code}`
  return said ? `${said} (${ended})` : ended
}

/** True for a program that only failed because the one after it had gone. */
export function isBrokenPipe(error: Error): boolean {
  return /SIGPIPE|Broken pipe|EPIPE/i.test(error.message)
}

/** Whether the program was stopped (SIGSTOP, a frozen cgroup): then it is to blame for the silence. */
export function isFrozen(program: Running): boolean {
  try {
    return /^State:\s*[Tt]/m.test(readFileSync(`/proc/${program.pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms).unref())
}
