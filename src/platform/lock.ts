import { readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { asFailure, exitCode, Failure, usage } from '../model/failure.ts'
import { makePathSync } from './make-path.ts'
import { systemFailure } from './system-error.ts'

/**
 * Takes a lock that the kernel gives back when this process ends, however it ends, and that also excludes processes in
 * other containers that share the folder: the exclusive lock SQLite takes on a database file (fcntl(2)). The file stays;
 * it is not the lock. Disposing releases it. Throws a Failure with exit 11, naming the holder, when it is taken.
 */
export async function takeLock(path: string, what: string): Promise<Disposable> {
  const { DatabaseSync } = await import('node:sqlite')
  const database = openedAt(path, what, () => new DatabaseSync(path, { timeout: 0 }))
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if (!/locked|busy/i.test((error as Error).message)) throw unlockable(path, what, error)
    throw new Failure({
      what: `${what} is locked`,
      why: `another run of it is going on (${holder(path)})`,
      remedy: 'wait until it has ended',
      exit: exitCode.locked,
    })
  }
  sayHolder(path)
  return { [Symbol.dispose]: () => database.close() }
}

function openedAt<T>(path: string, what: string, open: () => T): T {
  try {
    makePathSync(dirname(path))
    return open()
  } catch (error) {
    throw unlockable(path, what, error)
  }
}

function unlockable(path: string, what: string, error: unknown): Failure {
  const { why } = systemFailure(error, what) ?? asFailure(error, what)
  return usage(
    `cannot lock ${what}`,
    `${path}: ${why}`,
    'see that the state folder (CAIRN_STATE) can be written',
  )
}

/** The same, but waits until it is free; `waiting` is called once if it is not. Throws the signal's reason when that is aborted. */
export async function waitForLock(
  path: string,
  what: string,
  signal: AbortSignal,
  waiting: () => void,
): Promise<Disposable> {
  for (let tries = 1; ; tries++) {
    signal.throwIfAborted()
    try {
      return await takeLock(path, what)
    } catch (error) {
      if (!(error instanceof Failure) || error.exit !== exitCode.locked) throw error
      if (tries === 1) waiting()
      await sleep(200, undefined, { signal }).catch(() => signal.throwIfAborted())
    }
  }
}

/** For messages only: that it cannot be written, on a full disk, is no reason to keep or to lose the lock. */
function sayHolder(path: string): void {
  const text = `process ${process.pid} on ${hostname()}, since ${new Date().toISOString()}`
  try {
    writeFileSync(`${path}.holder`, text)
  } catch {
    // Then it is not known.
  }
}

function holder(path: string): string {
  try {
    return readFileSync(`${path}.holder`, 'utf8')
  } catch {
    return 'holder unknown'
  }
}
