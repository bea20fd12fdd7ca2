import { randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'

/**
 * A folder that only we can enter, for sockets, small files and the HOME of children. Its name says which process
 * it belongs to, so that the next start removes what a killed one left.
 *
 * Throws when it cannot be made; disposing removes it with all it holds.
 */
export function privateDir(parent: string): Disposable & { readonly path: string } {
  mkdirSync(parent, { recursive: true, mode: 0o700 })
  const path = join(
    parent,
    `${hostname()}-${process.pid}-${startTime(process.pid)}-${randomUUID().slice(0, 8)}`,
  )
  mkdirSync(path, { mode: 0o700 })
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}

/** Removes the private folders of processes of this host that are gone. */
export function sweepPrivateDirs(parent: string): void {
  let names: string[]
  try {
    names = readdirSync(parent)
  } catch {
    return
  }
  for (const name of names) {
    const match = /^(.+)-(\d+)-(\d+)-[0-9a-f]{8}$/.exec(name)
    if (match?.[1] !== hostname() || startTime(Number(match[2])) === match[3]) continue
    rmSync(join(parent, name), { recursive: true, force: true })
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
