import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

// What /proc (proc(5)) tells about the programs we started. Where there is no /proc, nothing is known or claimed.

/** The processes of a group that still run. A zombie has ended; whether it is ever buried is up to its parent. */
function groupMembers(group: number): number[] {
  return processes().filter(pid => {
    // The name, in parentheses, may hold anything.
    const [state, , processGroup] = read(pid, 'stat').split(') ').at(-1)?.split(' ') ?? []
    return Number(processGroup) === group && state !== 'Z' && state !== 'X'
  })
}

/** Resolves when no process of the group runs any more, or at the deadline (of `performance.now()`). True if none does. */
export async function groupGone(group: number, deadline: number): Promise<boolean> {
  for (;;) {
    if (groupMembers(group).length === 0) return true
    if (performance.now() >= deadline) return false
    await sleep(20)
  }
}

/** Whether a process was stopped (SIGSTOP): then it is to blame for the silence. */
export function isFrozen(pid: number): boolean {
  return /^State:\s*[Tt]/m.test(read(pid, 'status'))
}

/** Bytes that a group has read and written so far, as the kernel counts them. It is only good for seeing that they move. */
export function bytesMoved(group: number): number {
  let bytes = 0
  for (const pid of groupMembers(group)) {
    for (const [, count] of read(pid, 'io').matchAll(/^[rw]char: (\d+)/gm)) bytes += Number(count)
  }
  return bytes
}

/** read, readv, recvfrom, recvmsg and write, writev, sendto, sendmsg, where the kernel tells in which call a process waits. */
const calls: Readonly<
  Record<string, { readonly reads: readonly number[]; readonly writes: readonly number[] }>
> = {
  x64: { reads: [0, 19, 45, 47], writes: [1, 20, 44, 46] },
  arm64: { reads: [63, 65, 207, 212], writes: [64, 66, 206, 211] },
}

/** Whether a process waits for what comes before it in a chain (reads stdin), or after it (writes stdout); null when neither is known. */
export function waitsFor(pid: number): 'before' | 'after' | null {
  const known = calls[process.arch]
  for (const thread of list(`/proc/${pid}/task`)) {
    const [call, fd] = read(pid, `task/${thread}/syscall`).split(' ')
    if (fd === '0x0' && known?.reads.includes(Number(call))) return 'before'
    if (fd === '0x1' && known?.writes.includes(Number(call))) return 'after'
  }
  return null
}

function processes(): number[] {
  return list('/proc').map(Number).filter(Number.isInteger)
}

function list(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return ''
  }
}
