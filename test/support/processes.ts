import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Context } from '../../src/model/context.ts'
import type { Bytes, Program, Transform } from '../../src/model/step.ts'

/** A program of a few words of shell. */
export function sh(script: string, more: Partial<Program> = {}): Program {
  return { program: 'sh', args: ['-c', script], ...more }
}

export const cat: Program = { program: 'cat', args: [] }

/** Writes so many bytes, says why it fails, and fails. */
export function failingAfter(bytes: number): Program {
  return sh(`head -c ${bytes} /dev/zero; echo "the disk is on fire" >&2; exit 1`)
}

/** Makes nothing and does not end. */
export const silent: Program = { program: 'sleep', args: ['1000'] }

/** Hands chunks on as they are. */
export const asIs: Transform = {
  name: 'as-is',
  async *run(input) {
    yield* input
  },
}

export async function collect(bytes: Bytes): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of bytes) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Bytes in chunks of the same size. */
export async function* chunked(bytes: Uint8Array, size = 65536): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size)
}

/** Bytes, and then nothing more, without an end. */
export async function* stuck(bytes = new Uint8Array()): AsyncGenerator<Uint8Array, void, undefined> {
  if (bytes.byteLength > 0) yield bytes
  await new Promise(resolve => setTimeout(resolve, 2 ** 30).unref())
}

/** What runs with the context's folder as HOME: its programs and all that they have started. By command line. */
export function processesOf(ctx: Context): Map<number, string> {
  const found = new Map<number, string>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || !read(name, 'environ').split('\0').includes(`HOME=${ctx.dir}`)) continue
    if (!/^State:\s*[ZX]/m.test(read(name, 'status')))
      found.set(Number(name), read(name, 'cmdline').replaceAll('\0', ' ').trim())
  }
  return found
}

/**
 * The command lines of all that this process has started, and that those have, arguments parted by NUL. What others run is
 * theirs: some hand a password of a common server to a program as people do.
 */
export function commandLinesOfOurs(): string[] {
  const parents = new Map<string, string>()
  for (const pid of readdirSync('/proc'))
    if (/^\d+$/.test(pid)) parents.set(pid, /^PPid:\s*(\d+)/m.exec(read(pid, 'status'))?.[1] ?? '')
  const isOurs = (pid: string | undefined): boolean =>
    pid !== undefined && pid !== '' && (pid === String(process.pid) || isOurs(parents.get(pid)))
  return [...parents].filter(([, parent]) => isOurs(parent)).map(([pid]) => read(pid, 'cmdline'))
}

export function assertNothingRuns(ctx: Context): void {
  assert.deepEqual([...processesOf(ctx).values()], [])
}

/** Waits until a program of the context runs with this command line, without its folder, and returns its id. */
export async function processWith(commandLine: string, ctx: Context): Promise<number> {
  let pid: number | undefined
  await until(() => {
    // Not a shell that has yet to become it.
    pid = [...processesOf(ctx)].find(([, line]) => line.replace(/^\S*\//, '').startsWith(commandLine))?.[0]
    return pid !== undefined
  }, `${commandLine} does not run`)
  return pid ?? 0
}

/** As when the machine sleeps: nothing is done and nothing is noticed; then timers come before what has arrived meanwhile. */
export function stopped(ms: number): Promise<void> {
  return new Promise(resolve => {
    setImmediate(() => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
      resolve()
    })
  })
}

export async function until(condition: () => boolean, what: string, ms = 20_000): Promise<void> {
  const deadline = performance.now() + ms
  while (!condition()) {
    assert.ok(performance.now() < deadline, what)
    await sleep(10)
  }
}

function read(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return ''
  }
}
