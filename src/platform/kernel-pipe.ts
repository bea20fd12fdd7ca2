import { randomUUID } from 'node:crypto'
import { closeSync, constants, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Context } from '../model/context.ts'
import { Failure } from '../model/failure.ts'
import type { Verdict } from '../model/step.ts'
import { start } from './program.ts'

/** Pipes between programs. Disposing closes our ends: a reader sees the end when the last writer has gone. */
export interface KernelPipes extends Disposable {
  /** The descriptor to read the pipe of this number by; undefined where there is none. */
  reader(index: number): number | undefined
  writer(index: number): number | undefined
}

/**
 * So many pipes, of no name any more: nothing stays, whenever we are killed. Node.js joins children by Unix sockets, which take
 * much more of the processor where a dump program writes small blocks (4 KiB each: those of mariadb-dump).
 */
export async function kernelPipes(count: number, ctx: Context): Promise<KernelPipes> {
  const open: number[] = []
  let paths: readonly string[] = []
  const close = (): void => {
    for (const fd of open) closeSync(fd)
  }
  const opened = (path: string, flags: number): number => {
    const fd = openSync(path, flags)
    open.push(fd)
    return fd
  }
  try {
    if (count > 0) paths = await fifos(count, ctx)
    const ends = paths.map(path => {
      // Neither end can be opened alone without waiting for the other; both together can.
      const both = openSync(path, constants.O_RDWR)
      try {
        return { reader: opened(path, constants.O_RDONLY), writer: opened(path, constants.O_WRONLY) }
      } finally {
        closeSync(both)
      }
    })
    return {
      reader: index => ends[index]?.reader,
      writer: index => ends[index]?.writer,
      [Symbol.dispose]: close,
    }
  } catch (error) {
    close()
    throw error
  } finally {
    for (const path of paths) rmSync(path, { force: true })
  }
}

/** Not every file system holds them: those that Docker Desktop and SMB mount do not, and the state may lie there. */
async function fifos(count: number, ctx: Context): Promise<string[]> {
  const [first, second] = [ctx.dir, tmpdir()].map(dir =>
    Array.from({ length: count }, () => join(dir, `cairn-pipe-${randomUUID()}`)),
  ) as [string[], string[]]
  const failure = await made(first, ctx)
  if (!failure) return first
  if (!(await made(second, ctx))) return second
  throw new Failure({
    what: 'cannot make pipes',
    why: failure.message,
    remedy: 'set CAIRN_STATE or TMPDIR to a folder on a disk of this machine',
    cause: failure,
  })
}

/** All or none. */
async function made(paths: readonly string[], ctx: Context): Promise<Verdict> {
  const program = { program: 'mkfifo', args: ['-m', '600', '--', ...paths] }
  const failure = await start(program, { stdin: 'ignore', stdout: 'ignore' }, ctx).verdict
  if (failure) for (const path of paths) rmSync(path, { force: true })
  return failure
}
