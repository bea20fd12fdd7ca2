// budget: 200 s
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { takeLock } from '../../src/platform/lock.ts'
import { findProgram } from '../../src/platform/program.ts'
import { generateIdentity } from '../../src/stages/index.ts'
import { freshDatabase, orSkip } from '../services/index.ts'
import {
  filesIn,
  leftovers,
  listed,
  type Machine,
  machine,
  privateFiles,
  type Ran,
  type RunOptions,
  randomFiles,
  sqliteFile,
  tree,
} from '../support/cli.ts'
import { freePort } from '../support/free-port.ts'
import { canBeNobody } from '../support/nobody.ts'

/** A host with one SQLite job and one local store. */
function furnished(more: Record<string, unknown> = {}): Machine {
  const host = machine()
  sqliteFile(host.path('shop.db'))
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: { shop: { source: { type: 'sqlite', path: host.path('shop.db') }, to: ['disk'] } },
    ...more,
  })
  return host
}

/** What lies on the host, but for Cairn's own state. */
function touchable(host: Machine): [string, string][] {
  return [...tree(host.folder, /^(state|home|nobody)$/)]
}

/** One error in three parts, and no innards. */
function assertOneError(ran: Ran): void {
  const errors = ran.stderr.split('\n').filter(line => line.startsWith('cairn: error: '))
  assert.equal(errors.length, 1, ran.stderr)
  assert.match(errors[0] ?? '', /^cairn: error: [^:]+.*: \S/)
  assert.doesNotMatch(ran.stderr, /^\s+at |undefined|\[object|internal error|node:/m)
  assert.equal(ran.out, '')
}

/** The run ends with the code and one error that says all that is expected, and leaves everything as it was. */
async function refused(
  host: Machine,
  args: readonly string[],
  says: readonly RegExp[],
  { code = 2, ...options }: RunOptions & { code?: number } = {},
): Promise<void> {
  const before = touchable(host)
  const ran = await host.run(args, options)
  assert.equal(ran.code, code, ran.stderr)
  assertOneError(ran)
  for (const pattern of says) assert.match(ran.stderr, pattern)
  assert.deepEqual(touchable(host), before)
  assert.deepEqual(privateFiles(host), [])
}

test('an unknown command, option or argument is a matter of usage, with what was probably meant', async () => {
  const host = furnished()
  const said = async (...args: string[]): Promise<string> => {
    const ran = await host.run(args)
    assert.equal(ran.code, 2, ran.stderr)
    assert.equal(ran.out, '')
    assert.match(ran.stderr, /^cairn: error: /)
    return ran.stderr
  }
  assert.match(await said('bakcup'), /unknown command 'bakcup'[\s\S]*backup/)
  assert.match(await said('backup', '--qiuet'), /unknown option '--qiuet'[\s\S]*--quiet/)
  assert.match(await said('show'), /missing required argument/)
  assert.match(await said('copy', 'latest'), /--to/)
  assert.match(await said('show', 'one', 'two'), /too many arguments/)
  assert.match(await said('backup', '--stall', 'soon'), /"soon" is not a duration[\s\S]*hint: /)
  assert.match(await said('restore', 'latest', '--allow', 'all'), /devices/)
  assert.match(await said('config', 'shwo'), /'shwo'[\s\S]*show, schema/)
})

test('without a command the help goes to stderr, and the exit code is that of usage', async () => {
  const ran = await furnished().run([])
  assert.equal(ran.code, 2)
  assert.equal(ran.out, '')
  assert.match(ran.stderr, /Usage: cairn/)
})

test('a target that is empty, as an unset variable gives it, is refused', async () => {
  const host = furnished()
  await host.ok(['backup'])
  const before = tree(host.path('.'))
  const ran = await host.run(['restore', 'latest', '--to', '', '--yes'])
  assert.equal(ran.code, 2)
  assert.match(ran.stderr, /'--to <target>'.* is empty/)
  assert.equal(tree(host.path('.')).get('shop.db'), before.get('shop.db'))
})

test('what backup --json says on stderr is JSON, also when it cannot begin', async () => {
  const host = furnished()
  const ran = await host.run(['backup', 'shpo', '--json', '--verbose'])
  assert.equal(ran.code, 2)
  const [first, ...more] = ran.stderr
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as { type: string; what?: string })
  assert.deepEqual([first?.type, first?.what], ['failure', 'there is no job "shpo"'])
  for (const { type } of more) assert.equal(type, 'notice')
})

