import { readFile, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { answerOf } from './unanswered.ts'

/** What of a file system is mounted where, as this process sees it. */
export interface Mount {
  /** `major:minor`, one for each file system. */
  readonly device: string
  /** The folder or file of the file system. */
  readonly root: string
  /** Absolute, without links. */
  readonly point: string
}

/** Those mounted later last, proc_pid_mountinfo(5). Empty where the kernel does not tell. */
export async function mounts(): Promise<Mount[]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '')
  const lines = text.split('\n').filter(Boolean)
  return lines.map(line => {
    const [device = '', root = '', point = ''] = line.split(' ').slice(2).map(unescaped)
    return { device, root, point }
  })
}

/** What is mounted below a folder and not below another of these: relative to it. A folder that is not there has none. */
export async function mountsBelow(folder: string): Promise<string[]> {
  const real = await realpath(folder).catch(() => null)
  if (real === null) return []
  const prefix = real === '/' ? real : `${real}/`
  const points = (await mounts()).map(({ point }) => point)
  const below = points.filter(point => point.startsWith(prefix) && point !== prefix)
  const inner = [...new Set(below.map(point => point.slice(prefix.length)))]
  return inner.filter(one => !inner.some(other => one.startsWith(`${other}/`))).sort()
}

/**
 * All paths by which a folder is reached: as it is written, without links, and through other mounts of its file system. Only the
 * first where that does not answer.
 */
export async function pathsOf(folder: string): Promise<string[]> {
  const found = await answerOf(`the paths of ${folder}`, realPathsOf(folder))
  return [...new Set([folder, ...(found ?? [])])]
}

async function realPathsOf(folder: string): Promise<string[]> {
  const real = await realPath(folder)
  const all = await mounts()
  // Which of them shows the folder is not told by their order: those made before the root was have been moved there.
  const owns = all.filter(({ point }) => isWithin(point, real))
  const others = new Set(owns.flatMap(own => elsewhere(real, own, all)))
  const found = await Promise.all([...others].map(async path => ((await isSame(path, real)) ? [path] : [])))
  return [real, ...found.flat()]
}

/** Where the folder would be if this mount showed it. */
function elsewhere(real: string, own: Mount, all: readonly Mount[]): string[] {
  const inside = join(own.root, relative(own.point, real))
  return all
    .filter(({ device, root }) => device === own.device && isWithin(root, inside))
    .map(({ root, point }) => join(point, relative(root, inside)))
}

/** An absolute path without links; what of it is not there stays as it is written. */
export async function realPath(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch {
    return path === dirname(path) ? path : join(await realPath(dirname(path)), basename(path))
  }
}

function isWithin(outer: string, inner: string): boolean {
  return inner === outer || inner.startsWith(outer === '/' ? outer : `${outer}/`)
}

/** Something else may be mounted over it. What is not there yet would be made in the same folder. */
async function isSame(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([one, other].map(path => stat(path).catch(() => null)))
  if (!a && !b) return basename(one) === basename(other) && (await isSame(dirname(one), dirname(other)))
  return a?.dev === b?.dev && a?.ino === b?.ino
}

function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
