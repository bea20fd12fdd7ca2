import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { basename, delimiter, join, resolve } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import type { Context } from '../model/context.ts'
import { asFailure, Failure, usage } from '../model/failure.ts'
import { Secret } from '../model/secret.ts'
import type { Exit, Program, Verdict } from '../model/step.ts'
import { settlesWithin } from './abort.ts'
import { groupGone } from './process-group.ts'
import { followStderr } from './stderr.ts'

/** How long a program may take to end after SIGTERM. */
const graceMs = 5_000
/** How long something else may hold a program's stderr open after its end. */
const stderrGraceMs = 500

/** A program that was started. It and whatever it starts are one process group. */
export interface Running {
  readonly name: string
  readonly pid: number
  readonly endsEarly: boolean
  readonly stdin: Writable | null
  readonly stdout: Readable | null
  /** What its end means, once it has ended; never rejects. */
  readonly verdict: Promise<Verdict>
  /** Ends the whole group, gently and then not, and resolves when it is gone. May be called again. */
  stop(): Promise<void>
}

export interface Stdio {
  readonly stdin: 'pipe' | 'ignore' | number
  readonly stdout: 'pipe' | 'ignore' | number | Writable
}

/** The path of a program on PATH, or null. */
export function findProgram(name: string): string | null {
  // Absolute, because the program runs in another folder than ours.
  if (name.includes('/')) return isExecutable(name) ? resolve(name) : null
  for (const folder of searchPath().split(delimiter)) {
    const path = resolve(folder, name)
    if (folder !== '' && isExecutable(path)) return path
  }
  return null
}

function searchPath(): string {
  return process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin'
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
    // Folders are "executable", too.
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/**
 * Starts a program in a process group of its own. Where `setpriv` is there, the kernel ends the program when we
 * die, SIGKILL included: a pg_dump that waits for a lock would otherwise survive us and keep its snapshot.
 * Must be called from the main thread, because that death signal follows the thread.
 *
 * A descriptor, or a Writable as stdout, joins the program to it in the kernel; the caller then closes or keeps our copy.
 * Throws a Failure (exit 2) when the program is not there; nothing is left behind then.
 */
export function start(program: Program, stdio: Stdio, ctx: Context): Running {
  const [file = '', ...args] = commandLine(program)
  const fds: number[] = []
  try {
    for (const secret of program.secretFds ?? []) fds.push(namelessFile(secret, ctx.dir))
    const child = spawn(file, args, {
      cwd: program.cwd ?? ctx.dir,
      env: environment(program, ctx),
      stdio: [stdio.stdin, stdio.stdout, 'pipe', ...fds],
      detached: true,
    })
    return running(program, child)
  } catch (error) {
    // For instance E2BIG; most others come as an event.
    throw asFailure(error, `cannot run ${basename(program.program)}`)
  } finally {
    for (const fd of fds) closeSync(fd)
  }
}

/** Each of the programs in front becomes the next one; where it is not there, the last runs without its service. */
function commandLine(program: Program): string[] {
  const path = needProgram(program.program)
  const setpriv = findProgram('setpriv')
  const stdbuf = program.writesSmallBlocks ? findProgram('stdbuf') : null
  return [
    ...(setpriv ? [setpriv, '--pdeathsig', 'TERM', '--'] : []),
    ...(stdbuf ? [stdbuf, '--output=256K', '--'] : []),
    ...[path, ...program.args],
  ]
}

/** A secret in a file that has no name any more when it is written: nothing stays, whenever we are killed. */
function namelessFile(secret: Secret, dir: string): number {
  const path = join(dir, randomUUID())
  const file = openSync(path, 'wx+', 0o600)
  try {
    unlinkSync(path)
    const bytes = Buffer.from(secret.reveal())
    // At a position, so that who reads the descriptor by its number starts at the beginning.
    for (let at = 0; at < bytes.byteLength; ) at += writeSync(file, bytes, at, bytes.byteLength - at, at)
    return file
  } catch (error) {
    closeSync(file)
    throw error
  }
}

function environment(program: Program, ctx: Context): Record<string, string> {
  const env: Record<string, string> = {
    PATH: searchPath(),
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
  const stdio = [child.stdin, child.stdout, child.stderr]
  // Broken pipes are expected when the other side ends first; verdicts say what really happened.
  for (const stream of stdio) stream?.on('error', () => {})
  const exited = new Promise<Exit | Error>(resolve => {
    child.once('error', resolve)
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })
  const verdict = judgement(program, name, child, exited)
  const group = groupOf(child)
  const stop = async (): Promise<void> => {
    await group.end(exited)
    await verdict
    for (const stream of stdio) stream?.destroy()
  }
  let stopping: Promise<void> | undefined
  return {
    name,
    pid: child.pid ?? 0,
    endsEarly: program.endsEarly === true,
    stdin: child.stdin,
    stdout: child.stdout,
    verdict,
    stop: () => {
      stopping ??= stop()
      return stopping
    },
  }
}

async function judgement(
  program: Program,
  name: string,
  child: ChildProcess,
  exited: Promise<Exit | Error>,
): Promise<Verdict> {
  let fault: Verdict = null
  const stderr = followStderr(program, child.stderr, error => {
    fault ??= asFailure(error, `${name} failed`)
  })
  const exit = await exited
  if (exit instanceof Error) {
    // ENOENT is about the folder, too, and names the wrong file.
    const cwd = program.cwd !== undefined && !existsSync(program.cwd) ? program.cwd : null
    const why = cwd === null ? exit.message : `there is no folder ${cwd}`
    return new Failure({ what: `cannot run ${name}`, why, cause: exit })
  }
  // A grandchild may keep stderr open after the program has ended.
  await settlesWithin(stderr.ended, stderrGraceMs)
  try {
    return (program.judge ?? judgeByCode(name))(exit, stderr.tail()) ?? fault
  } catch (error) {
    return asFailure(error, `${name} failed`)
  }
}

/** The process group that a child leads. */
function groupOf(child: ChildProcess) {
  const pid = child.pid ?? 0
  let isThere = pid !== 0
  const signal = (name: NodeJS.Signals | 0): void => {
    // Once its leader has ended, the group's number is only ours while a member lives: a process of that id is a stranger.
    const isOver = child.exitCode !== null || child.signalCode !== null
    if (!isThere || (isOver && existsSync(`/proc/${pid}`))) return
    try {
      process.kill(-pid, name)
    } catch {
      isThere = false
    }
  }
  // The rule, and the moment when it is certain: the program was alone, and its number is anybody's from now on.
  child.once('exit', () => signal(0))
  return {
    async end(exited: Promise<unknown>): Promise<void> {
      const deadline = performance.now() + graceMs
      signal('SIGTERM')
      signal('SIGCONT')
      const timer = setTimeout(signal, graceMs, 'SIGKILL')
      await exited
      clearTimeout(timer)
      signal(0)
      if (!isThere || (await groupGone(pid, deadline))) return
      signal('SIGKILL')
      await groupGone(pid, performance.now() + graceMs)
    },
  }
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

/**
 * True for a program that only failed because the one after it had gone. The reader of a Unix socket, which our
 * pipes are, that leaves bytes unread gives the writer ECONNRESET; a reset connection to a server is another matter.
 */
export function isBrokenPipe(error: Error): boolean {
  return /SIGPIPE|Broken pipe|EPIPE|errno:? (32|104) on write|(writ\w*|output|stdout)\b.*connection reset/i.test(
    error.message,
  )
}
