import assert from 'node:assert/strict'
import { createHook } from 'node:async_hooks'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { mkdir, readFile, readlink, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { testContext } from '../../../test/support/context.ts'
import {
  collect,
  hostileBytes,
  inChunks,
  type Opened,
  storeContract,
} from '../../../test/support/store-contract.ts'
import { exitCode, Failure } from '../../model/failure.ts'
import type { Bytes } from '../../model/step.ts'
import { AlreadyExists, NotFound, type Store } from '../../model/store.ts'
import { LocalOptions, localStore } from './index.ts'
import type { Link } from './write.ts'

const MiB = 1024 * 1024
const ctx = testContext()
const x = Buffer.from('x')

storeContract('local', async t => opened(t))
storeContract('local without links', async t => opened(t, noLinks))

/** As a file system answers that knows no links. */
const noLinks: Link = async () => {
  throw Object.assign(new Error('operation not supported'), { code: 'ENOTSUP', syscall: 'link' })
}

async function opened(t: TestContext, link?: Link): Promise<Opened> {
  const path = folder(t)
  return {
    store: localStore('local', { path: join(path, 'not/there/yet') }, link),
    leftovers: async () => temporaryFiles(path),
  }
}

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'cairn-local-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

function temporaryFiles(path: string): string[] {
  return readdirSync(path, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.cairn-part'))
}

async function keysOf(store: Store, prefix = ''): Promise<string[]> {
  return (await Array.fromAsync(store.list(prefix, ctx))).map(entry => entry.key).sort()
}

/** A folder on a disk of its own, in memory; null, and the reason is shown, where none can be mounted. */
function ownDisk(t: TestContext, mebibytes: number): string | null {
  const path = mkdtempSync(join(tmpdir(), 'cairn-disk-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', path], { stdio: 'pipe' })
  } catch (error) {
    rmSync(path, { recursive: true })
    t.diagnostic(`CANNOT MOUNT A DISK: ${error}`)
    return null
  }
  t.after(() => {
    execFileSync('umount', ['-l', path])
    rmSync(path, { recursive: true })
  })
  return path
}

/** Needs a disk of its own of 4 MiB, and is skipped where it cannot have one. */
function testOnSmallDisk(title: string, check: (path: string) => Promise<void>): void {
  test(title, async t => {
    const path = ownDisk(t, 4)
    if (!path) return t.skip('A SMALL DISK CANNOT BE MOUNTED, so a full one is not tried')
    await check(path)
  })
}

testOnSmallDisk(
  'a disk that becomes full fails the put with what to do, and the temporary file is gone',
  async path => {
    const store = localStore('disk', { path })
    const error = await store.put('job/a', inChunks(hostileBytes(9 * MiB), [100_000]), {}, ctx).then(
      () => assert.fail('it fitted'),
      (thrown: unknown) => thrown,
    )
    assert(error instanceof Failure)
    assert.match(error.message, /job\/a.*disk.*no space is left/)
    assert.match(error.remedy, /free some space/)
    assert.deepEqual(readdirSync(path, { recursive: true }), ['job'])
    await store.put('job/b', hostileBytes(2 * MiB), {}, ctx)
    assert.deepEqual(await keysOf(store), ['job/b'])
  },
)

testOnSmallDisk('what cannot fit is refused before a byte of it is read', async path => {
  const store = localStore('disk', { path: join(path, 'new') })
  let pulled = false
  async function* body(): Bytes {
    pulled = true
    yield x
  }
  await assert.rejects(store.put('a', body(), { sizeHint: 1000 * MiB }, ctx), /only \d+ are free/)
  await assert.rejects(store.put('a', hostileBytes(9 * MiB), {}, ctx), /only \d+ are free/)
  assert.equal(pulled, false)
  assert.deepEqual(readdirSync(path), [])
})

testOnSmallDisk('a size hint that a compressing stage may well bring down is a warning', async path => {
  const events = testContext({ dir: ctx.dir })
  await localStore('disk', { path }).put('a', inChunks(x, [1]), { sizeHint: 20 * MiB }, events)
  assert.deepEqual(
    events.events.map(event => event.type),
    ['warning'],
  )
})

testOnSmallDisk(
  'a disk that is mounted read-only is named as the cause by probe, put and remove',
  async path => {
    const store = localStore('disk', { path })
    await store.put('a', x, {}, ctx)
    execFileSync('mount', ['-o', 'remount,ro', path])
    await assert.rejects(store.probe(ctx), /read-only/)
    await assert.rejects(store.put('b', x, {}, ctx), /read-only/)
    await assert.rejects(store.remove('a', undefined, ctx), /read-only/)
    assert.deepEqual(await collect(store.get('a', {}, ctx)), x)
  },
)

test('a symbolic link in the folder is not followed out of it', async t => {
  const path = folder(t)
  const outside = folder(t)
  await writeFile(join(outside, 'theirs'), 'theirs')
  await mkdir(join(path, 'job'))
  await symlink(outside, join(path, 'evil'))
  await symlink(outside, join(path, 'job/evil'))
  await symlink(join(outside, 'new'), join(path, 'name'))
  const store = localStore('local', { path })
  for (const key of ['evil/x', 'evil/new/x', 'job/evil/x', 'job/evil/new/y/x']) {
    await assert.rejects(store.put(key, x, {}, ctx), /symbolic link/, key)
    await assert.rejects(store.put(key, x, { replace: true }, ctx), /symbolic link/, key)
  }
  await assert.rejects(store.remove('evil/theirs', undefined, ctx), /symbolic link/)
  assert.equal(await store.remove('name', undefined, ctx), 'absent')
  await assert.rejects(store.put('name', x, {}, ctx), AlreadyExists)
  await store.put('name', x, { replace: true }, ctx)
  assert.deepEqual(await keysOf(store), ['name'])
  assert.deepEqual(await keysOf(store, 'evil/'), [])
  assert.equal(await store.sweep('', ctx), 0)
  assert.deepEqual(readdirSync(outside), ['theirs'])
})

test('the folder itself may be a symbolic link', async t => {
  const path = folder(t)
  await mkdir(join(path, 'disk'))
  await symlink(join(path, 'disk'), join(path, 'link'))
  const store = localStore('local', { path: join(path, 'link') })
  await store.put('a/b', x, {}, ctx)
  assert.deepEqual(await keysOf(store), ['a/b'])
  assert.equal(await store.remove('a/b', undefined, ctx), 'removed')
  assert.equal(await readlink(join(path, 'link')), join(path, 'disk'))
})

/** Says `writing` once it has handed over two megabytes, and then waits for ever. */
const hangingWriter = `
  const { localStore } = await import(process.argv[1])
  const { testContext } = await import(process.argv[2])
  async function* body() {
    for (let n = 0; n < 32; n++) yield Buffer.alloc(65536, 1)
    console.log('writing')
    await new Promise(resolve => setTimeout(resolve, 1e9))
  }
  await localStore('local', { path: process.argv[3] }).put('job/id/a', body(), {}, testContext())`

function startWriter(path: string): ChildProcess {
  const modules = ['./index.ts', '../../../test/support/context.ts'].map(each => import.meta.resolve(each))
  const args = ['--input-type=module', '-e', hangingWriter, ...modules, path]
  return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
}

test('a writer that is killed leaves only a hidden file, which a sweep of its prefix removes', async t => {
  const path = folder(t)
  const store = localStore('local', { path })
  await store.put('job/other/b', x, {}, ctx)
  const writer = startWriter(path)
  const gone = new Promise(resolve => writer.once('exit', resolve))
  await new Promise(resolve => writer.stdout?.once('data', resolve))
  writer.kill('SIGKILL')
  await gone
  assert.equal(temporaryFiles(path).length, 1)
  assert.deepEqual(await keysOf(store), ['job/other/b'])
  await assert.rejects(collect(store.get('job/id/a', {}, ctx)), NotFound)
  assert.equal(await store.sweep('job/other/', ctx), 0)
  assert.equal(await store.sweep('job/id/ab', ctx), 0)
  assert.equal(await store.sweep('job/id/', ctx), 1)
  assert.deepEqual(readdirSync(join(path, 'job')), ['other'])
})

test('without links, a claim that a dead process left keeps the key taken until a sweep', async t => {
  const path = folder(t)
  const store = localStore('local', { path }, noLinks)
  await writeFile(join(path, `.a.${'0'.repeat(16)}.cairn-part`), '')
  await assert.rejects(store.put('a', x, {}, ctx), AlreadyExists)
  assert.deepEqual(await keysOf(store), [])
  assert.equal(await store.sweep('', ctx), 1)
  await store.put('a', x, {}, ctx)
  assert.deepEqual(await collect(store.get('a', {}, ctx)), x)
})

test('a link that was made although its answer was lost is not taken for another object', async t => {
  const path = folder(t)
  const { link: linkFile } = await import('node:fs/promises')
  const store = localStore('local', { path }, async (from, to) => {
    await linkFile(from, to)
    await linkFile(from, to)
  })
  await store.put('a', x, {}, ctx)
  assert.deepEqual(readdirSync(path), ['a'])
})

test('a disk that cannot make the name durable fails the put and leaves nothing', async t => {
  const path = folder(t)
  const store = localStore('local', { path }, async () => {
    throw Object.assign(new Error('no space left'), { code: 'ENOSPC', syscall: 'link' })
  })
  await assert.rejects(store.put('job/a', x, {}, ctx), /no space is left/)
  assert.deepEqual(readdirSync(join(path, 'job')), [])
})

/** How many requests to the file system the work makes. */
async function requests(work: () => Promise<unknown>): Promise<number> {
  let count = 0
  const hook = createHook({
    init(_id, type) {
      if (type === 'FSREQPROMISE') count++
    },
  }).enable()
  await work()
  hook.disable()
  return count
}

test('10,000 objects are listed with one look at each, and one prefix without a look at the others', async t => {
  const path = ownDisk(t, 64) ?? folder(t)
  for (let n = 0; n < 10_000; n++) {
    if (n % 1000 === 0) mkdirSync(join(path, `job-${n / 1000}`))
    writeFileSync(join(path, `job-${Math.floor(n / 1000)}`, `${n}`), '')
  }
  const store = localStore('local', { path })
  const all = await requests(async () => assert.equal((await keysOf(store)).length, 10_000))
  assert(all >= 10_000, 'the requests were not counted')
  assert(all <= 10_000 + 11, `${all} requests`)
  const some = await requests(async () => assert.equal((await keysOf(store, 'job-3/37')).length, 100))
  assert(some <= 100 + 3, `${some} requests`)
})

test('objects that vanish while they are listed are left out, and nothing fails', async t => {
  const path = folder(t)
  const store = localStore('local', { path })
  const keys = Array.from({ length: 400 }, (_, n) => `job/${n % 20}/${n}`)
  await Promise.all(keys.map(key => store.put(key, x, {}, ctx)))
  await store.put('stays', x, {}, ctx)
  const removing = Promise.all(keys.map(key => store.remove(key, undefined, ctx)))
  for (let round = 0; round < 10; round++) assert((await keysOf(store)).includes('stays'))
  await removing
  assert.deepEqual(await keysOf(store), ['stays'])
  assert.deepEqual(readdirSync(path), ['stays'])
})

test('folders and objects are for their owner only', async t => {
  const path = join(folder(t), 'root')
  await localStore('local', { path }).put('a/b/c', x, {}, ctx)
  for (const name of ['', 'a', 'a/b']) assert.equal((await stat(join(path, name))).mode & 0o777, 0o700, name)
  assert.equal((await stat(join(path, 'a/b/c'))).mode & 0o777, 0o600)
})

test('a key that would not be listed afterwards is refused', async t => {
  const store = localStore('local', { path: folder(t) })
  for (const key of ['a/.b.0123456789abcdef.cairn-part', 'lost+found/a', 'lost+found', 'a/\ud800']) {
    await assert.rejects(store.put(key, x, {}, ctx), { name: 'Failure', exit: exitCode.usage }, key)
  }
  assert.deepEqual(await keysOf(store), [])
})

test('what a file system keeps for itself is not listed, what others put into the folder is', async t => {
  const path = folder(t)
  const store = localStore('local', { path })
  await mkdir(join(path, 'lost+found'))
  await writeFile(join(path, 'lost+found/#123'), '')
  await writeFile(join(path, '.hidden'), '')
  await writeFile(join(path, 'old-dump.sql.gz'), '')
  execFileSync('mkfifo', [join(path, 'pipe')])
  assert.deepEqual(await keysOf(store), ['.hidden', 'old-dump.sql.gz'])
  assert.deepEqual(await keysOf(store, 'lost+found/'), [])
  await assert.rejects(collect(store.get('pipe', {}, ctx)), NotFound)
})

test('a key below an object, and a key that is a folder, are refused with the reason', async t => {
  const store = localStore('local', { path: folder(t) })
  await store.put('a', x, {}, ctx)
  await store.put('b/c', x, {}, ctx)
  await assert.rejects(store.put('a/b', x, {}, ctx), { name: 'Failure', why: /a file, not a folder/ })
  for (const options of [{}, { replace: true } as const]) {
    await assert.rejects(store.put('b', x, options, ctx), { name: 'Failure', why: /a folder of that name/ })
  }
  assert.deepEqual(await keysOf(store), ['a', 'b/c'])
})

test('a name that is too long for the file system is refused with the reason', async t => {
  const store = localStore('local', { path: folder(t) })
  await assert.rejects(store.put('n'.repeat(250), x, {}, ctx), /name of this length/)
  assert.deepEqual(await keysOf(store), [])
})

test('a probe makes nothing, and says when the folder is a file', async t => {
  const path = folder(t)
  await localStore('local', { path: join(path, 'a/b') }).probe(ctx)
  assert.deepEqual(readdirSync(path), [])
  await writeFile(join(path, 'file'), '')
  await assert.rejects(localStore('local', { path: join(path, 'file') }).probe(ctx), /is not a folder/)
  await assert.rejects(localStore('local', { path: join(path, 'file/x') }).probe(ctx), /is not a folder/)
})

test('an object that shrinks while it is read does not end as if it were whole', async t => {
  const path = folder(t)
  const store = localStore('local', { path })
  await store.put('a', hostileBytes(4 * MiB), {}, ctx)
  const read = async (): Promise<void> => {
    for await (const _ of store.get('a', {}, ctx)) await truncate(join(path, 'a'), 2 * MiB + 5)
  }
  await assert.rejects(read(), { name: 'Failure', exit: exitCode.damaged })
})

test('a folder has no locks, and says so before it writes', async t => {
  const path = folder(t)
  const lock = { mode: 'governance', until: new Date() } as const
  await assert.rejects(localStore('local', { path }).put('a', x, { lock }, ctx), /no locks/)
  assert.deepEqual(readdirSync(path), [])
})

test('no file stays open, however a put or a get ends', async t => {
  const store = localStore('local', { path: folder(t) })
  const open = (): number => readdirSync('/proc/self/fd').length
  await store.put('a', hostileBytes(3 * MiB), {}, ctx)
  const before = open()
  async function* failing(): Bytes {
    yield hostileBytes(2 * MiB)
    throw new Error('the body failed')
  }
  for (let round = 0; round < 20; round++) {
    await assert.rejects(store.put('b', failing(), {}, ctx))
    await assert.rejects(store.put('a', x, {}, ctx), AlreadyExists)
    for await (const _ of store.get('a', {}, ctx)) break
    await assert.rejects(collect(store.get('absent', {}, ctx)), NotFound)
    await assert.rejects(collect(store.get('', {}, ctx)), Failure)
  }
  // They are closed by others, a moment later.
  for (let n = 0; n < 200 && open() > before; n++) await sleep(50)
  assert(open() <= before, `${open()} files are open instead of ${before}`)
})

test('an object that is replaced while it is read is read as it was', async t => {
  const path = folder(t)
  const store = localStore('local', { path })
  const old = hostileBytes(3 * MiB)
  await store.put('a', old, {}, ctx)
  const chunks: Uint8Array[] = []
  for await (const chunk of store.get('a', {}, ctx)) {
    if (chunks.length === 0) await store.put('a', x, { replace: true }, ctx)
    chunks.push(chunk)
  }
  assert.deepEqual(Buffer.concat(chunks), old)
  assert.deepEqual(await readFile(join(path, 'a')), x)
})

test('the shell command for an object writes it to stdout', async t => {
  const store = localStore('local', { path: join(folder(t), `it's "here"`) })
  const key = `$(touch x)/'a'\n-b`
  await store.put(key, hostileBytes(100_000), {}, ctx)
  assert.deepEqual(execFileSync('sh', ['-c', store.shell(key)]), hostileBytes(100_000))
})

test('the path of a folder is absolute', () => {
  assert.equal(LocalOptions.parse({ path: '/backups' }).path, '/backups')
  assert.equal(LocalOptions.safeParse({ path: 'backups' }).success, false)
  assert.equal(LocalOptions.safeParse({ path: '/backups', paht: '' }).success, false)
})
