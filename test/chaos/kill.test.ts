// budget: 420 s
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { generateIdentity } from '../../src/stages/index.ts'
import { freshBucket, freshDatabase, orSkip } from '../services/index.ts'
import {
  allGone,
  childrenOf,
  filesIn,
  leftovers,
  listed,
  type Machine,
  machine,
  privateFiles,
  type Running,
  randomFiles,
  tryKill,
} from '../support/cli.ts'
import { type Random, randomFrom, rounds } from '../support/random.ts'
import { rawClient, unfinished } from '../support/s3-bucket.ts'

/** A store under attack: how it is configured, and everything that really lies in it. */
interface Target {
  readonly options: object
  /** All keys, hidden files and unfinished uploads included. */
  raw(): Promise<string[]>
}

const megabytes = 24

async function hostWith(target: Target, source: object = {}): Promise<Machine> {
  const host = machine()
  const files = randomFiles(host.path('wiki'), megabytes * 1_000_000, 12)
  const { recipient, identity } = await generateIdentity()
  host.configure({
    stores: { store: target.options },
    encryption: { age: { recipients: [recipient], identity: identity.reveal() } },
    jobs: { wiki: { source: { type: 'files', paths: [files], ...source }, to: ['store'] } },
  })
  return host
}

const local = (host: () => Machine): Target => ({
  get options() {
    return { type: 'local', path: host().path('store') }
  },
  raw: async () => filesIn(host().path('store')),
})

async function localTarget(): Promise<{ host: Machine; target: Target }> {
  let host = machine()
  const folder = host
  const target = local(() => folder)
  host = await hostWith(target)
  return { host, target }
}

async function rcloneTarget(): Promise<{ host: Machine; target: Target }> {
  const folder = machine()
  const target: Target = {
    options: { type: 'rclone', remote: `disk:${folder.path('store')}`, options: { type: 'local' } },
    raw: async () => filesIn(folder.path('store')),
  }
  return { host: await hostWith(target), target }
}

async function s3Target(t: TestContext): Promise<{ host: Machine; target: Target } | undefined> {
  const bucket = await orSkip(t, freshBucket())
  if (!bucket) return undefined
  const { endpoint, region, accessKey: accessKeyId, secretKey: secretAccessKey } = bucket
  const raw = rawClient(t, bucket)
  const target: Target = {
    options: { type: 's3', bucket: bucket.bucket, endpoint, region, accessKeyId, secretAccessKey },
    async raw() {
      const { Contents = [] } = await raw.listObjectsV2({ Bucket: bucket.bucket })
      return [...Contents.map(({ Key }) => Key ?? ''), ...(await unfinished(raw, bucket))]
    },
  }
  return { host: await hostWith(target), target }
}

type Victim = 'cairn' | 'zstd' | 'age' | 'tar' | 'rclone' | 'pg_dump'

/** Kills one process of a run at a random moment; returns whether it was there to be killed. */
async function strike(running: Running, victim: Victim, random: Random, usualMs: number): Promise<boolean> {
  const over = running.ended.then(() => true)
  const after = victim === 'cairn' ? random.int(80, usualMs) : random.int(0, Math.ceil(usualMs / 3))
  if (await Promise.race([over, sleep(after, false)])) return false
  if (victim === 'cairn') return tryKill(running.pid)
  for (;;) {
    // For a moment a child is still the setpriv that becomes the program.
    const child = childrenOf(running.pid).find(({ name }) => name === victim)
    if (child) return tryKill(child.pid)
    if (await Promise.race([over, sleep(3, false)])) return false
  }
}

/**
 * Many rounds of kill, look, back up again, look; and as many again while most strikes came too late, as on a machine that was
 * busier when the usual time was taken.
 */
async function attack(
  { host, target }: { host: Machine; target: Target },
  victims: readonly [Victim, ...Victim[]],
  count: number,
  seed: number,
): Promise<void> {
  const random = randomFrom(seed)
  await host.ok(['backup'])
  let usualMs = (await host.ok(['backup'])).seconds * 1000
  let hits = 0
  for (let round = 0; round < count || (hits < count / 3 && round < 4 * count); round++) {
    const victim = victims[round % victims.length] ?? 'cairn'
    const label = `seed ${seed}, round ${round}, ${victim}`
    const before = wholeIn(await target.raw())
    const running = host.start(['backup'])
    const hit = await strike(running, victim, random, usualMs)
    const ran = await running.ended
    if (hit) hits++
    else usualMs = Math.min(usualMs, ran.seconds * 1000)
    await allGone(host).catch(error => assert.fail(`${label}: ${error}`))
    const after = (await listed(host)).map(({ id }) => id)
    for (const id of before) assert.ok(after.includes(id), `${label}: ${id} is gone`)
    if (victim !== 'cairn' && ran.code !== 0) {
      assert.equal(ran.code, 1, `${label}: ${ran.stderr}`)
      assert.equal(after.length, before.length, label)
      assert.deepEqual(leftovers(await target.raw()), [], `${label}: ${ran.stderr}`)
      assert.deepEqual(privateFiles(host), [], label)
    }
    // A run that was killed after its manifest had arrived has made a backup; it must be a whole one.
    if (after.length > before.length) await host.ok(['verify', after[0] ?? ''])
    if (victim !== 'cairn' && round + 1 < count) continue
    const next = await host.run(['backup'])
    assert.equal(next.code, 0, `${label}: ${next.stderr}`)
    usualMs = Math.min(usualMs, next.seconds * 1000)
    assert.deepEqual(leftovers(await target.raw()), [], label)
    assert.deepEqual(privateFiles(host), [], label)
  }
  await host.ok(['verify'])
  assert.ok(hits >= count / 3, `only ${hits} of ${count} kills hit`)
}

