import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { asNobody } from './nobody.ts'

const cairn = resolve(import.meta.dirname, '../../bin/cairn')

/** What a run of Cairn left of itself. */
export interface Ran {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: Buffer
  /** The same as text. */
  readonly out: string
  readonly stderr: string
  readonly seconds: number
  /** stdout as one JSON document. */
  json<T>(): T
}

export interface Running {
  readonly pid: number
  readonly child: ChildProcess
  readonly ended: Promise<Ran>
  /** Resolves when stderr so far matches; rejects when the run ends without that. */
  said(pattern: RegExp): Promise<void>
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
  /** Runs as a user who is not root; ask {@link canBeNobody} before. */
  readonly as?: 'nobody'
  /** A program that becomes Cairn, and its arguments: `nohup`. */
  readonly by?: readonly string[]
  readonly input?: string
}

/** A host of its own as Cairn sees it: a folder, a state folder, a configuration. */
export interface Machine {
  readonly folder: string
  readonly state: string
  readonly config: string
  /** Writes the configuration: as YAML, or as JSON, which is YAML. */
  configure(config: string | object): void
  /** Runs `cairn ARGS` to its end. */
  run(args: readonly string[], options?: RunOptions): Promise<Ran>
  /** The same, and it must have ended with 0. */
  ok(args: readonly string[], options?: RunOptions): Promise<Ran>
  start(args: readonly string[], options?: RunOptions): Running
  path(...parts: string[]): string
}

const folders: string[] = []
process.on('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
})

export function machine(): Machine {
  const folder = mkdtempSync(join(tmpdir(), 'host-'))
  folders.push(folder)
  chmodSync(folder, 0o755)
  const state = join(folder, 'state')
  const config = join(folder, 'cairn.yaml')
  mkdirSync(join(folder, 'home'))
  const start = (args: readonly string[], options: RunOptions = {}): Running =>
    launch(args, options, folder, state)
  const run = (args: readonly string[], options: RunOptions = {}): Promise<Ran> => start(args, options).ended
  return {
    folder,
    state,
    config,
    start,
    run,
    path: (...parts) => join(folder, ...parts),
    configure: text =>
      writeFileSync(config, typeof text === 'string' ? text : JSON.stringify(text, null, 1), { mode: 0o644 }),
    async ok(args, options = {}) {
      const ran = await run(args, options)
      if (ran.code !== 0)
        throw new Error(
          `cairn ${args.join(' ')} ended with ${ran.code ?? ran.signal}:\n${ran.stderr}${ran.out}`,
        )
      return ran
    },
  }
}

function launch(args: readonly string[], options: RunOptions, folder: string, state: string): Running {
  const [program = cairn, ...rest] = [
    ...(options.as === 'nobody' ? asNobody : []),
    ...(options.by ?? []),
    cairn,
    ...args,
  ]
  const started = performance.now()
  const child = spawn(program, rest, {
    cwd: options.cwd ?? folder,
    env: environment(options, folder, state),
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  })
  child.stdin?.end(options.input)
  const stdout = gather(child.stdout)
  const stderr = gather(child.stderr)
  const ended = new Promise<Ran>((resolveRan, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      const text = stdout.bytes().toString('utf8')
      resolveRan({
        code,
        signal,
        stdout: stdout.bytes(),
        out: text,
        stderr: stderr.bytes().toString('utf8'),
        seconds: (performance.now() - started) / 1000,
        json: <T>() => JSON.parse(text) as T,
      })
    })
  })
  return { pid: child.pid ?? 0, child, ended, said: pattern => heard(child.stderr, stderr, ended, pattern) }
}

/** Nothing of the tester's own environment but what programs need; a value of undefined takes one away. */
function environment(options: RunOptions, folder: string, state: string): NodeJS.ProcessEnv {
  const kept = [
    'PATH',
    'TMPDIR',
    'CAIRN_TEST_RUN',
    'CAIRN_POSTGRES_CLIENTS',
    'CAIRN_MARIADB_CLIENTS',
    'CAIRN_MYSQL_CLIENTS',
  ]
  const env: NodeJS.ProcessEnv = Object.fromEntries(kept.map(name => [name, process.env[name]]))
  return {
    ...env,
    HOME: join(folder, 'home'),
    CAIRN_STATE: state,
    AWS_EC2_METADATA_DISABLED: 'true',
    ...options.env,
  }
}

function gather(stream: Readable | null): { bytes(): Buffer } {
  const chunks: Buffer[] = []
  stream?.on('data', (chunk: Buffer) => chunks.push(chunk))
  return { bytes: () => Buffer.concat(chunks) }
}

