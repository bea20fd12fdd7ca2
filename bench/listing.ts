import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { CreateBucketCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { s3Client } from '../test/services/s3.ts'
import { type Seen, s3Proxy } from '../test/support/s3-proxy.ts'
import { manyBackups, manyMarks, type StoredFile } from './many-backups.ts'
import type { Measured } from './measure.ts'
import type { Workbench } from './workbench.ts'

/** Runs of one small command. */
export interface Timing {
  readonly what: string
  readonly seconds: readonly number[]
  readonly cpuSeconds: readonly number[]
  readonly peakBytes: readonly number[]
  /** How many requests of each kind one run made of its store, where that can be seen. */
  readonly requests?: Readonly<Record<string, number>>
}

type Say = (text: string) => void

const backups = 10_000
export const helpOf = 'cairn --help'
export const listOf = `cairn list, ${backups} local backups`
const listOfMarked = `${listOf}, each with a mark`
export const listOfS3 = `cairn list, ${backups} backups on S3`
export const listOfMarkedS3 = `${listOfS3}, each with a mark`

export async function benchHelp(bench: Workbench, rounds: number, say: Say): Promise<Timing[]> {
  // The first start fills Node's compile cache; only the later ones are what people see.
  await bench.cairn(['--help'])
  return [await time(helpOf, Math.max(rounds, 10), () => bench.cairn(['--help']), say)]
}

export async function benchList(bench: Workbench, rounds: number, say: Say): Promise<Timing[]> {
  const root = join(bench.folder, 'many')
  bench.configure({ stores: { many: { type: 'local', path: root } } })
  const list = (what: string): Promise<Timing> =>
    time(what, Math.max(rounds, 5), () => listed(bench, ['list', '--json']), say)
  try {
    writeAll(root, manyBackups(backups))
    const unmarked = await list(listOf)
    writeAll(root, manyMarks(backups))
    return [unmarked, await list(listOfMarked)]
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

function writeAll(root: string, files: Iterable<StoredFile>): void {
  for (const { key, body } of files) {
    mkdirSync(join(root, dirname(key)), { recursive: true, mode: 0o700 })
    writeFileSync(join(root, key), body, { mode: 0o600 })
  }
}

/** On a real server, behind a proxy that only counts. */
export async function benchListS3(bench: Workbench, rounds: number, say: Say): Promise<Timing[]> {
  const facts = await bench.s3()
  const client = s3Client(facts)
  await using proxy = await s3Proxy(facts.endpoint)
  const bucket = 'bench-many'
  bench.configure({
    stores: { many: { type: 's3', bucket, endpoint: proxy.endpoint, region: facts.region } },
  })
  const env = { AWS_ACCESS_KEY_ID: facts.accessKey, AWS_SECRET_ACCESS_KEY: facts.secretKey }
  const list = async (what: string): Promise<Timing> => {
    const times = Math.max(rounds, 3)
    const before = proxy.seen.length
    const timing = await time(what, times, () => listed(bench, ['list', '--json'], env), say)
    return { ...timing, requests: counted(proxy.seen.slice(before), times) }
  }
  try {
    await client.send(new CreateBucketCommand({ Bucket: bucket }))
    const put = async ({ key, body }: StoredFile): Promise<void> => {
      await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: body }))
    }
    say(`putting ${backups} backups into the bucket`)
    await eachOf(manyBackups(backups), put)
    const unmarked = await list(listOfS3)
    say('putting a mark for each')
    await eachOf(manyMarks(backups), put)
    return [unmarked, await list(listOfMarkedS3)]
  } finally {
    client.destroy()
  }
}

/** Several at once; they share one iterator. */
async function eachOf<T>(items: Iterable<T>, work: (item: T) => Promise<void>): Promise<void> {
  const queue = items[Symbol.iterator]()
  const worker = async (): Promise<void> => {
    for (let next = queue.next(); !next.done; next = queue.next()) await work(next.value)
  }
  await Promise.all(Array.from({ length: 16 }, worker))
}

/** `LIST` and the methods of all others, per run. */
function counted(seen: readonly Seen[], runs: number): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { method, query } of seen) {
    const kind = method === 'GET' && query.get('list-type') === '2' ? 'LIST' : method
    counts[kind] = (counts[kind] ?? 0) + 1 / runs
  }
  return counts
}

async function listed(
  bench: Workbench,
  args: readonly string[],
  env?: Record<string, string>,
): Promise<Measured> {
  const measured = await bench.cairn(args, env)
  const { length } = JSON.parse(measured.stdout) as unknown[]
  if (length !== backups) throw new Error(`cairn list has shown ${length} backups of ${backups}`)
  return measured
}

async function time(what: string, times: number, run: () => Promise<Measured>, say: Say): Promise<Timing> {
  const runs: Measured[] = []
  while (runs.length < times) runs.push(await run())
  const timing: Timing = {
    what,
    seconds: runs.map(each => each.seconds),
    cpuSeconds: runs.map(each => each.cpuSeconds),
    peakBytes: runs.map(each => each.peakBytes),
  }
  say(`${what}: ${timing.seconds.map(seconds => seconds.toFixed(3)).join(' ')} s`)
  return timing
}