test('an unknown job or store is named, with those that there are', async () => {
  const host = furnished()
  await refused(host, ['backup', 'shpo'], [/there is no job "shpo"/, /shop/])
  await refused(host, ['prune', 'shpo'], [/there is no job "shpo"/, /shop/])
  await refused(host, ['doctor', 'shpo'], [/there is no job "shpo"/])
  await refused(host, ['list', 'shpo'], [/there is no job "shpo"/])
  await refused(host, ['list', '--store', 'dsik'], [/there is no store "dsik"/, /disk/])
})

test('a configuration that is missing or cannot be read is named', async t => {
  const host = furnished()
  await refused(
    host,
    ['backup', '--config', '/no/such.yaml'],
    [/\/no\/such\.yaml/, /no such file/, /cairn init/],
  )
  await refused(host, ['backup'], [/\/no\/such\.yaml/], { env: { CAIRN_CONFIG: '/no/such.yaml' } })
  await refused(
    host,
    ['backup', '--config', host.folder],
    [/cannot read the configuration/, /folder|directory/],
  )
  rmSync(host.config)
  await refused(host, ['backup'], [/no job is configured|no configuration/, /cairn init/])
  await refused(host, ['list'], [/no store/, /--store/])
  if (!canBeNobody(t)) return
  host.configure({})
  chmodSync(host.config, 0o600)
  const state = host.path('nobody')
  mkdirSync(state)
  chmodSync(state, 0o777)
  await refused(host, ['backup'], [/cannot read the configuration/, /permission/, /hint: give the user/], {
    as: 'nobody',
    env: { CAIRN_STATE: state },
  })
})

test('every fault of a configuration is told at once, with its line and what was probably meant', async () => {
  const host = furnished()
  const store = `stores:\n  disk: { type: local, path: ${host.path('disk')} }\n`
  const job = (lines: string): string => `${store}jobs:\n  shop:\n${lines}`
  const source = `    source: { type: sqlite, path: ${host.path('shop.db')} }\n`
  const cases: [config: string, ...says: RegExp[]][] = [
    [`${store}jobs: [`, /line [34]: /],
    [`${store}jobs:\n\tshop: 1\n`, /line 4: .*tab/i],
    [`${store}stores: {}\n`, /line 3: .*unique/i],
    [job(`${source}    to: [disk]\n    to: [disk]\n`), /line 7: .*unique/i],
    [
      job(`${source}    to: [disk]\n    kepe: { last: 3 }\n`),
      /line 7: unknown key "kepe".*did you mean "keep"\?/,
    ],
    [job(`${source}    to: [dsik]\n`), /line 6: there is no store "dsik"; did you mean "disk"\?/],
    [job(source), /line 4: .*no store/],
    [
      job('    source: { type: sqllite, path: /x }\n    to: [disk]\n'),
      /line 5: .*"sqllite".*did you mean "sqlite"\?/,
    ],
    [job('    source: { path: /x }\n    to: [disk]\n'), /line 5: .*type/],
    [job('    source: { type: sqlite, path: x.db }\n    to: [disk]\n'), /line 5: .*absolute path/],
    [job(`${source}    to: disk\n`), /line 6: .*to: must be a list/],
    [job(`${source}    to: [disk]\n    keep: { last: 0 }\n`), /line 7: .*keep\.last/],
    [job(`${source}    to: [disk]\n    keep: { within: 30 }\n`), /line 7: .*keep\.within/],
    [
      job(`${source}    to: [disk]\n    keep: { within: 3 moons }\n`),
      /line 7: .*"3 moons" is not a length of time/,
    ],
    [`${store}jobs:\n  Shop:\n${source}    to: [disk]\n`, /line 4: .*a-z/],
    [`${store}jobs:\n  latest:\n${source}    to: [disk]\n`, /line 4: .*latest/],
    ['just words', /line 1: /],
    [
      `stors: {}\n${store}encryption: { age: { recipients: [age1nonsense], identiy: x } }\njobs:\n  shop:\n    sorce: 1\n`,
      /errors/,
      /line 1: unknown key "stors".*"stores"/,
      /line 4: .*age1nonsense/,
      /line 4: unknown key "identiy".*"identity"/,
      /line 7: unknown key "sorce".*"source"/,
    ],
  ]
  for (const [config, ...says] of cases) {
    host.configure(config)
    await refused(host, ['config', 'show'], [/cairn\.yaml is not valid: /, ...says])
  }
})