function heard(
  stream: Readable | null,
  gathered: { bytes(): Buffer },
  ended: Promise<Ran>,
  pattern: RegExp,
): Promise<void> {
  return new Promise((resolveHeard, reject) => {
    const look = (): void => {
      if (pattern.test(gathered.bytes().toString('utf8'))) resolveHeard()
    }
    stream?.on('data', look)
    look()
    ended.then(
      ran =>
        reject(new Error(`it ended with ${ran.code ?? ran.signal} before it said ${pattern}: ${ran.stderr}`)),
      reject,
    )
  })
}

/** A process as /proc shows it. */
export interface Process {
  readonly pid: number
  readonly parent: number
  /** The name of its program, cut to 15 characters by the kernel. */
  readonly name: string
  readonly argv: string
}

function processes(): Process[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(name => {
      const stat = peek(`/proc/${name}/stat`)
      const [, comm = '', rest = ''] = /^\d+ \((.*)\) (.*)$/s.exec(stat) ?? []
      const [status, parent] = rest.split(' ')
      if (!parent || status === 'Z' || status === 'X') return []
      const argv = peek(`/proc/${name}/cmdline`).replaceAll('\0', ' ').trim()
      return [{ pid: Number(name), parent: Number(parent), name: comm, argv }]
    })
}

export function childrenOf(pid: number): Process[] {
  return processes().filter(each => each.parent === pid)
}

/** Kills a process; returns whether it was there to be killed. */
export function tryKill(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL')
  } catch {
    return false
  }
}

function peek(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

/** Processes that carry a mark in their environment or their arguments: whatever a run on that host has started. */
function carriers(mark: string): Process[] {
  return processes().filter(
    ({ pid, argv }) =>
      pid !== process.pid && (argv.includes(mark) || peek(`/proc/${pid}/environ`).includes(mark)),
  )
}

/** Waits until a condition holds; throws what `problem` says when it does not in time. */
async function until(holds: () => boolean, ms: number, problem: () => string): Promise<void> {
  const deadline = performance.now() + ms
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(problem())
    await sleep(10)
  }
}

/** Resolves when nothing that a host has started is running any more. */
export function allGone(host: Machine, ms = 20_000): Promise<void> {
  const left = (): Process[] => carriers(host.state)
  return until(
    () => left().length === 0,
    ms,
    () =>
      `still running: ${left()
        .map(each => each.argv)
        .join('; ')}`,
  )
}

/** What a watch has seen of the processes on the machine. */
export interface Watched {
  /** Command lines that held a secret. */
  readonly leaks: string[]
  /** The programs that a host ran, as far as they were seen: some live for no longer than a look at all takes. */
  readonly programs: string[]
  /** Those that Cairn itself started with a secret in their environment. What these start in turn is their own affair. */
  readonly holders: string[]
}

/**
 * Looks at the arguments and environments of a host's processes, over and over, until it is stopped. What others run
 * beside is theirs: some hand a password of a common server to a program as people do.
 */
export class ProcessWatch {
  readonly #secrets: readonly string[]
  readonly #leaks = new Set<string>()
  readonly #programs = new Set<string>()
  readonly #holders = new Set<string>()
  readonly #mark: string
  /** The processes of which it is known whether they are the host's: the others' are not looked at again, which takes long. */
  #known = new Map<string, boolean>()
  #stopped = false
  readonly #looking: Promise<void>

  /** `mark`: a text in the environment or the arguments of a host's processes. */
  constructor(secrets: readonly string[], mark: string) {
    this.#secrets = secrets
    this.#mark = mark
    this.#looking = this.#lookOn()
  }

