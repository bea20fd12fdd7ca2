// budget: 360 s
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { newerRclone, service } from '../../../test/services/index.ts'
import { freePorts, run } from '../../../test/services/process.ts'
import { testContext } from '../../../test/support/context.ts'
import { type Opened, storeContract } from '../../../test/support/store-contract.ts'
import { Failure } from '../../model/failure.ts'
import type { Bytes } from '../../model/step.ts'
import { AlreadyExists } from '../../model/store.ts'
import { RcloneOptions, rcloneStore } from './index.ts'

// Ten times, as is the default, takes half a minute for a server that is not there.
process.env.RCLONE_LOW_LEVEL_RETRIES = '2'

const places = {
  'a local folder': localFolder,
  SFTP: sftpFolder,
  WebDAV: webdavFolder,
  'WebDAV that takes streams': streamingWebdavFolder,
}

for (const [version, program] of [
  ['old rclone', 'rclone'],
  ['new rclone', newerRclone],
] as const) {
  const there = program === 'rclone' || existsSync(program)
  const skip = there ? {} : { skip: `no ${program}` }
  describe(version, { concurrency: 6 }, () => {
    for (const [name, place] of Object.entries(places)) {
      // The whole contract takes half a minute over a network; what the two differ in shows in a folder too.
      const byContract = place === localFolder || (program === 'rclone' && place !== streamingWebdavFolder)
      if (byContract)
        storeContract(name, async t => opened(t, await place(t), program), { ...skip, timeoutMs: 120_000 })

      test(`${name}: killing us in the middle of an upload leaves no object and no rclone`, skip, async t => {
        const { folder, options } = await place(t)
        const child = await uploader({ config: '/dev/null', program, ...options })
        const [daemon = 0] = daemonsOf(child.pid)
        assert.notEqual(daemon, 0)
        child.kill('SIGKILL')
        await until(() => !existsSync(`/proc/${daemon}`))
        const { store } = await opened(t, { folder, options }, program)
        // The server may still be at work on what it has received, for as long as it is busy.
        await until(async () => {
          assert.deepEqual(await Array.fromAsync(store.list('', testContext())), [])
          await sleep(500)
          await store.sweep('', testContext())
          return (await filesIn(folder)).length === 0
        })
      })

      // rclone gets to see these streams only when they have come to their end.
      if (place === webdavFolder) continue
      test(
        `${name}: when rclone is killed, an upload fails and says so, and the next one works`,
        skip,
        async t => {
          const { store, dir } = await opened(t, await place(t), program)
          const underWay = Promise.withResolvers<void>()
          const uploading = store.put('broken', endless(underWay.resolve), {}, testContext())
          const failed = assert.rejects(uploading, (error: Failure) => /SIGKILL/.test(error.why))
          await underWay.promise
          const [daemon] = daemonsOf(process.pid, dir)
          // 0 would be our own process group.
          assert(daemon)
          process.kill(daemon, 'SIGKILL')
          await failed
          await store.put('whole', Buffer.from('whole'), {}, testContext())
          const keys = await Array.fromAsync(store.list('', testContext()))
          assert.deepEqual(
            keys.map(({ key }) => key),
            ['whole'],
          )
        },
      )
    }

    test('secrets stand in no command line, and nothing is left when the store is closed', skip, async t => {
      const place = await webdavFolder(t)
      const { store, dir } = await opened(t, place, program)
      await store.put('a', Buffer.from('a'), {}, testContext())
      const daemons = daemonsOf(process.pid, dir)
      assert.equal(daemons.length, 1)
      // Of this store alone: the tests beside it hand the same password to `rclone obscure`.
      const lines = daemons.map(pid => proc(pid, 'cmdline'))
      const secrets = [place.secret ?? '', (await service('webdav')).password]
      for (const secret of secrets) assert(!lines.some(line => line.includes(secret)), 'a secret is in argv')
      await store.close()
      assert(daemons.every(pid => !existsSync(`/proc/${pid}`)))
      assert.deepEqual(await filesIn(dir), [])
    })

    test('a server that dies ends an upload and a download with a failure', skip, async t => {
      const folder = await temporary(t, tmpdir())
      const server = await webdavServer(t, folder)
      const { store } = await opened(t, { folder, options: server.options }, program)
      await store.put('large', slice(64), {}, testContext())
      const uploading = store.put('cut', endless(), {}, testContext())
      const failed = assert.rejects(uploading, Failure)
      let seen = 0
      await assert.rejects(async () => {
        for await (const chunk of store.get('large', {}, testContext())) {
          if (seen === 0) server.kill()
          seen += chunk.byteLength
          await sleep(1)
        }
      }, Failure)
      await failed
      assert(seen < 64 * 2 ** 20)
    })

    test('an account that may only create and rename can write', skip, async t => {
      const { options, folder } = await limitedSftp(t, 'read,opendir,readdir')
      const store = rcloneStore('drop', RcloneOptions.parse({ config: '/dev/null', program, ...options }))
      t.after(() => store.close())
      await store.put('begin', Buffer.from('begin'), {}, testContext())
      await store.put('job/large', slice(3), {}, testContext())
      assert.equal(store.can.hidesPartial, true)
      assert.deepEqual(await filesIn(folder), ['begin', 'job/large'])
      assert.equal((await stat(join(folder, 'job/large'))).size, 3 * 2 ** 20)
    })

    test('an account that may not even rename writes under the names themselves', skip, async t => {
      const { options, folder } = await limitedSftp(t, 'read,opendir,readdir,rename,posix-rename')
      const store = rcloneStore('drop', RcloneOptions.parse({ config: '/dev/null', program, ...options }))
      t.after(() => store.close())
      await store.put('begin', Buffer.from('begin'), {}, testContext())
      await store.put('job/large', slice(3), {}, testContext())
      assert.equal(store.can.hidesPartial, false)
      assert.deepEqual(await filesIn(folder), ['begin', 'job/large'])
    })

    test('what cannot work is told with its remedy', skip, async t => {
      const sftp = (await sftpFolder(t)).options
      const webdav = (await webdavFolder(t)).options
      const empty = join(await temporary(t, tmpdir()), 'known_hosts')
      await writeFile(empty, '')
      const closed = String(await freePorts())
      const wrong = await obscured('wrong password')
      const cases = [
        [{ remote: 'nowhere:x' }, /didn't find section/, /listremotes/],
        [{ remote: ':nonsense:x' }, /didn't find backend/, /listremotes/],
        [changed(webdav, { pass: wrong }), /401/, /check user, password/],
        [changed(webdav, { pass: 'plain?' }), /reveal|obscure|base64/, /rclone obscure/],
        [changed(sftp, { known_hosts_file: empty }), /knownhosts: key is unknown/, /ssh-keyscan/],
        [changed(sftp, { user: 'no-such-user' }), /unable to authenticate/, /check user/],
        [changed(sftp, { port: closed }), /connection refused/, /can be reached/],
        [{ remote: '/x', program: 'no-rclone' }, /not installed/, /install/],
      ] as const
      for (const [options, why, remedy] of cases) {
        const store = rcloneStore('remote', RcloneOptions.parse({ config: '/dev/null', program, ...options }))
        t.after(() => store.close())
        await assert.rejects(store.probe(testContext()), (error: Failure) => {
          assert(error instanceof Failure, String(error))
          assert.match(error.why, why)
          assert.match(error.remedy, remedy)
          assert(!error.message.includes(wrong))
          return true
        })
      }
    })

    test('a remote with a dash and a dot in its name has the settings that are given', skip, async t => {
      const folder = await mkdtemp(join(tmpdir(), 'cairn-rclone-'))
      t.after(() => rm(folder, { recursive: true }))
      const options = { type: 'alias', remote: folder }
      const store = rcloneStore(
        'x',
        RcloneOptions.parse({ remote: 'my-na.s:', config: '/dev/null', options, program }),
      )
      t.after(() => store.close())
      await store.put('a/b', Buffer.from('c'), {}, testContext())
      assert.equal(await readFile(join(folder, 'a/b'), 'utf8'), 'c')
    })

    test('a version that lacks what S3 needs is told', skip, async t => {
      const folder = await mkdtemp(join(tmpdir(), 'cairn-rclone-'))
      t.after(() => rm(folder, { recursive: true }))
      const store = rcloneStore('x', RcloneOptions.parse({ remote: folder, program }))
      t.after(() => store.close())
      const [, minor] = /v1\.(\d+)/.exec(await run(program, ['version'])) ?? []
      const advice = await store.advice?.(testContext())
      assert.equal(advice?.what, Number(minor) < 70 ? 'rclone is older than 1.70' : undefined)
    })

    test('passwords of a connection string are not in messages', skip, async t => {
      const remote = ':sftp,host=127.0.0.1,port=9,pass=not-obscured-secret:x'
      const store = rcloneStore('remote', RcloneOptions.parse({ config: '/dev/null', program, remote }))
      t.after(() => store.close())
      await assert.rejects(store.probe(testContext()), (error: Failure) => {
        assert(!`${error.message} ${error.remedy} ${error.cause}`.includes('not-obscured-secret'))
        return true
      })
    })
  })
}

test('a key that is taken is seen before the upload, though two at once are not', async t => {
  const { store } = await opened(t, await localFolder(t), 'rclone')
  await store.put('taken', Buffer.from('first'), {}, testContext())
  await assert.rejects(store.put('taken', Buffer.from('second'), {}, testContext()), AlreadyExists)
})

test('sweeping removes what interrupted uploads left, ours and those of rclone', async t => {
  const place = await localFolder(t)
  const { store } = await opened(t, place, 'rclone')
  await store.put('job/x', Buffer.from('x'), {}, testContext())
  for (const name of ['job/cairn.0123abcd.partial', 'job/y.89abcdef.partial', 'job/kept.partial']) {
    await writeFile(join(place.folder, name), 'part')
  }
  assert.equal(await store.sweep('job/', testContext()), 2)
  assert.deepEqual(await filesIn(place.folder), ['job/kept.partial', 'job/x'])
})

test('an object is swept by its key alone, whatever else is on its way into the same folder', async t => {
  const place = await localFolder(t)
  const { store } = await opened(t, place, 'rclone')
  const keys = ['db.sql.gz', `job/${'long'.repeat(50)}.sql`, 'db_2.sql.gz']
  const left = []
  for (const key of keys) {
    let seen: string[] = []
    const body = async function* () {
      yield* slice(4)
      for (let n = 0; n < 600 && seen.length === 0; n++) {
        await sleep(50)
        seen = (await filesIn(place.folder)).filter(name => name.endsWith('.partial'))
      }
    }
    await store.put(key, body(), {}, testContext())
    assert.equal(seen.length, 1, key)
    left.push(...seen)
  }
  for (const name of left) {
    await mkdir(dirname(join(place.folder, name)), { recursive: true })
    await writeFile(join(place.folder, name), 'part')
  }
  for (const key of keys.slice(0, 2)) assert.equal(await store.sweep(key, testContext()), 1, key)
  assert.deepEqual((await filesIn(place.folder)).sort(), [...keys, left[2]].sort())
})

test('a new object of the same size replaces the old one where the remote keeps no times', async t => {
  const { store } = await opened(t, await webdavFolder(t), 'rclone')
  await store.put('fixed', Buffer.from('old'), { replace: true }, testContext())
  await store.put('fixed', Buffer.from('new'), { replace: true }, testContext())
  const got = await Array.fromAsync(store.get('fixed', {}, testContext()))
  assert.equal(Buffer.concat(got).toString(), 'new')
})

test('a folder is gone with its last object, those above stay', async t => {
  const place = await localFolder(t)
  const { store } = await opened(t, place, 'rclone')
  await store.put('job/id/x', Buffer.from('x'), {}, testContext())
  await store.remove('job/id/x', undefined, testContext())
  assert.deepEqual(await readdir(join(place.folder, 'job')), [])
})

test('a large stream takes no more memory than a small one', async t => {
  const { store } = await opened(t, await localFolder(t), 'rclone')
  await store.put('small', slice(32), {}, testContext())
  const before = process.memoryUsage.rss()
  await store.put('large', slice(600), {}, testContext())
  assert(process.memoryUsage.rss() - before < 150 * 2 ** 20)
})

test('over SFTP with a shell, rclone compares checksums too', async t => {
  const { folder, options } = await sftpFolder(t)
  const place = { folder, options: changed(options, { disable_hashcheck: 'false' }) }
  const { store } = await opened(t, place, 'rclone')
  await store.put('a', slice(2), {}, testContext())
  assert.deepEqual(await filesIn(folder), ['a'])
})

interface Options {
  readonly remote: string
  readonly options?: Readonly<Record<string, string>>
}

interface Place {
  /** Where the objects lie on this machine. */
  readonly folder: string
  readonly options: Options
  readonly secret?: string
}

async function opened(
  t: TestContext,
  { folder, options }: Place,
  program: string,
): Promise<Opened & { store: ReturnType<typeof rcloneStore>; dir: string }> {
  const store = rcloneStore('remote', RcloneOptions.parse({ config: '/dev/null', program, ...options }))
  t.after(() => store.close())
  const ctx = testContext()
  await store.probe(ctx)
  const leftovers = async () => (await filesIn(folder)).filter(name => name.endsWith('.partial'))
  return { store, leftovers, dir: ctx.dir }
}

async function localFolder(t: TestContext): Promise<Place> {
  const folder = await temporary(t, tmpdir())
  return { folder, options: { remote: folder } }
}

async function sftpFolder(t: TestContext): Promise<Place> {
  const facts = await service('sftp')
  const folder = await temporary(t, facts.folder)
  const options = {
    type: 'sftp',
    host: facts.host,
    port: String(facts.port),
    user: facts.user,
    key_file: facts.keyFile,
    known_hosts_file: facts.knownHosts,
    // rclone would have md5sum run over ssh for every object; one test lets it.
    disable_hashcheck: 'true',
  }
  return { folder, options: { remote: `nas:${folder}`, options } }
}

async function streamingWebdavFolder(t: TestContext): Promise<Place> {
  return webdavFolder(t, 'owncloud')
}

/** To a server of vendor `other`, rclone can only send what it knows the size of. */
async function webdavFolder(t: TestContext, vendor = 'other'): Promise<Place> {
  const facts = await service('webdav')
  const folder = await temporary(t, facts.folder)
  const pass = await obscured(facts.password)
  const options = { type: 'webdav', url: facts.url, vendor, user: facts.user, pass }
  return { folder, options: { remote: `dav:${relative(facts.folder, folder)}`, options }, secret: pass }
}

/** An SFTP server of its own that refuses some requests. */
async function limitedSftp(t: TestContext, refused: string): Promise<Place> {
  const facts = await service('sftp')
  const folder = await temporary(t, tmpdir())
  const port = await freePorts()
  const config = join(await temporary(t, tmpdir()), 'sshd_config')
  const served = (await readFile(join(dirname(facts.keyFile), 'sshd_config'), 'utf8'))
    .replace(/^ListenAddress .*$/m, `ListenAddress ${facts.host}:${port}`)
    .replace(
      /^Subsystem .*$/m,
      `Subsystem sftp internal-sftp -P ${refused}\nForceCommand internal-sftp -P ${refused}`,
    )
  await writeFile(config, served)
  const server = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', config], { stdio: 'ignore' })
  t.after(() => server.kill('SIGKILL'))
  const known = join(dirname(config), 'known_hosts')
  await writeFile(
    known,
    (await readFile(facts.knownHosts, 'utf8')).replace(/^\[.*?\]:\d+/, `[${facts.host}]:${port}`),
  )
  await until(() => answers(port, facts.host))
  const { options } = await sftpFolder(t)
  const limited = changed(options, { port: String(port), known_hosts_file: known })
  return { folder, options: { ...limited, remote: `nas:${folder}` } }
}

function answers(port: number, host: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, host)
    const end = (is: boolean): void => {
      socket.destroy()
      resolve(is)
    }
    socket.once('connect', () => end(true)).once('error', () => end(false))
  })
}