test('a recipient of a kind that nothing can encrypt for is refused before anything is touched', async () => {
  for (const recipient of [
    'ssh-ecdsa AAAAE2VjZHNh',
    'ecdsa-sha2-nistp256 AAAAE2VjZHNh',
    'me@example.org',
    'AGE-SECRET-KEY-1X',
  ]) {
    const host = furnished({ encryption: { age: { recipients: [recipient] } } })
    await refused(host, ['backup'], [/ssh-ed25519|age-keygen -y/])
  }
})

test('a secret that is not where it should be is told by its place', async () => {
  const url = (from: object): Machine =>
    furnished({
      jobs: {
        shop: {
          source: { type: 'postgres', host: 'localhost', user: 'me', database: 'x', password: from },
          to: ['disk'],
        },
      },
    })
  await refused(url({ env: 'SHOP_PASSWORD' }), ['backup'], [/SHOP_PASSWORD/, /not set/])
  await refused(url({ file: '/no/such/file' }), ['backup'], [/\/no\/such\/file/])
  await refused(url({ command: ['/no/such/program'] }), ['backup'], [/\/no\/such\/program/])
  await refused(url({ command: ['false'] }), ['backup'], [/the command false/])
})

/** A folder with these programs and no others, for PATH. */
function onlyPrograms(host: Machine, ...names: string[]): string {
  const folder = host.path('bin')
  mkdirSync(folder)
  for (const name of ['dirname', 'readlink', 'setpriv', 'head', ...names]) {
    const path = findProgram(name)
    if (path) symlinkSync(path, `${folder}/${name}`)
  }
  return folder
}

test('a program that is missing is named, with what to install', async () => {
  const host = furnished()
  const PATH = onlyPrograms(host, 'zstd')
  const files = randomFiles(host.path('wiki'), 1000)
  const to = ['disk']
  const stores = { disk: { type: 'local', path: host.path('disk') } }
  host.configure({ stores, jobs: { wiki: { source: { type: 'files', paths: [files] }, to } } })
  await refused(host, ['backup'], [/cannot run tar/, /install GNU tar/], { env: { PATH } })

  const source = { type: 'sqlite', path: host.path('shop.db') }
  const ssh = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN'
  host.configure({ stores, encryption: { age: { recipients: [ssh] } }, jobs: { shop: { source, to } } })
  await refused(host, ['backup'], [/ssh-ed25519/, /install age/], { env: { PATH } })

  host.configure({
    stores: { far: { type: 'rclone', remote: host.path('far') } },
    jobs: { shop: { source, to: ['far'] } },
  })
  await refused(host, ['list'], [/rclone/, /install/], { env: { PATH } })
})

test('without zstd and age themselves a backup is made all the same, and read by those who have them', async () => {
  const { recipient, identity } = await generateIdentity()
  const host = furnished({ encryption: { age: { recipients: [recipient], identity: identity.reveal() } } })
  await host.ok(['backup'], { env: { PATH: onlyPrograms(host) } })
  await host.ok(['verify'])
  await host.ok(['restore', 'latest', '--to', host.path('back.db')])
})

test('a source that is not there, not readable, not what it should be, or empty is refused', async t => {
  const host = furnished()
  const database = host.path('shop.db')
  writeFileSync(database, 'x'.repeat(10_000))
  await refused(host, ['backup'], [/shop\.db/, /not a SQLite database/])
  rmSync(database)
  await refused(host, ['backup'], [/shop\.db/, /no such file/])
  new DatabaseSync(database).close()
  await refused(host, ['backup'], [/shop\.db/, /empty/, /allowEmpty/])
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: { wiki: { source: { type: 'files', paths: [host.path('nothing')] }, to: ['disk'] } },
  })
  await refused(host, ['backup'], [/nothing/, /does not exist/])
  if (!canBeNobody(t)) return
  rmSync(database)
  chmodSync(sqliteFile(database), 0o600)
  const wiki = randomFiles(host.path('wiki'), 1000)
  chmodSync(`${wiki}/file-2`, 0)
  const state = host.path('nobody')
  const disk = host.path('open')
  for (const folder of [state, disk]) {
    mkdirSync(folder)
    chmodSync(folder, 0o777)
  }
  host.configure({
    stores: { disk: { type: 'local', path: disk } },
    jobs: {
      shop: { source: { type: 'sqlite', path: database }, to: ['disk'] },
      wiki: { source: { type: 'files', paths: [wiki] }, to: ['disk'] },
    },
  })
  const options = { as: 'nobody', env: { CAIRN_STATE: state } } as const
  await refused(host, ['backup', 'shop'], [/shop\.db/, /permission/, /hint: /], options)
  const ran = await host.run(['backup', 'wiki'], options)
  assert.equal(ran.code, 1, ran.stderr)
  assertOneError(ran)
  assert.match(ran.stderr, /file-2.*Permission denied[\s\S]*hint: run as a user who may read it/)
  assert.deepEqual(filesIn(disk), [])
})

