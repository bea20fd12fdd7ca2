import { randomUUID } from 'node:crypto'
import { closeSync, constants, openSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Context } from '../model/context.ts'
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
  const paths = Array.from({ length: Math.max(0, count) }, () => join(ctx.dir, `pipe-${randomUUID()}`))
  const open: number[] = []
  const close = (): void => {
    for (const fd of open) closeSync(fd)
  }
  const opened = (path: string, flags: number): number => {
    const fd = openSync(path, flags)
    open.push(fd)
    return fd
  }
  try {
    if (paths.length > 0) await make(paths, ctx)
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

async function make(paths: readonly string[], ctx: Context): Promise<void> {
  const program = { program: 'mkfifo', args: ['--mode=600', '--', ...paths] }
  const failure = await start(program, { stdin: 'ignore', stdout: 'ignore' }, ctx).verdict
  if (failure) throw failure
}