/** A WebDAV server that can be killed. */
async function webdavServer(t: TestContext, folder: string): Promise<{ options: Options; kill(): void }> {
  const address = `127.0.0.1:${await freePorts()}`
  const args = ['serve', 'webdav', folder, '--addr', address, '--config', '/dev/null']
  const server = spawn('rclone', args, { stdio: 'ignore' })
  t.after(() => server.kill('SIGKILL'))
  const url = `http://${address}/`
  await until(() =>
    fetch(url, { method: 'OPTIONS' }).then(
      () => true,
      () => false,
    ),
  )
  const options = { type: 'webdav', url, vendor: 'owncloud' }
  return { options: { remote: 'dav:', options }, kill: () => server.kill('SIGKILL') }
}

function changed(place: Options, settings: Readonly<Record<string, string>>): Options {
  return { ...place, options: { ...place.options, ...settings } }
}

/** A process like ours that uploads without end; resolves when it is well under way. */
async function uploader(options: object): Promise<ChildProcess & { pid: number }> {
  const here = import.meta.dirname
  const script = `
    import { RcloneOptions, rcloneStore } from '${here}/index.ts'
    import { testContext } from '${here}/../../../test/support/context.ts'
    const store = rcloneStore('remote', RcloneOptions.parse(${JSON.stringify(options)}))
    async function* body() {
      for (let sent = 0; ; sent++) {
        yield Buffer.alloc(1 << 20)
        if (sent === 16) console.log('under way')
        if (sent > 16) await new Promise(resolve => setTimeout(resolve, 20))
      }
    }
    await store.put('job/half', body(), {}, testContext())`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  return Object.assign(child, { pid: child.pid ?? 0 })
}