test('a PostgreSQL that refuses, is not there, is empty or whose programs are missing is told in one error', async t => {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return
  const host = furnished()
  const { host: address, port, user, name } = database
  const shop = (source: object): void =>
    host.configure({
      stores: { disk: { type: 'local', path: host.path('disk') } },
      jobs: { shop: { source: { type: 'postgres', ...source }, to: ['disk'] } },
    })
  shop({ url: database.url })
  await refused(host, ['backup'], [/the database is empty/, /allowEmpty/])
  shop({ host: address, port, user, database: name, password: 'wrong-password' })
  await refused(host, ['backup'], [/password/, /hint: /], { code: 1 })
  shop({ url: `${database.url}_not` })
  await refused(host, ['backup'], [/there is no database/, /hint: /], { code: 1 })
  shop({ host: '127.0.0.1', port: await freePort(), user, database: name, password: 'wrong-password' })
  await refused(host, ['backup'], [/nothing listens/, /hint: /], { code: 1 })
  shop({ host: 'no-such-host.invalid', user, database: name, password: 'wrong-password' })
  await refused(host, ['backup'], [/no-such-host\.invalid/, /hint: /], { code: 1 })
  shop({ url: database.url, clients: host.path('nothing'), allowEmpty: true })
  await refused(host, ['backup'], [/client programs of PostgreSQL 15/, /hint: /], {
    env: { PATH: onlyPrograms(host, 'zstd') },
  })
})

test('a store that cannot be used fails the backup with its reason, and leaves nothing', async t => {
  const host = furnished()
  writeFileSync(host.path('disk'), 'a file')
  await refused(host, ['backup'], [/disk/, /a folder is needed/, /hint: /], { code: 1 })
  if (!canBeNobody(t)) return
  const other = furnished()
  chmodSync(other.path('shop.db'), 0o644)
  const state = other.path('nobody')
  mkdirSync(state)
  chmodSync(state, 0o777)
  mkdirSync(other.path('disk'))
  await refused(other, ['backup'], [/disk/, /permission denied/, /hint: /], {
    code: 1,
    as: 'nobody',
    env: { CAIRN_STATE: state },
  })
})

test('a state folder that cannot be used is a matter of usage', async t => {
  const host = furnished()
  writeFileSync(host.path('file'), '')
  const env = { CAIRN_STATE: host.path('file/state') }
  await refused(host, ['backup'], [/state folder/, /CAIRN_STATE/], { env })
  if (!canBeNobody(t)) return
  mkdirSync(host.path('closed'), { mode: 0o700 })
  await refused(host, ['backup'], [/state folder/, /permission/i], {
    as: 'nobody',
    env: { CAIRN_STATE: host.path('closed') },
  })
})

test('a job whose lock another run holds is left alone', async () => {
  const host = furnished()
  await host.ok(['backup'])
  {
    using _lock = await takeLock(`${host.state}/locks/shop.lock`, 'test')
    for (const command of ['backup', 'prune'])
      await refused(host, [command, 'shop'], [/job shop is locked/, /process \d+/], { code: 11 })
  }
  await host.ok(['backup'])
  assert.deepEqual(leftovers(filesIn(host.path('disk'))), [])
})

