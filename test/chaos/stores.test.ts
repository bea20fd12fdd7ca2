// budget: 300 s
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type FreshBucket, freshBucket, orSkip } from '../services/index.ts'
import {
  filesIn,
  leftovers,
  listed,
  type Machine,
  machine,
  privateFiles,
  type Running,
  randomFiles,
  sqliteFile,
} from '../support/cli.ts'
import { type Random, randomFrom, rounds } from '../support/random.ts'
import { rawClient, unfinished } from '../support/s3-bucket.ts'
import { type Fault, type S3Proxy, type Seen, s3Proxy } from '../support/s3-proxy.ts'

/** A bucket behind a proxy, and the store that it is in a configuration. */
interface Far {
  readonly proxy: S3Proxy
  readonly options: object
  /** All keys and all unfinished uploads. */
  raw(): Promise<string[]>
  read(key: string): Promise<Buffer>
}

async function farStore(t: TestContext): Promise<Far | undefined> {
  const bucket = await orSkip(t, freshBucket())
  if (!bucket) return undefined
  const proxy = await s3Proxy(bucket.endpoint)
  t.after(() => proxy[Symbol.asyncDispose]())
  return { proxy, ...looking(t, bucket), options: optionsOf(bucket, proxy) }
}

function looking(t: TestContext, bucket: FreshBucket): Pick<Far, 'raw' | 'read'> {
  const raw = rawClient(t, bucket)
  return {
    async raw() {
      const { Contents = [] } = await raw.listObjectsV2({ Bucket: bucket.bucket })
      return [...Contents.map(({ Key }) => Key ?? ''), ...(await unfinished(raw, bucket))]
    },
    async read(key) {
      const { Body } = await raw.getObject({ Bucket: bucket.bucket, Key: key })
      return Buffer.from((await Body?.transformToByteArray()) ?? [])
    },
  }
}

function optionsOf({ bucket, region, accessKey, secretKey }: FreshBucket, proxy: S3Proxy): object {
  const keys = { accessKeyId: accessKey, secretAccessKey: secretKey }
  return { type: 's3', bucket, region, endpoint: proxy.endpoint, partSize: 5 * 2 ** 20, ...keys }
}

/** A host that backs up so many bytes into its own disk and further stores. */
function hostWith(bytes: number, more: Record<string, object>): Machine {
  const host = machine()
  const files = randomFiles(host.path('wiki'), bytes, 8)
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') }, ...more },
    jobs: { wiki: { source: { type: 'files', paths: [files] }, to: ['disk', ...Object.keys(more)] } },
  })
  return host
}

const isData = ({ method, path }: Seen): boolean =>
  (method === 'PUT' || method === 'POST') && path.includes('/wiki/') && !path.includes('.cairn')

const isPart = (seen: Seen): boolean => isData(seen) && seen.query.has('partNumber')

/** The first so many of the requests that match suffer. */
function first(
  count: number,
  which: (seen: Seen) => boolean,
  fault: Fault,
): (seen: Seen) => Fault | undefined {
  let left = count
  return seen => (which(seen) && left-- > 0 ? fault : undefined)
}

const passing: readonly (readonly [title: string, rule: (seen: Seen) => Fault | undefined])[] = [
  ['answers 500 for a while', first(3, isData, { status: 500 })],
  ['breaks connections for a while', first(3, isPart, { cutRequestAfter: 1_000_000 })],
  ['loses answers for a while', first(2, isData, { loseAnswer: true })],
  ['is slow', seen => (isData(seen) ? { delayMs: 400 } : undefined)],
]

/** The most memory that the program itself took, without those it starts. */
async function peakMemory(running: Running): Promise<number> {
  let peak = 0
  let isOver = false
  void running.ended.finally(() => {
    isOver = true
  })
  while (!isOver) {
    peak = Math.max(peak, residentBytes(running.pid))
    await sleep(20)
  }
  return peak
}

function residentBytes(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}