/** The rclone daemons that a process has started, those with this folder if one is given. */
function daemonsOf(parent: number, dir = ''): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter(pid => {
      const status = proc(pid, 'status')
      const isChild = new RegExp(`^PPid:\\s+${parent}$`, 'm').test(status) && !/^State:\s+Z/m.test(status)
      return isChild && proc(pid, 'cmdline').includes('rcd') && proc(pid, 'environ').includes(`TMPDIR=${dir}`)
    })
}

function proc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return ''
  }
}

async function until(check: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 60_000
  while (performance.now() < deadline) {
    if (await check()) return
    await sleep(50)
  }
  assert.fail('waited in vain')
}

/** Says so once more was taken than lies in buffers on the way. */
async function* endless(isUnderWay = (): void => {}): Bytes {
  for (let sent = 0; ; sent++) {
    if (sent === 64) isUnderWay()
    yield Buffer.alloc(1 << 18, 'x')
    await sleep(2)
  }
}

async function* slice(mebibytes: number): Bytes {
  for (let n = 0; n < mebibytes; n++) yield Buffer.alloc(1 << 20, n)
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter(entry => entry.isFile())
    .map(entry => relative(folder, join(entry.parentPath, entry.name)))
    .sort()
}

async function temporary(t: TestContext, parent: string): Promise<string> {
  const folder = await mkdtemp(join(parent, 'remote-'))
  await chmod(folder, 0o755)
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

async function obscured(password: string): Promise<string> {
  return (await run('rclone', ['obscure', password])).trim()
}
