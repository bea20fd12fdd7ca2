import { spawn, spawnSync } from 'node:child_process'
import { cpuTimes, load, sample, treeOf } from './process-tree.ts'

/** A command, or a pipeline as a shell has it. */
export type Measurable = { readonly argv: readonly [string, ...string[]] } | { readonly pipeline: string }

/** What a run has cost, with everything that it started. */
export interface Measured {
  readonly seconds: number
  /** User and system time of the whole tree, as the kernel adds it up. */
  readonly cpuSeconds: number
  /** The most memory (PSS) that the whole tree had at a moment. */
  readonly peakBytes: number
  /** The same without the database's own programs: what the backup program and its stages take. */
  readonly stagesPeakBytes: number
  /** By program: its peak, and its CPU as last seen. */
  readonly programs: Readonly<Record<string, { readonly peakBytes: number; readonly cpuSeconds: number }>>
  /** The load of the machine before it began. */
  readonly load: number
  readonly stdout: string
}

const sampleMs = 50
/**
 * To add up a tree's pages takes milliseconds, and Cairn, unlike a pipeline of one busy program, has no processor to spare:
 * no more than so much, and this part of one.
 */
const watchingTakes = { ms: 50, share: 0.02 }

/** PostgreSQL's own programs, and the Perl script by which Debian starts them. */
const databasePrograms = /^(pg_dump|pg_dumpall|pg_restore|psql|createdb|perl|mariadb|mariadb-dump)$/

/** Runs it to its end and measures it. Rejects when it does not end with 0. One at a time: CPU time is ours as a whole. */
export async function measure(
  what: Measurable,
  options: { readonly env?: Readonly<Record<string, string>>; readonly cwd?: string } = {},
): Promise<Measured> {
  // What an earlier run has left to be written must not be written at this one's cost.
  spawnSync('sync')
  const [command, ...args] = 'argv' in what ? what.argv : ['bash', '-c', `set -o pipefail; ${what.pipeline}`]
  const loadBefore = load()
  const cpuBefore = childrenCpu()
  const started = performance.now()
  const child = spawn(command ?? '', args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  const kill = (): void => killGroup(child.pid)
  process.once('exit', kill)
  const memory = watchMemory(child.pid ?? 0)
  const output = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', text => {
    output.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', text => {
    output.stderr = (output.stderr + text).slice(-4000)
  })
  try {
    const ended = await new Promise<{ code: number | null; at: number }>((resolve, reject) => {
      let at = 0
      child.once('error', reject)
      child.once('exit', () => {
        at = performance.now()
      })
      child.once('close', code => resolve({ code, at }))
    })
    if (ended.code !== 0)
      throw new Error(
        `${[command, ...args].join(' ')} ended with ${ended.code}:\n${output.stderr}${output.stdout}`,
      )
    const seconds = (ended.at - started) / 1000
    const cpuSeconds = childrenCpu() - cpuBefore
    return { seconds, cpuSeconds, ...memory.stop(), load: loadBefore, stdout: output.stdout }
  } finally {
    memory.stop()
    process.off('exit', kill)
  }
}

/** The kernel adds a child's time, and that of the child's own children, when it is waited for. */
function childrenCpu(): number {
  return cpuTimes('self')?.children ?? 0
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}

/** Samples the tree of a process until stopped. */
function watchMemory(root: number) {
  let peakBytes = 0
  let stagesPeakBytes = 0
  const programs: Record<string, { peakBytes: number; cpuSeconds: number }> = {}
  /** The last that was seen of each process's CPU; a program may run several times. */
  const cpu = new Map<number, { program: string; seconds: number }>()
  const look = (): void => {
    const now: Record<string, number> = {}
    for (const pid of treeOf(root)) {
      const seen = sample(pid)
      if (!seen) continue
      now[seen.program] = (now[seen.program] ?? 0) + seen.bytes
      cpu.set(pid, { program: seen.program, seconds: seen.cpuSeconds })
    }
    const entries = Object.entries(now)
    peakBytes = Math.max(peakBytes, sum(entries.map(([, bytes]) => bytes)))
    const stages = entries.filter(([program]) => !databasePrograms.test(program))
    stagesPeakBytes = Math.max(stagesPeakBytes, sum(stages.map(([, bytes]) => bytes)))
    for (const [program, bytes] of entries) {
      programs[program] = { cpuSeconds: 0, peakBytes: Math.max(programs[program]?.peakBytes ?? 0, bytes) }
    }
  }
  let timer: NodeJS.Timeout
  const began = performance.now()
  const before = process.cpuUsage()
  const again = (): void => {
    look()
    const { user, system } = process.cpuUsage(before)
    const paidAfter = ((user + system) / 1000 - watchingTakes.ms) / watchingTakes.share
    timer = setTimeout(again, Math.max(sampleMs, paidAfter - (performance.now() - began)))
  }
  timer = setTimeout(again, sampleMs)
  return {
    stop() {
      clearTimeout(timer)
      for (const [name, program] of Object.entries(programs)) {
        program.cpuSeconds = sum(
          [...cpu.values()].filter(each => each.program === name).map(each => each.seconds),
        )
      }
      return { peakBytes, stagesPeakBytes, programs }
    },
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