test('a wrong key is 12, damage is 20, and the target stays as it is', async () => {
  const mine = await generateIdentity()
  const other = await generateIdentity()
  const host = furnished({ encryption: { age: { recipients: [mine.recipient] } } })
  writeFileSync(host.path('mine'), mine.identity.reveal())
  writeFileSync(host.path('other'), other.identity.reveal())
  writeFileSync(host.path('nothing'), '')
  await host.ok(['backup'])
  const restore = ['restore', 'latest', '--to', host.path('back.db'), '--identity']
  await refused(host, [...restore, host.path('other')], [/key|identity/, /hint: /], { code: 12 })
  await refused(host, restore.slice(0, -1), [/identity/, /hint: /], { code: 12 })
  await refused(host, [...restore, host.path('nothing')], [/nothing/, /empty/])
  await refused(host, [...restore, '/no/such/key'], [/\/no\/such\/key/], { code: 2 })
  const wrong = await host.run(['verify', '--identity', host.path('other')])
  assert.equal(wrong.code, 12)
  flip(host, /0001-shop/)
  await refused(host, [...restore, host.path('mine')], [/damaged in store disk/, /SHA-256/], { code: 20 })
  await refused(host, [...restore, host.path('other')], [/damaged/], { code: 20 })
  const verify = await host.run(['verify', '--identity', host.path('mine')])
  assert.equal(verify.code, 20)
  assertOneError(verify)
})

/** Changes one bit in the middle of the one file of a store whose path matches. */
function flip(host: Machine, pattern: RegExp, store = 'disk'): void {
  const path = host.path(store, filesIn(host.path(store)).find(each => pattern.test(each)) ?? '')
  const bytes = readFileSync(path)
  const middle = bytes.length >> 1
  const file = openSync(path, 'r+')
  writeSync(file, Buffer.from([(bytes[middle] ?? 0) ^ 4]), 0, 1, middle)
  closeSync(file)
}

test('a manifest that is damaged, cut or gone is told, and another store helps out', async () => {
  const host = furnished()
  const config = JSON.parse(readFileSync(host.config, 'utf8'))
  config.stores.other = { type: 'local', path: host.path('other') }
  config.jobs.shop.to = ['disk', 'other']
  host.configure(config)
  await host.ok(['backup'])
  flip(host, /manifests/)
  await host.ok(['restore', 'latest', '--to', host.path('one.db')])
  assert.equal((await host.run(['verify'])).code, 20)
  await refused(host, ['show', 'latest', '--store', 'disk'], [/manifest .* is damaged/, /SHA-256/], {
    code: 20,
  })
  flip(host, /0001-shop/)
  const ran = await host.ok(['restore', 'latest', '--to', host.path('two.db')])
  assert.match(ran.stderr, /warning: .*damaged in store disk.*\n {2}hint: trying the copy in other/)
  flip(host, /manifests/, 'other')
  await refused(host, ['restore', 'latest', '--to', host.path('three.db')], [/is damaged/], { code: 20 })
})

test('when one store of two fails the backup is whole in the other, and the exit code is 3', async () => {
  const host = furnished()
  const config = JSON.parse(readFileSync(host.config, 'utf8'))
  config.stores.broken = { type: 'local', path: host.path('file') }
  config.jobs.shop.to = ['broken', 'disk']
  host.configure(config)
  writeFileSync(host.path('file'), '')
  const ran = await host.run(['backup'])
  assert.equal(ran.code, 3, ran.stderr)
  assertOneError(ran)
  assert.match(ran.stderr, /backed up shop/)
  assert.deepEqual((await listed(host))[0]?.stores, ['disk'])
  await host.ok(['verify', '--store', 'disk'])
})

test('when one job of two fails the other is backed up, and the exit code is 3', async () => {
  const host = furnished()
  const config = JSON.parse(readFileSync(host.config, 'utf8'))
  config.jobs.gone = { source: { type: 'sqlite', path: host.path('gone.db') }, to: ['disk'] }
  host.configure(config)
  const ran = await host.run(['backup'])
  assert.equal(ran.code, 3, ran.stderr)
  assert.deepEqual(
    (await listed(host)).map(({ job }) => job),
    ['shop'],
  )
  await refused(host, ['backup', 'gone'], [/gone\.db/])
})

