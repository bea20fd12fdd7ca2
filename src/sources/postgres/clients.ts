import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { Advice } from '../../model/step.ts'
import { flow } from '../../platform/flow.ts'
import { findProgram } from '../../platform/program.ts'

/** PostgreSQL's client programs of one major version, all from one place: pg_restore and psql must be of the same minor. */
export interface Clients {
  readonly major: number
  /** The path of `pg_dump`, `pg_dumpall`, `pg_restore` or `psql`. */
  path(program: ClientProgram): string
}

export type ClientProgram = 'pg_dump' | 'pg_dumpall' | 'pg_restore' | 'psql'

const debianFolder = '/usr/lib/postgresql'

/** 15 for 150018, 9.6 for 90624 (PostgreSQL docs, server_version_num). */
export function majorOf(serverVersionNum: number): number {
  if (serverVersionNum >= 100_000) return Math.floor(serverVersionNum / 10_000)
  return Math.floor(serverVersionNum / 10_000) + (Math.floor(serverVersionNum / 100) % 100) / 10
}

/**
 * The programs of a major version, else of the next newer one that is there: PostgreSQL's clients work with older
 * servers, never with newer ones. They are looked for in `folder`, else in CAIRN_POSTGRES_CLIENTS, then in Debian's
 * folder, each laid out as `<major>/bin`, then on PATH. Throws a usage Failure that lists what is there.
 */
export async function chooseClients(
  wanted: number,
  purpose: string,
  folder: string | undefined,
  ctx: Context,
): Promise<Clients> {
  const found = await findClients(folder, wanted, ctx)
  const best = found.filter(clients => clients.major >= wanted).sort((a, b) => a.major - b.major)[0]
  if (best) return best
  const there = [...new Set(found.map(clients => clients.major))].sort((a, b) => a - b)
  throw usage(
    `cannot ${purpose}`,
    `it takes the client programs of PostgreSQL ${wanted} or newer, and there are ${there.length > 0 ? `only those of ${there.join(', ')}` : 'none'}`,
    `install postgresql-client-${wanted}, or set "clients" or CAIRN_POSTGRES_CLIENTS to a folder with ${wanted}/bin`,
  )
}

/** The last major version that writes archives which its elders up to 12 can read. */
const lastCommon = 16

/** Whether what these clients dump of that server is for newer ones alone: people may have those of the server only. */
export function isAheadOf(serverMajor: number, clients: Clients): boolean {
  return serverMajor <= lastCommon && clients.major > lastCommon
}

/** What to know of such a dump. */
export function aheadAdvice(serverMajor: number, clients: Clients): Advice {
  return {
    what: `restoring the dump by hand takes pg_restore ${clients.major} or newer`,
    why: `the server is PostgreSQL ${serverMajor}, and there are no client programs of ${serverMajor === lastCommon ? lastCommon : `${serverMajor} to ${lastCommon}`} here`,
    remedy: `install postgresql-client-${serverMajor}`,
  }
}

/** Earlier places first. PATH is only asked where the folders lack the very version, because asking takes a process. */
async function findClients(folder: string | undefined, wanted: number, ctx: Context): Promise<Clients[]> {
  const folders = folder ? [folder] : [process.env.CAIRN_POSTGRES_CLIENTS ?? '', debianFolder]
  const found = (await Promise.all(folders.filter(path => path !== '').map(inFolder))).flat()
  if (folder || found.some(clients => clients.major === wanted)) return found
  const onPath = await fromPath(ctx)
  return onPath ? [...found, onPath] : found
}

async function inFolder(folder: string): Promise<Clients[]> {
  const names = await readdir(folder).catch(() => [])
  return names
    .filter(name => /^\d+(\.\d)?$/.test(name) && existsSync(join(folder, name, 'bin/pg_dump')))
    .map(name => ({ major: Number(name), path: program => join(folder, name, 'bin', program) }))
}

async function fromPath(ctx: Context): Promise<Clients | null> {
  const path = findProgram('pg_dump')
  if (!path) return null
  const version = /^pg_dump (\d+)(?:\.(\d+))?/.exec(await clientVersion(path, ctx))
  if (!version) return null
  const major = Number(version[1])
  return { major: major >= 10 ? major : Number(`${major}.${version[2]}`), path: program => program }
}

/** `pg_dump 15.18`. */
export async function clientVersion(program: string, ctx: Context): Promise<string> {
  let text = ''
  for await (const chunk of flow({ program, args: ['--version'] }, [], ctx))
    text += Buffer.from(chunk).toString()
  return text
    .replace(/\(PostgreSQL\) /, '')
    .trim()
    .split(' ')
    .slice(0, 2)
    .join(' ')
}
