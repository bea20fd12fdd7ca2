import { accessSync, constants, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { usage } from '../model/failure.ts'
import { replaceFile, syncFolder } from './atomic-file.ts'
import { homeFolder } from './home.ts'
import { hostName } from './host-name.ts'
import { thisMachine } from './machine.ts'
import { makePathSync } from './make-path.ts'
import { sweepPrivateDirs } from './private-dir.ts'
import { systemFailure } from './system-error.ts'

/**
 * What this host keeps between runs: locks, the journal of what must be put right, spool and temporary files, and who
 * it is. Backups survive its loss; what does not is a running guard's journal, and the right to clear away at once
 * what an interrupted backup of this host left (another host's waits until it has expired).
 */
export interface State {
  readonly path: string
  /** A name for this host that outlives its host name. */
  readonly host: string
  /** What a person should know about it now; null: nothing. */
  readonly note: string | null
  readonly tmp: string
  readonly spool: string
  readonly journal: Journal
  lockPath(name: string): string
}

/** Entries that survive a crash: written before something is done, removed after it was undone. */
export interface Journal {
  /** Durable on return. Throws a Failure. */
  write(name: string, entry: unknown): void
  remove(name: string): void
  /** Of one that cannot be read only the name is known; its entry is null. */
  entries(): { readonly name: string; readonly entry: unknown }[]
}

/** Opens the state folder (CAIRN_STATE, else a place fit for the user) and clears what dead processes left in it. */
export function openState(env: NodeJS.ProcessEnv = process.env, machine = thisMachine()): State {
  const path = env.CAIRN_STATE || defaultPath(env)
  const tmp = join(path, 'tmp')
  const spool = env.CAIRN_SPOOL || join(path, 'spool')
  try {
    for (const folder of [path, tmp, spool, join(path, 'locks'), join(path, 'journal')]) {
      makePathSync(folder)
    }
    sweepPrivateDirs(tmp)
    sweepPrivateDirs(spool)
    const { name, isNew } = hostName(join(path, 'host-id'), machine)
    return {
      path,
      host: name,
      note: isNew ? cloned(path, name) : null,
      tmp,
      spool,
      journal: journal(join(path, 'journal')),
      lockPath: name => join(path, 'locks', `${name}.lock`),
    }
  } catch (error) {
    throw usage(
      `cannot use the state folder ${path}`,
      (error as Error).message,
      'set CAIRN_STATE to a folder that can be written',
    )
  }
}

function defaultPath(env: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0 && isWritable('/var/lib')) return '/var/lib/cairn'
  if (env.XDG_STATE_HOME) return join(env.XDG_STATE_HOME, 'cairn')
  const home = homeFolder()
  return isWritable(home)
    ? join(home, '.local', 'state', 'cairn')
    : join(tmpdir(), `cairn-${process.getuid?.() ?? 0}`)
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

function cloned(path: string, name: string): string {
  return `the state folder ${path} was another machine's: this one is called ${name} from now on, and files and SQLite databases that are backed up here count as new sources`
}

function journal(folder: string): Journal {
  return {
    write(name, entry) {
      const file = join(folder, `${name}.json`)
      try {
        replaceFile(file, JSON.stringify(entry))
      } catch (error) {
        throw systemFailure(error, `cannot write ${file}`) ?? error
      }
    },
    remove(name) {
      rmSync(join(folder, `${name}.json`), { force: true })
      syncFolder(folder)
    },
    entries: () =>
      readdirSync(folder)
        .filter(file => file.endsWith('.json'))
        .map(file => ({ name: file.slice(0, -5), entry: parsedOrNull(join(folder, file)) })),
  }
}

/** One that was damaged must not stop everything else. */
function parsedOrNull(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch {
    return null
  }
}