suite('a store that misbehaves', { concurrency: 3 }, () => {
  for (const [title, rule] of passing) {
    test(`a server that ${title} gets its whole copy`, async t => {
      const far = await farStore(t)
      if (!far) return
      const host = hostWith(12_000_000, { far: far.options })
      far.proxy.rule = rule
      await host.ok(['backup'])
      assert.deepEqual((await listed(host))[0]?.stores, ['disk', 'far'])
      await host.ok(['verify'])
      assert.deepEqual(leftovers(await far.raw()), [])
    })
  }

  test('a server that fails for ever costs its own copy only, and nothing of it stays there', async t => {
    const far = await farStore(t)
    if (!far) return
    const host = hostWith(12_000_000, { far: far.options })
    far.proxy.rule = seen => (isData(seen) ? { status: 500 } : undefined)
    const ran = await host.run(['backup'])
    assert.equal(ran.code, 3, ran.stderr)
    assert.match(ran.stderr, /cairn: error: .*far|s3:\/\//)
    assert.deepEqual((await listed(host))[0]?.stores, ['disk'])
    assert.deepEqual(await far.raw(), [])
    await host.ok(['verify'])
  })

  test('a server that takes the bytes and then says nothing is dropped after the stall time', async t => {
    const far = await farStore(t)
    if (!far) return
    const host = hostWith(12_000_000, { far: far.options })
    far.proxy.rule = seen => (isData(seen) && seen.method === 'PUT' ? { hang: true } : undefined)
    const ran = await host.run(['backup', '--stall', '6s'])
    assert.equal(ran.code, 3, ran.stderr)
    assert.ok(ran.seconds < 100, `it took ${ran.seconds} s`)
    assert.match(ran.stderr, /stalled|silent|no answer|not a byte/)
    assert.deepEqual((await listed(host))[0]?.stores, ['disk'])
    assert.deepEqual(await far.raw(), [])
  })

  test('of a fast, a slow and a dying store the fast and the slow get all in bounded memory, and copy heals the third', async t => {
    const slow = await farStore(t)
    const dying = slow && (await farStore(t))
    if (!dying) return
    const host = hostWith(60_000_000, { slow: slow.options, dying: dying.options })
    slow.proxy.rule = seen => (isData(seen) ? { delayMs: 800 } : undefined)
    let parts = 0
    dying.proxy.rule = seen => (isPart(seen) && ++parts > 4 ? { hang: true } : undefined)
    const running = host.start(['backup', '--stall', '12s'])
    const peak = await peakMemory(running)
    const ran = await running.ended
    assert.equal(ran.code, 3, ran.stderr)
    assert.match(ran.stderr, /error: .*(stalled|did not answer in time)/)
    assert.ok(peak < 250_000_000, `it took ${Math.round(peak / 1e6)} MB`)
    assert.deepEqual((await listed(host))[0]?.stores, ['disk', 'slow'])
    assert.deepEqual(await dying.raw(), [])
    await sameManifest(host, slow)

    dying.proxy.rule = () => undefined
    await host.ok(['copy', 'latest', '--to', 'dying'])
    assert.deepEqual((await listed(host))[0]?.stores, ['disk', 'slow', 'dying'])
    await sameManifest(host, dying)
    slow.proxy.rule = () => undefined
    await host.ok(['verify'])
  })

  test('a disk that fills up costs its own copy only', async t => {
    const small = machine().path('small')
    mkdirSync(small)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', small], { stdio: 'pipe' })
    } catch {
      return t.skip('a small file system cannot be mounted here')
    }
    t.after(() => execFileSync('umount', ['-l', small]))
    const host = hostWith(12_000_000, { small: { type: 'local', path: small } })
    const ran = await host.run(['backup'])
    assert.equal(ran.code, 3, ran.stderr)
    assert.match(ran.stderr, /no space is left/)
    assert.deepEqual(filesIn(small), [])
    assert.deepEqual((await listed(host))[0]?.stores, ['disk'])
    await host.ok(['verify'])
    assert.deepEqual(privateFiles(host), [])
  })
})

async function sameManifest(host: Machine, far: Far): Promise<void> {
  const isManifest = (key: string): boolean => key.startsWith('.cairn/v1/manifests/')
  const key = filesIn(host.path('disk')).find(isManifest) ?? ''
  assert.ok((await far.raw()).includes(key), `no ${key}`)
  assert.deepEqual(await far.read(key), readFileSync(join(host.path('disk'), key)))
}

test('two hosts with one job name and one store back up and prune at once, and lose nothing of what is to be kept', async () => {
  const store = machine().path('store')
  const random = randomFrom(11)
  const hosts = [twin(store), twin(store)] as const
  const made = hosts.map(() => [] as string[])
  const act = async (index: number): Promise<void> => {
    const host = hosts[index]
    if (!host) return
    if (random.int(0, 2) === 0) {
      const ran = await host.run(['prune'])
      assert.equal(ran.code, 0, ran.stderr)
      return
    }
    const ran = await host.ok(['backup', '--json'])
    const [unit] = ran.json<{ jobs: { units: { id: string }[] }[] }>().jobs[0]?.units ?? []
    made[index]?.push(unit?.id ?? '')
  }
  for (let round = 0; round < rounds; round++) await Promise.all(turns(random).map(act))

  const [one] = hosts
  const kept = (await listed(one)).map(({ id }) => id)
  for (const ids of made) {
    for (const id of ids.slice(-2)) assert.ok(kept.includes(id), `${id} of ${ids} is gone; there are ${kept}`)
  }
  await one.ok(['verify'])
  assert.deepEqual(leftovers(filesIn(store)), [])
})

/** One host of two: the same job name and store, a database and a state folder of its own. */
function twin(store: string): Machine {
  const host = machine()
  host.configure({
    stores: { shared: { type: 'local', path: store } },
    jobs: {
      shop: {
        source: { type: 'sqlite', path: sqliteFile(host.path('shop.db'), 50) },
        to: ['shared'],
        keep: { last: 2 },
        undelete: '1 s',
      },
    },
  })
  return host
}

/** Both hosts, or one of them. */
function turns(random: Random): number[] {
  return random.pick([[0], [1], [0, 1], [0, 1]])
}
