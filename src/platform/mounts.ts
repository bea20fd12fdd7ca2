import { readFile, realpath } from 'node:fs/promises'

/** Where something is mounted, as this process sees it (proc_pid_mountinfo(5)): absolute, without links. Empty where the kernel does not tell. */
export async function mountPoints(): Promise<string[]> {
  const mounts = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '')
  return mounts
    .split('\n')
    .flatMap(line => line.split(' ').slice(4, 5))
    .map(unescaped)
}

/** What is mounted below a folder and not below another of these: relative to it. A folder that is not there has none. */
export async function mountsBelow(folder: string): Promise<string[]> {
  const real = await realpath(folder).catch(() => null)
  if (real === null) return []
  const prefix = real === '/' ? real : `${real}/`
  const below = (await mountPoints()).filter(point => point.startsWith(prefix) && point !== prefix)
  const inner = [...new Set(below.map(point => point.slice(prefix.length)))]
  return inner.filter(one => !inner.some(other => one.startsWith(`${other}/`))).sort()
}

function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
