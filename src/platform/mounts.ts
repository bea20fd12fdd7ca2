import { readFileSync, type Stats, statSync } from 'node:fs'
import { realpath } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { realPath } from './real-path.ts'

/** What of a file system is mounted where, as this process sees it. */
interface Mount {
  /** `major:minor`, one for each file system. */
  readonly device: string
  /** The folder or file of the file system. */
  readonly root: string
  /** Absolute, without links. */
  readonly point: string
}

/** Those mounted later last, proc_pid_mountinfo(5). Empty where the kernel does not tell. */
export function mounts(): Mount[] {
  try {
    const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter(Boolean)
    return lines.map(line => {
      const [device = '', root = '', point = ''] = line.split(' ').slice(2).map(unescaped)
      return { device, root, point }
    })
  } catch {
    return []
  }
}

/** What is mounted below a folder and not below another of these: relative to it. A folder that is not there has none. */
export async function mountsBelow(folder: string): Promise<string[]> {
  const real = await realpath(folder).catch(() => null)
  if (real === null) return []
  const prefix = real === '/' ? real : `${real}/`
  const below = mounts().flatMap(({ point }) => (point.startsWith(prefix) && point !== prefix ? [point] : []))
  const inner = [...new Set(below.map(point => point.slice(prefix.length)))]
  return inner.filter(one => !inner.some(other => one.startsWith(`${other}/`))).sort()
}

/** All paths by which a folder is reached through mounts of its file system, its own one among them: absolute, without links. */
export function pathsOf(folder: string): string[] {
  const real = realPath(folder)
  const all = mounts()
  const own = all.findLast(({ point }) => isWithin(point, real))
  if (!own) return [real]
  const inside = join(own.root, relative(own.point, real))
  const others = all
    .filter(({ device, root }) => device === own.device && isWithin(root, inside))
    .map(({ root, point }) => join(point, relative(root, inside)))
  return [...new Set([real, ...others.filter(path => path !== real && isSame(path, real))])]
}

function isWithin(outer: string, inner: string): boolean {
  return inner === outer || inner.startsWith(outer === '/' ? outer : `${outer}/`)
}

/** Something else may be mounted over it. What is not there yet would be made in the same folder. */
function isSame(one: string, other: string): boolean {
  const [a, b] = [one, other].map(statOf)
  // Where it cannot be told (a loop of links, a folder that is closed to us), whoever uses the path hears why.
  if (a === null || b === null) return false
  if (!a && !b) return basename(one) === basename(other) && isSame(dirname(one), dirname(other))
  return a?.dev === b?.dev && a?.ino === b?.ino
}

/** Undefined: it is not there; null: nobody can tell. */
function statOf(path: string): Stats | undefined | null {
  try {
    return statSync(path, { throwIfNoEntry: false })
  } catch {
    return null
  }
}

function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