/** A file system of its own of so many MB, or a skipped test. */
function smallDisk(t: TestContext, path: string, megabytes: number): boolean {
  mkdirSync(path, { recursive: true })
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=755`, 'tmpfs', path], {
      stdio: 'pipe',
    })
  } catch {
    t.skip('a small file system cannot be mounted here')
    return false
  }
  t.after(() => execFileSync('umount', ['-l', path]))
  return true
}

test('a disk that is full fails the backup, the restore and the spool, and leaves nothing on it', async t => {
  const host = machine()
  const files = randomFiles(host.path('wiki'), 8_000_000)
  if (!smallDisk(t, host.path('small'), 4)) return
  const stores = {
    small: { type: 'local', path: host.path('small/store') },
    disk: { type: 'local', path: host.path('disk') },
  }
  const wiki = (to: string[], more: object = {}): void =>
    host.configure({ stores, jobs: { wiki: { source: { type: 'files', paths: [files] }, to, ...more } } })

  wiki(['small'])
  await refused(host, ['backup'], [/small/, /no space is left|are free/, /hint: free some space/], {
    code: 1,
  })
  wiki(['disk'], { capture: 'spool' })
  await refused(host, ['backup'], [/space/, /CAIRN_SPOOL|free/], {
    code: 1,
    env: { CAIRN_SPOOL: host.path('small/spool') },
  })
  assert.deepEqual(filesIn(host.path('small')), [])
  wiki(['disk'])
  await host.ok(['backup'])
  const to = ['restore', 'latest', '--to', host.path('small/back')]
  await refused(host, to, [/space|room/], { code: 1 })
  assert.ok(!existsSync(host.path('small/back/wiki')))
})

test('what a copy fails for is told once; a file is no store', async () => {
  const host = furnished()
  await host.ok(['backup'])
  writeFileSync(host.path('file'), '')
  await refused(host, ['copy', 'latest', '--to', host.path('file/below')], [/cannot write .*file\/below/], {
    code: 1,
  })
  await refused(host, ['list', '--store', host.path('file')], [/there is no such folder/])
})

test('a result that nobody can take is one error; of work that is done, only its result is lost', async () => {
  const host = furnished()
  const full = { by: ['sh', '-c', 'exec "$0" "$@" > /dev/full'] }
  const backup = await host.run(['backup', '--json'], full)
  assert.equal(backup.code, 3, backup.stderr)
  assert.match(
    backup.stderr,
    /"what":"cannot write the result to stdout","why":"there is no space left \(ENOSPC\)"/,
  )
  assert.doesNotMatch(backup.stderr, /node:/)
  assert.equal((await listed(host)).length, 1)
  await refused(host, ['list'], [/cannot write the result to stdout: there is no space left/], {
    code: 1,
    ...full,
  })
  const restored = await host.run(['restore', 'latest', '--to', host.path('back.db'), '--yes'], full)
  assert.equal(restored.code, 3, restored.stderr)
  assert.ok(existsSync(host.path('back.db')))
})

test('what the system refuses is told with what, why and what to do, and never as a fault of Cairn', async () => {
  const host = furnished()
  // Where nobody knows what was being done, it is told as the system's refusal all the same.
  const nowhere = { by: ['sh', '-c', 'mkdir none && cd none && rmdir ../none && exec "$0" "$@"'] }
  await refused(host, ['init', '--defaults'], [/error: the system refuses to \w+: .*\(ENOENT\)/], {
    code: 1,
    ...nowhere,
  })
  // In /proc nobody can make anything, root neither.
  await refused(
    host,
    ['init', '--defaults'],
    [/cannot write \/proc\/cairn-key\.txt: .*ENOENT[\s\S]*hint: /],
    {
      cwd: '/proc',
    },
  )
  await refused(host, ['list'], [/cannot use the folder \/proc: .*ENOENT[\s\S]*hint: .*CAIRN_SPOOL/], {
    env: { CAIRN_SPOOL: '/proc' },
  })
  mkdirSync(`${host.state}/locks/shop.lock`)
  await refused(host, ['prune'], [/cannot lock job shop: .*shop\.lock: [\s\S]*hint: .*CAIRN_STATE/])
  rmSync(`${host.state}/locks/shop.lock`, { recursive: true })
  rmSync(`${host.state}/journal`, { recursive: true })
  symlinkSync('/proc', `${host.state}/journal`)
  await refused(host, ['backup'], [/cannot write .*journal\/begun\.shop\.[\s\S]*ENOENT[\s\S]*hint: /], {
    code: 1,
  })
})
