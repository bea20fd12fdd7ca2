import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'

/** What /proc tells of processes. Linux only; a process that has ended is simply not there any more. */

/** A process and everything below it, by what the kernel says are the children of its threads. */
export function treeOf(pid: number): number[] {
  const children = listed(`/proc/${pid}/task`).flatMap(thread =>
    words(`/proc/${pid}/task/${thread}/children`).map(Number),
  )
  return [pid, ...children.flatMap(treeOf)]
}

export interface Sample {
  /** The name of the program's file. */
  readonly program: string
  /** Proportional set size: what it shares with others counts by its share. */
  readonly bytes: number
  /** User and system time so far, its own. */
  readonly cpuSeconds: number
}

/** Null when it has ended, or is not to be seen. */
export function sample(pid: number): Sample | null {
  const pss = /^Pss:\s+(\d+) kB/m.exec(text(`/proc/${pid}/smaps_rollup`))?.[1]
  const times = cpuTimes(pid)
  if (pss === undefined || !times) return null
  try {
    const program = basename(readlinkSync(`/proc/${pid}/exe`))
    return { program, bytes: Number(pss) * 1024, cpuSeconds: times.own }
  } catch {
    return null
  }
}

/** Seconds of user and system time: of the process itself, and of all its children that have ended, with theirs. */
export function cpuTimes(pid: number | 'self'): { own: number; children: number } | null {
  // The name stands in brackets and may hold anything; after it come the fields from the third on (proc_pid_stat(5)).
  const stat = text(`/proc/${pid}/stat`)
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const ticks = fields.slice(11, 15).map(Number)
  const [user = Number.NaN, system = 0, childrenUser = 0, childrenSystem = 0] = ticks
  if (Number.isNaN(user)) return null
  return {
    own: (user + system) / ticksPerSecond,
    children: (childrenUser + childrenSystem) / ticksPerSecond,
  }
}

/** USER_HZ, which is 100 on every Linux that Node.js runs on. */
const ticksPerSecond = 100

/** How many processes wanted to run during the last minute. */
export function load(): number {
  return Number(words('/proc/loadavg')[0])
}

function words(path: string): string[] {
  return text(path).split(/\s+/).filter(Boolean)
}

function text(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

function listed(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}
