import { randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { makePathSync } from './make-path.ts'

/** Nobody can see whether another host's process is gone; a container gets a new host name each time. */
const strangerMs = 7 * 24 * 60 * 60 * 1000

/**
 * A folder that only we can enter, for sockets, small files and the HOME of children. Its name says which process
 * it belongs to, so that the next start removes what a killed one left.
 *
 * Throws when it cannot be made; disposing removes it with all it holds.
 */
export function privateDir(parent: string): Disposable & { readonly path: string } {
  makePathSync(parent)
  const path = join(
    parent,
    `${hostname()}-${process.pid}-${startTime(process.pid)}-${randomUUID().slice(0, 8)}`,
  )
  mkdirSync(path, { mode: 0o700 })
  return { path, [Symbol.dispose]: () => remove(path) }
}

/**
 * Removes the private folders of processes of this host that are gone, and those of other hosts in which nothing
 * has changed for a week. What cannot be removed stays; nothing else is touched.
 */
export function sweepPrivateDirs(parent: string): void {
  for (const name of list(parent)) {
    const match = /^(.+)-(\d+)-(\d+)-[0-9a-f]{8}$/.exec(name)
    if (!match) continue
    const [, host, pid, started] = match
    const path = join(parent, name)
    const isGone =
      host === hostname() ? startTime(Number(pid)) !== started : Date.now() - lastChange(path) > strangerMs
    if (!isGone) continue
    try {
      remove(path)
    } catch {
      // Another user's, perhaps. It is in nobody's way.
    }
  }
}

/** When a process started, in clock ticks since boot (proc(5), stat, field 22): with the pid it names one process. '' when it is gone. */
export function startTime(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  } catch {
    return ''
  }
}

/** A child that is just ending may still write into it. */
function remove(path: string): void {
  rmSync(path, { recursive: true, force: true, maxRetries: 3 })
}

/** When something in the folder last changed, itself and its entries, in milliseconds; now, when that cannot be seen. */
function lastChange(path: string): number {
  try {
    return Math.max(
      ...[path, ...list(path).map(name => join(path, name))].map(each => statSync(each).mtimeMs),
    )
  } catch {
    return Date.now()
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}