  /** Whether these were seen by now. */
  hasSeen(programs: readonly string[]): boolean {
    return programs.every(each => this.#programs.has(each))
  }

  async stop(): Promise<Watched> {
    this.#stopped = true
    await this.#looking
    return {
      leaks: [...this.#leaks],
      programs: [...this.#programs].sort(),
      holders: [...this.#holders].sort(),
    }
  }

  async #lookOn(): Promise<void> {
    while (!this.#stopped) {
      const before = this.#known
      this.#known = new Map()
      for (const pid of readdirSync('/proc')) {
        if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue
        const isHosts = before.get(pid) ?? this.#isHosts(pid, before)
        if (isHosts !== undefined) this.#known.set(pid, isHosts)
        if (isHosts) this.#look(pid)
      }
      await sleep(2)
    }
  }

  #look(pid: string): void {
    const holds = (text: string): boolean => this.#secrets.some(secret => text.includes(secret))
    const argv = peek(`/proc/${pid}/cmdline`)
    const environment = peek(`/proc/${pid}/environ`)
    if (holds(argv)) this.#leaks.add(argv.replaceAll('\0', ' '))
    const program = argv.split('\0').find(part => part !== '') ?? ''
    const name = program.slice(program.lastIndexOf('/') + 1)
    this.#programs.add(name)
    if (holds(environment) && isCairn(parentOf(pid))) this.#holders.add(name)
  }

  /** What bears the mark, and what that has started; unknown of what this process has started, which may be about to. */
  #isHosts(pid: string, before: ReadonlyMap<string, boolean>): boolean | undefined {
    const above = ancestors(pid)
    const isMarked = ['cmdline', 'environ'].some(file => peek(`/proc/${pid}/${file}`).includes(this.#mark))
    if (isMarked || above.some(each => this.#known.get(each) ?? before.get(each))) return true
    return above.includes(String(process.pid)) ? undefined : false
  }
}

function isCairn(pid: number): boolean {
  return peek(`/proc/${pid}/cmdline`).includes('/src/main.ts')
}

/** The parent of a process, its parent and so on. */
function ancestors(pid: string): string[] {
  const found: string[] = []
  for (let at = parentOf(pid); at > 1; at = parentOf(String(at))) found.push(String(at))
  return found
}

function parentOf(pid: string): number {
  return Number(/^PPid:\s*(\d+)/m.exec(peek(`/proc/${pid}/status`))?.[1] ?? 0)
}

/**
 * Every file below a folder, hidden ones too, by its path from there, with its digest. Entries of the folder itself
 * whose names match are not opened: whoever closes a lock's file drops the lock.
 */
export function tree(folder: string, except?: RegExp): Map<string, string> {
  const files = new Map<string, string>()
  const paths = filesIn(folder).filter(path => !except?.test(path.split('/')[0] ?? ''))
  for (const path of paths)
    files.set(
      path,
      createHash('sha256')
        .update(readFileSync(join(folder, path)))
        .digest('hex'),
    )
  return files
}

/** The paths of all files below a folder, in order; none when it is not there. */
export function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter(entry => !entry.isDirectory())
      .map(entry => join(entry.parentPath, entry.name).slice(folder.length + 1))
      .sort()
  } catch {
    return []
  }
}

/** Makes a folder with a few files of random bytes, so that nothing compresses, and returns it. */
export function randomFiles(folder: string, bytes: number, files = 4): string {
  mkdirSync(folder, { recursive: true })
  for (let index = 0; index < files; index++)
    writeFileSync(join(folder, `file-${index}`), randomBytes(Math.ceil(bytes / files)))
  return folder
}

/** Makes a SQLite database with a table of so many rows, each with some random bytes, and returns its path. */
export function sqliteFile(path: string, rows = 100, bytesEach = 100): string {
  using db = new DatabaseSync(path)
  db.exec('CREATE TABLE item (id INTEGER PRIMARY KEY, body BLOB)')
  db.prepare(
    'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO item SELECT i, randomblob(?) FROM n',
  ).run(rows, bytesEach)
  return path
}

/** What a listing says of a backup. */
export interface Listed {
  readonly id: string
  readonly job: string
  readonly source: string
  readonly startedAt: string
  readonly finishedAt: string
  readonly status: string
  readonly sizeBytes: number
  readonly stores: string[]
  readonly encrypted: boolean
  readonly kind: string
}

export async function listed(host: Machine, ...args: string[]): Promise<Listed[]> {
  return (await host.ok(['list', '--json', ...args])).json<Listed[]>()
}

/** The keys in a store's folder, or those given, that no listed backup accounts for: what interrupted runs left. */
export function leftovers(keys: readonly string[]): string[] {
  const whole = new Set(
    keys.flatMap(key => /^\.cairn\/v1\/manifests\/[^/]+\/([^.]+)\.[^/]*\.json$/.exec(key)?.[1] ?? []),
  )
  const idOf = (key: string): string => /\d{8}T\d{6}Z-[a-z2-7]{8}/.exec(key)?.[0] ?? ''
  return keys.filter(key => !whole.has(idOf(key)) || /\.cairn-part$|\.partial$/.test(key))
}

/** What lies in a host's private folders. */
export function privateFiles(host: Machine): string[] {
  return ['tmp', 'spool'].flatMap(name => {
    try {
      return readdirSync(join(host.state, name)).map(entry => `${name}/${entry}`)
    } catch {
      return []
    }
  })
}
