import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import { flow } from '../../platform/flow.ts'
import { findProgram } from '../../platform/program.ts'
import { type Flavour, flavourNames } from './connection.ts'

/** The client programs of one product and version, from one place. */
export interface Clients {
  readonly flavour: Flavour
  /** `11.8`: the series, which is what a server's version is compared with. */
  readonly series: Series
  /** `mariadb-dump 11.8.6`. */
  readonly version: string
  /** The path of the program that takes statements. */
  readonly client: string
  /** The path of the program that dumps. */
  readonly dumper: string
}

export type Series = readonly [major: number, minor: number]

/** The dumper and the client of each product, newest names first; MariaDB's old names are MySQL's. */
const programs: Readonly<Record<Flavour, readonly (readonly [dumper: string, client: string])[]>> = {
  mariadb: [
    ['mariadb-dump', 'mariadb'],
    ['mysqldump', 'mysql'],
  ],
  mysql: [['mysqldump', 'mysql']],
}

const clientFolders: Readonly<Record<Flavour, string>> = {
  mariadb: 'CAIRN_MARIADB_CLIENTS',
  mysql: 'CAIRN_MYSQL_CLIENTS',
}

/** `10.11.19-MariaDB` gives 10 and 11. */
export function seriesOf(version: string): Series {
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(version) ?? []
  return [Number(major), Number(minor)]
}

/**
 * Every set of programs of a product: in `folder`, else in the folder that the environment names and on PATH. A folder
 * holds them itself, in `bin`, or in `<version>/bin`. A program is asked who it is: on many machines `mysqldump` is MariaDB's,
 * which breaks MySQL's generated columns. Throws a usage Failure where there is none.
 */
export async function findClients(
  flavour: Flavour,
  folder: string | undefined,
  ctx: Context,
): Promise<[Clients, ...Clients[]]> {
  const said = folder ?? process.env[clientFolders[flavour]]
  const places = [...(said ? await placesIn(said) : []), ...(folder ? [] : [''])]
  const pairs = places.flatMap(place =>
    programs[flavour].flatMap(([dumper, client]) => {
      const [dumps, asks] = [dumper, client].map(name => findProgram(place === '' ? name : join(place, name)))
      return dumps && asks ? [{ name: dumper, dumper: dumps, client: asks }] : []
    }),
  )
  // All at once: each answer takes a process.
  const versions = await Promise.all(pairs.map(({ dumper }) => versionOf(dumper, ctx)))
  const found: Clients[] = []
  const strangers: string[] = []
  for (const [index, { name, dumper, client }] of pairs.entries()) {
    const version = versions[index]
    if (version?.flavour === flavour)
      found.push({ ...version, dumper, client, version: `${name} ${version.text}` })
    else strangers.push(dumper)
  }
  const [first, ...rest] = found
  if (first) return [first, ...rest]
  const other = strangers.length > 0 ? `: ${strangers.join(', ')} is not ${flavourNames[flavour]}'s` : ''
  throw usage(
    `cannot work with ${flavourNames[flavour]}`,
    `its client programs are not there${other}`,
    `install ${packages[flavour]}, or set "clients" or ${clientFolders[flavour]} to a folder with ${programs[flavour][0]?.join(' and ')}`,
  )
}

const packages: Readonly<Record<Flavour, string>> = { mariadb: 'mariadb-client', mysql: 'mysql-client' }

async function placesIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => [])
  const versions = names.filter(name => /^\d+(\.\d+)*$/.test(name))
  return [folder, join(folder, 'bin'), ...versions.map(name => join(folder, name, 'bin'))]
}

/**
 * The oldest programs that are at least as new as the server: a newer dumper knows older servers, an older one may
 * leave out what it does not know. Throws a usage Failure that lists what is there.
 */
export function chooseClients(found: readonly Clients[], server: Series, purpose: string): Clients {
  const fitting = found
    .filter(each => compare(each.series, server) >= 0)
    .sort((a, b) => compare(a.series, b.series))
  if (fitting[0]) return fitting[0]
  const flavour = found[0]?.flavour ?? 'mysql'
  const wanted = server.join('.')
  throw usage(
    `cannot ${purpose}`,
    `it takes the client programs of ${flavourNames[flavour]} ${wanted} or newer, and there are only those of ${found.map(each => each.series.join('.')).join(', ')}`,
    `install them, or set "clients" or ${clientFolders[flavour]} to a folder with ${wanted}/bin`,
  )
}

function compare(a: Series, b: Series): number {
  return a[0] - b[0] || a[1] - b[1]
}

const known = new Map<string, { flavour: Flavour; series: Series; text: string } | null>()

/** Reads `mariadb-dump from 11.8.6-MariaDB, client 10.19`, `mysqldump Ver 10.19 Distrib 10.11.19-MariaDB`, `mysqldump Ver 9.7.4-2`. */
async function versionOf(program: string, ctx: Context) {
  const before = known.get(program)
  if (before !== undefined) return before
  let said = ''
  for await (const chunk of flow({ program, args: ['--version'] }, [], ctx)) said += Buffer.from(chunk)
  const mariadb = /([\d.]+)-MariaDB/.exec(said)?.[1]
  const mysql = /Distrib ([\d.]+)/.exec(said)?.[1] ?? /Ver ([\d.]+)/.exec(said)?.[1]
  const text = mariadb ?? mysql
  const flavour: Flavour = mariadb ? 'mariadb' : 'mysql'
  const version = text === undefined ? null : { flavour, series: seriesOf(text), text }
  known.set(program, version)
  return version
}
