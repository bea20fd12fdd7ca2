import { randomBytes } from 'node:crypto'
import { readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PostgresFacts } from '../test/services/facts.ts'
import type { Measured } from './measure.ts'
import { cpuTimes } from './process-tree.ts'
import { makeRows, withClient } from './rows.ts'
import type { Workbench } from './workbench.ts'

/** One side of a comparison: what one run of it cost, and how large its result was. */
export interface Run extends Omit<Measured, 'stdout'> {
  readonly side: string
  readonly round: number
  /** Bytes stored; 0 where nothing is. */
  readonly outBytes: number
  /** CPU time of the server's processes for this run. */
  readonly serverSeconds: number
}

export interface Comparison {
  readonly bench:
    | 'backup'
    | 'gzip'
    | 'verify'
    | 'restore'
    | 'mariadb'
    | 'rclone'
    | 'moonflower'
    | 'moonflower-gpg'
    | 'sidecar'
    | 'pgdump-s3'
  readonly size: string
  readonly databaseBytes: number
  readonly runs: readonly Run[]
}

export const cairnSide = 'cairn'
export const zstdPeer = 'pg_dump -Fc -Z0 | zstd -1 -T0 | age'
export const gzipPeer = 'pg_dump | gzip | age'
const verifyPeer = 'age -d | zstd -d | sha256sum'
const restorePeer = 'age -d | zstd -d | pg_restore -1'

type Bench = Extract<Comparison['bench'], 'backup' | 'gzip' | 'verify' | 'restore'>

export interface Side {
  readonly name: string
  run(): Promise<{ measured: Measured; outBytes: number }>
}

/** Backup, backup as gzip, verify and restore of one database, those of them that are wanted; the sides of a round follow each other. */
export async function benchPostgres(
  bench: Workbench,
  wanted: ReadonlySet<Bench>,
  size: { readonly name: string; readonly bytes: number },
  options: { readonly rounds: number; readonly seed: number; readonly say: (text: string) => void },
): Promise<Comparison[]> {
  // The database, its copy while it is restored, the server's log, and the stored copies.
  bench.needSpace(3 * size.bytes + 2e9)
  const facts = await bench.postgres()
  const database = `bench_${randomBytes(4).toString('hex')}`
  const url = (name: string): string =>
    `postgresql://${facts.user}:${facts.password}@${facts.host}:${facts.port}/${name}`
  await command(url('postgres'), `CREATE DATABASE ${database} TEMPLATE template0`)
  try {
    options.say(`making ${size.name} of rows`)
    const databaseBytes = await makeRows(url(database), size.bytes, options.seed)
    const compare = async (which: Bench, sides: readonly Side[], rounds: number): Promise<Comparison> => {
      const runs = await interleaved(
        `${which} ${size.name}`,
        sides,
        rounds,
        () => serverCpu(facts),
        options.say,
      )
      return { bench: which, size: size.name, databaseBytes, runs }
    }
    const results: Comparison[] = []
    if (wanted.has('gzip')) {
      const sides = gzipSides(bench, facts, database, url(database))
      results.push(await compare('gzip', sides, options.rounds))
    }
    if (!['backup', 'verify', 'restore'].some(each => wanted.has(each as Bench))) return results
    const [cairn, ...peers] = backupSides(bench, facts, database, url(database))
    const backups = wanted.has('backup') ? [cairn, ...peers] : [cairn]
    const backup = await compare('backup', backups, wanted.has('backup') ? options.rounds : 1)
    if (wanted.has('backup')) results.push(backup)
    if (wanted.has('verify')) results.push(await compare('verify', verifySides(bench), options.rounds))
    if (wanted.has('restore')) {
      const target = `${database}_restored`
      const sides = restoreSides(bench, facts, target, url)
      results.push(await compare('restore', sides, options.rounds))
    }
    return results
  } finally {
    await command(url('postgres'), `DROP DATABASE ${database} WITH (FORCE)`)
    rmSync(join(bench.folder, 'store'), { recursive: true, force: true })
  }
}

async function command(url: string, sql: string): Promise<void> {
  await withClient(url, client => client.query(sql))
}

/** A B C A B C, so that what else the machine does falls on all sides alike. */
export async function interleaved(
  title: string,
  sides: readonly Side[],
  rounds: number,
  server: () => Promise<number>,
  say: (text: string) => void,
): Promise<Run[]> {
  const runs: Run[] = []
  for (let round = 1; round <= rounds; round++) {
    for (const side of sides) {
      const before = await server()
      const { measured, outBytes } = await side.run()
      const { stdout: _stdout, ...rest } = measured
      const serverSeconds = (await server()) - before
      runs.push({ side: side.name, round, outBytes, serverSeconds, ...rest })
      say(`${title}, round ${round}, ${side.name}: ${measured.seconds.toFixed(2)} s`)
    }
  }
  return runs
}