/** The ids of the backups that have a manifest. */
function wholeIn(keys: readonly string[]): string[] {
  return keys.flatMap(key => /^\.cairn\/v1\/manifests\/wiki\/([^./]+)\.[^/]*\.json$/.exec(key)?.[1] ?? [])
}

const share = (part: number): number => Math.max(3, Math.ceil(rounds * part))

test('killed at any moment, Cairn leaves whole backups or none in a folder, and its next run leaves nothing else', async () => {
  await attack(await localTarget(), ['cairn'], share(0.4), 1)
})

test('a program that is killed fails the backup, and nothing of it stays in a folder', async () => {
  await attack(await localTarget(), ['zstd', 'age', 'tar'], share(0.3), 2)
})

test('killed at any moment, Cairn leaves whole backups or none in a bucket, and its next run leaves no upload', async t => {
  const s3 = await s3Target(t)
  if (s3) await attack(s3, ['cairn', 'age', 'cairn', 'zstd'], share(0.3), 3)
})

test('killed at any moment, Cairn or rclone leave whole backups or none behind rclone', async () => {
  await attack(await rcloneTarget(), ['cairn', 'rclone', 'zstd'], share(0.3), 4)
})

test('a pg_dump that is killed, and one that waits for a lock when Cairn is killed, leave nothing', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  await using client = await connected(database.url)
  await client.query(
    'CREATE TABLE item AS SELECT i, md5(i::text) AS a, md5((-i)::text) AS b FROM generate_series(1, 200000) i',
  )
  const { host, target } = await localTarget()
  const source = { type: 'postgres', url: database.url }
  host.configure({ stores: { store: target.options }, jobs: { wiki: { source, to: ['store'] } } })
  await attack({ host, target }, ['pg_dump'], 3, 5)

  await client.query('BEGIN; LOCK TABLE item')
  const running = host.start(['backup'])
  await waiters(database.url, true)
  running.child.kill('SIGKILL')
  await running.ended
  await allGone(host)
  await waiters(database.url, false)
  await client.query('ROLLBACK')
  await host.ok(['backup'])
  assert.deepEqual(leftovers(await target.raw()), [])
})

async function connected(
  url: string,
): Promise<AsyncDisposable & { query(sql: string): Promise<{ rowCount: number | null }> }> {
  const { default: pg } = await import('pg')
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  return { query: sql => client.query(sql), [Symbol.asyncDispose]: () => client.end() }
}

/** Resolves when sessions of the database wait for a lock, or none does. Asks outside the transaction that holds it, which sees one moment only. */
async function waiters(url: string, expected: boolean): Promise<void> {
  await using client = await connected(url)
  const waiting =
    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
  const deadline = performance.now() + 20_000
  for (;;) {
    const { rowCount } = await client.query(waiting)
    if ((rowCount ?? 0) > 0 === expected) return
    if (performance.now() > deadline) throw new Error(`${rowCount} sessions wait for a lock`)
    await sleep(20)
  }
}

test('SIGINT and SIGTERM end a backup within seconds, with nothing left and their own exit codes', async () => {
  const random = randomFrom(6)
  const { host, target } = await localTarget()
  const usualMs = (await host.ok(['backup'])).seconds * 1000
  for (let round = 0; round < share(0.3); round++) {
    const [signal, code] = round % 2 === 0 ? (['SIGINT', 130] as const) : (['SIGTERM', 143] as const)
    const before = (await listed(host)).length
    const running = host.start(['backup', '--json'])
    await running.said(/"phase":"inspect"/)
    await sleep(random.int(0, usualMs / 2))
    const at = performance.now()
    running.child.kill(signal)
    const ran = await running.ended
    const label = `round ${round}, ${signal}: ${ran.stderr}`
    assert.ok(performance.now() - at < 20_000, label)
    await allGone(host, 3000)
    assert.deepEqual(privateFiles(host), [], label)
    // Whether a manifest that was on its way has arrived is for the next run to see.
    if (!ran.stderr.includes('"phase":"finish"')) assert.deepEqual(leftovers(await target.raw()), [], label)
    if (ran.code !== 0) {
      assert.equal(ran.code, code, label)
      assert.match(ran.stderr, /stopped by/, label)
    }
    assert.ok((await listed(host)).length <= before + 1, label)
  }
  await host.ok(['backup'])
  assert.deepEqual(leftovers(await target.raw()), [])
  await host.ok(['verify'])
})