/** What the server's processes have used that have ended; a moment later, so that the last one has. */
export async function serverCpu(facts: PostgresFacts): Promise<number> {
  await sleep(100)
  const pid = Number(readFileSync(join(facts.data, 'postmaster.pid'), 'utf8').split('\n')[0])
  return cpuTimes(pid)?.children ?? 0
}

function backupSides(
  bench: Workbench,
  facts: PostgresFacts,
  database: string,
  url: string,
): [Side, ...Side[]] {
  const peer = (name: string, stages: string): Side => peerSide(bench, facts, database, name, stages)
  return [
    cairnSideWith(bench, facts, url, {}),
    peer(zstdPeer, 'pg_dump -Fc -Z0 | zstd -q -1 -T0'),
    peer(gzipPeer, 'pg_dump | gzip'),
  ]
}

/** gzip's format on both sides, for whoever must read it with gzip: by whatever Cairn finds, and by gzip. */
function gzipSides(bench: Workbench, facts: PostgresFacts, database: string, url: string): Side[] {
  return [
    cairnSideWith(bench, facts, url, { compression: { gzip: {} } }),
    peerSide(bench, facts, database, gzipPeer, 'pg_dump | gzip'),
  ]
}

function cairnSideWith(bench: Workbench, facts: PostgresFacts, url: string, options: object): Side {
  const store = join(bench.folder, 'store')
  return {
    name: cairnSide,
    async run() {
      bench.configure({
        stores: { disk: { type: 'local', path: store } },
        encryption: { age: { recipients: [bench.recipient] } },
        jobs: {
          bench: { source: { type: 'postgres', url: { env: 'BENCH_URL' } }, to: ['disk'], ...options },
        },
      })
      rmSync(store, { recursive: true, force: true })
      const env = { BENCH_URL: url, CAIRN_POSTGRES_CLIENTS: dirname(dirname(facts.bin)) }
      const measured = await bench.cairn(['backup', '--json', '--quiet'], env)
      return { measured, outBytes: storedBytes(measured.stdout) }
    },
  }
}

function peerSide(
  bench: Workbench,
  facts: PostgresFacts,
  database: string,
  name: string,
  stages: string,
): Side {
  return {
    name,
    async run() {
      const file = join(bench.folder, 'peer')
      const { host: PGHOST, port, user: PGUSER, password: PGPASSWORD } = facts
      const env = { PGHOST, PGPORT: String(port), PGUSER, PGPASSWORD, PGDATABASE: database }
      const age = `age -r ${bench.recipient}`
      const pipeline = `${facts.bin}/${stages} | ${age} | dd bs=1M conv=fsync status=none of=${file}; stat -c %s ${file}`
      try {
        const measured = await bench.run({ pipeline: `set -e; ${pipeline}` }, env)
        return { measured, outBytes: Number(measured.stdout) }
      } finally {
        rmSync(file, { force: true })
      }
    },
  }
}

export function storedBytes(json: string): number {
  const { jobs } = JSON.parse(json) as { jobs: { units: { sizeBytes: number | null }[] }[] }
  return jobs[0]?.units[0]?.sizeBytes ?? 0
}

/** The dump as the store has it, through age and zstd. */
function decoding(bench: Workbench): string {
  return `age -d -i ${bench.identity} ${bench.folder}/store/bench/*/*.dump.zst.age | zstd -q -d`
}

/** Every byte, and the digest of what comes out. Cairn also checks the digest of what is stored. */
function verifySides(bench: Workbench): Side[] {
  const run = async (measured: Promise<Measured>) => ({ measured: await measured, outBytes: 0 })
  const args = ['verify', 'latest', '--quiet', '--identity', bench.identity]
  return [
    { name: cairnSide, run: () => run(bench.cairn(args)) },
    { name: verifyPeer, run: () => run(bench.run({ pipeline: `${decoding(bench)} | sha256sum` })) },
  ]
}

/** Into a database that is not there before, and not after. */
function restoreSides(
  bench: Workbench,
  facts: PostgresFacts,
  target: string,
  url: (name: string) => string,
): Side[] {
  const drop = (): Promise<void> => command(url('postgres'), `DROP DATABASE IF EXISTS ${target}`)
  const args = ['restore', 'latest', '--quiet', '--yes', '--to', url(target), '--identity', bench.identity]
  return [
    {
      name: cairnSide,
      async run() {
        try {
          return { measured: await bench.cairn(args, { BENCH_URL: url('postgres') }), outBytes: 0 }
        } finally {
          await drop()
        }
      },
    },
    {
      name: restorePeer,
      async run() {
        const { host: PGHOST, port, user: PGUSER, password: PGPASSWORD } = facts
        const pipeline = `createdb -T template0 ${target}; ${decoding(bench)} | ${facts.bin}/pg_restore -1 -d ${target}`
        try {
          const env = { PGHOST, PGPORT: String(port), PGUSER, PGPASSWORD }
          return { measured: await bench.run({ pipeline }, env), outBytes: 0 }
        } finally {
          await drop()
        }
      },
    },
  ]
}
