// budget: 300 s
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import * as z from 'zod'
import { generateIdentity } from '../../src/stages/index.ts'
import {
  filesIn,
  leftovers,
  listed,
  type Machine,
  machine,
  randomFiles,
  sqliteFile,
  tree,
} from '../support/cli.ts'

/** A host with a job of files and one of SQLite, encrypted, and two stores: both jobs go to the first one. */
async function furnished(
  more: object = {},
): Promise<{ host: Machine; files: string; database: string; key: string }> {
  const host = machine()
  const files = randomFiles(host.path('wiki'), 300_000)
  const database = sqliteFile(host.path('shop.db'))
  const { recipient, identity } = await generateIdentity()
  const key = host.path('key.txt')
  writeFileSync(key, `${identity.reveal()}\n`, { mode: 0o600 })
  host.configure({
    stores: {
      disk: { type: 'local', path: host.path('disk') },
      other: { type: 'local', path: host.path('other') },
    },
    encryption: { age: { recipients: [recipient], identity: { file: key } } },
    defaults: { to: ['disk'] },
    jobs: {
      wiki: { source: { type: 'files', paths: [files] } },
      shop: { source: { type: 'sqlite', path: database } },
    },
    ...more,
  })
  return { host, files, database, key }
}

function rowsOf(database: string): unknown[] {
  using db = new DatabaseSync(database, { readOnly: true })
  return db.prepare('SELECT id, hex(body) AS body FROM item ORDER BY id').all()
}

test('init writes a configuration that backs up and restores at once, and overwrites nothing', async () => {
  const host = machine()
  randomFiles(host.path('data'), 100_000)
  const options = { cwd: host.path('data') }
  const init = await host.ok(['init', '--defaults'], options)
  assert.match(init.out, /cairn\.yaml/)
  assert.match(init.out, /key/)
  const before = tree(host.path('data'))
  const again = await host.run(['init', '--defaults'], options)
  assert.equal(again.code, 2)
  assert.deepEqual(tree(host.path('data')), before)
  const other = { ...options, env: { CAIRN_CONFIG: host.path('other.yaml') } }
  const said = (await host.ok(['init', '--defaults', '--json'], other)).json<{
    cairn: number
    config: string
  }>()
  assert.deepEqual([said.cairn, said.config], [1, host.path('other.yaml')])

  await host.ok(['doctor'], options)
  await host.ok(['backup'], options)
  await host.ok(['restore', 'latest', '--to', host.path('back')], options)
  const source = [...before].filter(([path]) => !path.startsWith('backups/'))
  assert.deepEqual([...tree(host.path('back', 'data'))], source)
})

test('init does not write its own store into the backup', async () => {
  const host = machine()
  randomFiles(host.path('data'), 100_000)
  const options = { cwd: host.path('data') }
  await host.ok(['init', '--defaults'], options)
  await host.ok(['backup'], options)
  await host.ok(['backup'], options)
  await host.ok(['restore', 'latest', '--to', host.path('back')], options)
  assert.deepEqual(
    filesIn(host.path('back', 'data')).filter(path => path.startsWith('backups')),
    [],
  )
})

test('a backup is listed with everything the contract of the command line names', async () => {
  const { host } = await furnished()
  const started = Date.now()
  const backup = await host.ok(['backup', '--json'])
  const { jobs } = backup.json<{
    jobs: { job: string; units: { id: string; stores: string[]; sizeBytes: number }[] }[]
  }>()
  assert.deepEqual(
    jobs.map(({ job }) => job),
    ['wiki', 'shop'],
  )
  for (const line of backup.stderr.trim().split('\n')) assert.ok(JSON.parse(line).type, line)

  const backups = await listed(host)
  assert.equal(backups.length, 2)
  for (const [index, { job, units }] of jobs.entries()) {
    const entry = backups.find(each => each.job === job)
    const [unit] = units
    assert.ok(entry && unit)
    assert.equal(entry.id, unit.id)
    assert.equal(entry.sizeBytes, unit.sizeBytes)
    assert.equal(entry.source, ['files', 'sqlite'][index])
    assert.equal(entry.kind, ['files', 'logical'][index])
    assert.equal(entry.status, 'complete')
    assert.equal(entry.encrypted, true)
    assert.deepEqual(entry.stores, ['disk'])
    for (const time of [entry.startedAt, entry.finishedAt]) {
      assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d$/)
      assert.ok(Math.abs(Date.parse(time) - started) < 60_000)
    }
  }
  assert.deepEqual(
    (await listed(host, 'shop')).map(({ job }) => job),
    ['shop'],
  )
  const text = await host.ok(['list'])
  assert.equal(text.stderr, '')
  assert.equal(text.out.trim().split('\n').length, 3)
})

test('list without a backup says so on stderr, and prints an empty array as JSON', async () => {
  const { host } = await furnished()
  const text = await host.ok(['list'])
  assert.equal(text.out, '')
  assert.match(text.stderr, /no backup/)
  assert.deepEqual(await listed(host), [])
})

test('results go to stdout and everything else to stderr, without colour in a pipe; --quiet leaves only what went wrong', async () => {
  const { host } = await furnished()
  for (const env of [{}, { NO_COLOR: '1' }, { FORCE_COLOR: undefined, TERM: 'xterm-256color' }]) {
    const ran = await host.ok(['backup', 'shop'], { env })
    assert.equal(ran.out, '')
    assert.match(ran.stderr, /backed up shop/)
    assert.ok(!ran.stderr.includes('\x1b') && !ran.stderr.includes('\r'))
  }
  const quiet = await host.ok(['backup', 'shop', '--quiet'])
  assert.equal(quiet.out + quiet.stderr, '')
  const restored = await host.ok(['restore', 'latest', '--to', host.path('back.db'), '--quiet'])
  assert.equal(restored.stderr, '')
  const bad = await host.run(['restore', 'nothing', '--quiet'])
  assert.match(bad.stderr, /^cairn: error: /)
  for (const command of [['list'], ['show', 'latest'], ['verify', 'latest'], ['prune', '--dry-run']]) {
    const ran = await host.ok(command)
    assert.equal(ran.stderr, '', command.join(' '))
    assert.ok(!ran.out.includes('\x1b'), command.join(' '))
  }
})

test('on a terminal there is a live line, in colour; NO_COLOR and --quiet take both away', async t => {
  if (!existsSync('/usr/bin/script')) return t.skip('script(1) is not installed')
  const { host } = await furnished()
  const onTerminal = (args: string, env: Record<string, string>): string =>
    execFileSync(
      'script',
      ['-qec', `${process.cwd()}/bin/cairn ${args} --config ${host.config}`, '/dev/null'],
      {
        env: {
          PATH: process.env.PATH,
          HOME: host.path('home'),
          CAIRN_STATE: host.state,
          TERM: 'xterm',
          ...env,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    ).toString()
  const green = '\u{1b}[32m'
  assert.ok(onTerminal('backup shop', {}).includes(green))
  const plain = onTerminal('backup shop', { NO_COLOR: '1' })
  assert.ok(!plain.includes('\u{1b}'), plain)
  assert.match(plain, /backed up shop/)
  assert.equal(onTerminal('backup shop --quiet', {}).trim(), '')
})

test('the one-liners that show prints give the plain bytes back, with public tools alone', async () => {
  const { host, database, files } = await furnished()
  await host.ok(['backup'])
  for (const handle of ['shop@latest', 'wiki@latest']) {
    const shown = (await host.ok(['show', handle, '--json'])).json<{ commands: Record<string, string> }>()
    const text = await host.ok(['show', handle])
    const folder = host.path(handle)
    mkdirSync(folder)
    for (const [artifact, command] of Object.entries(shown.commands)) {
      assert.ok(text.out.includes(command))
      execFileSync('sh', ['-c', command], { cwd: folder })
      const file = artifact.split('/').at(-1) ?? ''
      const { stdout } = await host.ok(['cat', handle, artifact])
      assert.ok(readFileSync(`${folder}/${file}`).equals(stdout), artifact)
      if (file === 'shop.db') assert.deepEqual(rowsOf(`${folder}/${file}`), rowsOf(database))
      if (file === 'wiki.tar') {
        execFileSync('tar', ['-xf', file, '--one-top-level=out'], { cwd: folder })
        assert.deepEqual(tree(`${folder}/out`), tree(files))
      }
      if (file === 'census.json') assert.equal(JSON.parse(stdout.toString()).cairn, 1)
    }
  }
})

test('cat of an artifact that a backup has not, names those it has', async () => {
  const { host } = await furnished()
  await host.ok(['backup', 'shop'])
  const ran = await host.run(['cat', 'latest', 'nothing'])
  assert.equal(ran.code, 2)
  assert.match(ran.stderr, /shop\.db/)
  assert.equal(ran.out, '')
})

test('a reader that closes the pipe early ends cat without a word about internals', async () => {
  const { host } = await furnished()
  await host.ok(['backup', 'wiki'])
  const command = `"$0" cat latest files/wiki.tar --config "$1" | head -c 10 | wc -c`
  const env = { PATH: process.env.PATH, CAIRN_STATE: host.state, HOME: host.path('home') }
  const cairn = `${import.meta.dirname}/../../bin/cairn`
  const ran = execFileSync('sh', ['-c', `(${command}) 2>&1`, cairn, host.config], { env }).toString()
  assert.doesNotMatch(ran, /internal error|at .*node:/)
})

test('copy gives a second store the same objects and the same manifest, and again nothing', async () => {
  const { host } = await furnished()
  await host.ok(['backup', 'shop'])
  const copied = await host.ok(['copy', 'latest', '--to', 'other'])
  assert.match(copied.out, /copied/)
  const isOurs = (path: string): boolean => /^shop\/|manifests/.test(path)
  const part = (name: string) => [...tree(host.path(name))].filter(([path]) => isOurs(path))
  assert.deepEqual(part('other'), part('disk'))
  assert.deepEqual((await listed(host))[0]?.stores, ['disk', 'other'])
  assert.match((await host.ok(['copy', 'latest', '--to', 'other'])).out, /already/)
  assert.deepEqual(leftovers(filesIn(host.path('other'))), [])
  const { copies } = (await host.ok(['verify', '--json'])).json<{
    copies: { store: string; sound: boolean }[]
  }>()
  assert.deepEqual(
    copies.map(({ store, sound }) => [store, sound]),
    [
      ['disk', true],
      ['other', true],
    ],
  )
})

test('restore brings everything back into what is empty, and asks before it replaces', async () => {
  const { host, files, database } = await furnished()
  await host.ok(['backup'])
  const target = host.path('back')

  const dry = await host.ok(['restore', 'wiki@latest', '--to', target, '--dry-run'])
  assert.match(dry.out, /wiki\.tar/)
  assert.ok(!existsSync(target))
  await host.ok(['restore', 'wiki@latest', '--to', target])
  assert.deepEqual(tree(`${target}/wiki`), tree(files))
  // A URL is no path: the password would become the name of a folder.
  for (const backup of ['wiki@latest', 'shop@latest']) {
    const ran = await host.run(['restore', backup, '--to', 'postgresql://me:secret@db/shop'])
    assert.equal(ran.code, 2)
    assert.doesNotMatch(ran.stderr, /secret/)
    assert.ok(!existsSync(host.path('postgresql:')))
  }

  writeFileSync(`${target}/wiki/file-0`, 'changed')
  writeFileSync(`${target}/wiki/mine`, 'mine')
  const before = tree(target)
  const refused = await host.run(['restore', 'wiki@latest', '--to', target])
  assert.equal(refused.code, 2)
  assert.match(refused.stderr, /--yes/)
  assert.deepEqual(tree(target), before)
  await host.ok(['restore', 'wiki@latest', '--to', target, '--yes'])
  assert.deepEqual(tree(`${target}/wiki`), new Map([...tree(files), ['mine', before.get('wiki/mine') ?? '']]))

  await host.ok(['restore', 'shop@latest', '--to', host.path('new.db')])
  assert.deepEqual(rowsOf(host.path('new.db')), rowsOf(database))
  {
    using db = new DatabaseSync(database)
    db.exec('DELETE FROM item')
  }
  const full = rowsOf(host.path('new.db'))
  assert.equal((await host.run(['restore', 'shop@latest'])).code, 2)
  assert.equal(rowsOf(database).length, 0)
  await host.ok(['restore', 'shop@latest', '--yes'])
  assert.deepEqual(rowsOf(database), full)
})

test('restore --json --dry-run prints a plan and touches nothing', async () => {
  const { host } = await furnished()
  await host.ok(['backup', 'shop'])
  const ran = await host.ok(['restore', 'latest', '--to', host.path('x.db'), '--dry-run', '--json'])
  const plan = ran.json<{ dryRun: boolean; replaces: string[]; steps: string[] }>()
  assert.equal(plan.dryRun, true)
  assert.deepEqual(plan.replaces, [])
  assert.ok(!existsSync(host.path('x.db')))
})

test('a held backup outlives retention; a pruned one is first marked, can be taken back, and then goes for good', async () => {
  const { host } = await furnished({})
  const config = JSON.parse(readFileSync(host.config, 'utf8'))
  config.defaults = { to: ['disk'], keep: { last: 1 }, undelete: '1 h' }
  host.configure(config)
  for (let count = 0; count < 4; count++) await host.ok(['backup', 'shop'])
  const ids = (await listed(host)).map(({ id }) => id)
  const [newest = '', third = '', second = '', first = ''] = ids
  await host.ok(['hold', first])
  assert.match((await host.ok(['show', first])).out, /held/)

  const steps = async (...args: string[]) => {
    const ran = await host.ok(['prune', 'shop', '--json', ...args])
    const found = ran.json<{ steps: { id: string; action: string; reason: string }[] }>().steps
    for (const step of found) assert.notEqual(step.reason, '')
    return Object.fromEntries(found.map(({ id, action }) => [id, action]))
  }
  const planned = { [newest]: 'keep', [third]: 'mark', [second]: 'mark', [first]: 'keep' }
  const before = tree(host.path('disk'))
  assert.deepEqual(await steps('--dry-run'), planned)
  assert.deepEqual(tree(host.path('disk')), before)
  assert.deepEqual(await steps(), planned)
  assert.deepEqual(
    (await listed(host)).map(({ id }) => id),
    [newest, first],
  )
  assert.deepEqual(
    (await listed(host, '--deleted')).map(({ id }) => id),
    ids,
  )

  await host.ok(['undelete', third])
  assert.deepEqual(
    (await listed(host)).map(({ id }) => id),
    [newest, third, first],
  )
  await host.ok(['verify', third])
  await host.ok(['hold', third])

  // Announced once more, for a time that is soon over: the mark says for how long.
  await host.ok(['undelete', second])
  config.defaults.undelete = '1 s'
  host.configure(config)
  assert.equal((await steps())[second], 'mark')
  await new Promise(resolve => setTimeout(resolve, 1_100))
  assert.equal((await host.run(['undelete', second])).code, 2)
  assert.equal((await steps())[second], 'delete')
  assert.deepEqual(
    (await listed(host, '--deleted')).map(({ id }) => id),
    [newest, third, first],
  )
  assert.deepEqual(
    filesIn(host.path('disk')).filter(path => path.includes(second)),
    [],
  )
  await host.ok(['release', third])
  await host.ok(['release', first])
  assert.deepEqual(await steps(), { [newest]: 'keep', [third]: 'mark', [first]: 'mark' })
  await host.ok(['verify'])
})

test('config show masks secrets, and config schema accepts the sample and says what is wrong', async () => {
  const host = machine()
  host.configure({
    stores: {
      offsite: {
        type: 's3',
        bucket: 'acme',
        accessKeyId: 'AKIASECRETKEYID',
        secretAccessKey: { value: 'topsecretvalue' },
      },
      drive: {
        type: 'rclone',
        remote: 'nas:backups',
        options: { type: 'sftp', pass: 'obscuredpassword', host: { env: 'NAS_HOST' } },
      },
      string: { type: 'rclone', remote: ':webdav,user=a,pass=obscuredinastring:x' },
    },
    encryption: { age: { recipients: [], identity: 'AGE-SECRET-KEY-1VERYSECRET' } },
    jobs: {
      shop: {
        source: { type: 'postgres', url: 'postgresql://me:pgpassword@db.example/shop' },
        to: ['offsite', { store: 'drive', after: 'offsite' }],
        keep: { last: 3, within: '30 days' },
      },
    },
  })
  for (const args of [
    ['config', 'show'],
    ['config', 'show', '--json'],
  ]) {
    const { out } = await host.ok(args)
    for (const secret of [
      'AKIASECRETKEYID',
      'topsecretvalue',
      'obscuredpassword',
      'VERYSECRET',
      'pgpassword',
      'obscuredinastring',
    ])
      assert.ok(!out.includes(secret), `${secret} in ${out}`)
    assert.match(out, /NAS_HOST/)
    assert.match(out, /\*\*\*/)
  }
  const schema = (await host.ok(['config', 'schema'])).json<z.core.JSONSchema.JSONSchema>()
  const check = z.fromJSONSchema(schema)
  const sample = JSON.parse(readFileSync(host.config, 'utf8'))
  check.parse(sample)
  sample.jobs.shop.source.typo = 1
  assert.equal(check.safeParse(sample).success, false)
})

test('config show prints a configuration that Cairn reads again', async () => {
  const { host } = await furnished({
    defaults: {
      to: ['disk'],
      keep: { last: 2, within: '30 days' },
      stall: '5 min',
      hooks: {
        before: ['true', ['true']],
        after: [{ run: 'true', env: { A: { env: 'B' } }, timeout: '2 min' }],
      },
    },
  })
  const { out } = await host.ok(['config', 'show'])
  host.configure(out)
  assert.equal((await host.ok(['config', 'show'])).out, out)
})

test('doctor tries all a backup needs, leaves nothing, and says what to do where it fails', async () => {
  const { host, database } = await furnished()
  const good = await host.ok(['doctor', '--json'])
  const { ok, checks } = good.json<{ ok: boolean; checks: { what: string; ok: boolean }[] }>()
  assert.equal(ok, true)
  assert.ok(checks.length > 6)
  assert.deepEqual(filesIn(host.path('disk')), [])

  const config = JSON.parse(readFileSync(host.config, 'utf8'))
  config.jobs.wiki.webhooks = { failure: 'http://127.0.0.1:1/hush', start: { env: 'START' } }
  host.configure(config)
  // Somebody who is away now may be back when there is something to tell.
  const away = await host.ok(['doctor', 'wiki'], { env: { START: 'http://127.0.0.1:1/hush' } })
  assert.match(
    away.out,
    /warn {2}webhooks of wiki: http:\/\/127\.0\.0\.1:1: 127\.0\.0\.1:1 refuses the connection\n/,
  )
  const wrong = await host.run(['doctor', 'wiki'], { env: { START: 'hush' } })
  assert.equal(wrong.code, 1)
  assert.match(wrong.out, /FAIL {2}webhooks of wiki: .*not a URL/)
  assert.doesNotMatch(away.out + wrong.out, /hush/)
  delete config.jobs.wiki.webhooks

  writeFileSync(database, 'not a database')
  writeFileSync(host.path('disk-file'), '')
  config.stores.disk.path = host.path('disk-file')
  host.configure(config)
  const bad = await host.run(['doctor'])
  assert.equal(bad.code, 1)
  assert.match(bad.out, /FAIL {2}source of shop: .*not a SQLite database/)
  assert.match(bad.out, /FAIL {2}store disk: reachable: .*not a folder/)
  assert.match(bad.out, /ok {4}source of wiki/)
  assert.match(bad.out, /2 of \d+ checks failed\. What to do/)
  config.jobs.wiki.hooks = { before: [['/no/such/program']], after: ['anything that sh understands'] }
  host.configure(config)
  const hooked = await host.run(['doctor', 'wiki'])
  assert.match(hooked.out, /FAIL {2}hook \/no\/such\/program of wiki: .*\n.*chmod \+x/)
  assert.equal((await host.run(['doctor', 'wiki'])).code, 1)
})

test('an empty machine lists, shows, verifies and restores with the store and the key alone', async () => {
  const { host, files, database, key } = await furnished()
  await host.ok(['backup'])
  const empty = machine()
  const store = ['--store', host.path('disk')]
  assert.equal((await listed(empty, ...store)).length, 2)
  assert.match((await empty.ok(['show', 'shop@latest', ...store, '--identity', key])).out, /shop\.db/)
  const verified = await empty.ok(['verify', ...store, '--identity', key])
  assert.equal(verified.out.match(/every byte read and decoded/g)?.length, 2)
  const undecoded = await empty.ok(['verify', ...store])
  assert.equal(undecoded.out.match(/no key at hand/g)?.length, 2)
  const target = empty.path('back')
  await empty.ok(['restore', 'wiki@latest', '--to', target, ...store, '--identity', key])
  assert.deepEqual(tree(`${target}/wiki`), tree(files))
  await empty.ok(['restore', 'shop@latest', '--to', target, ...store, '--identity', key])
  assert.deepEqual(rowsOf(`${target}/shop.db`), rowsOf(database))
  const keyless = await empty.run(['restore', 'wiki@latest', '--to', empty.path('other'), ...store])
  assert.equal(keyless.code, 12)
  assert.ok(!existsSync(empty.path('other')))
})

test('a backup is found by id, by a beginning of it, as latest and as JOB@latest, and not otherwise', async () => {
  const { host } = await furnished()
  await host.ok(['backup', 'shop'])
  await host.ok(['backup', 'wiki'])
  const [wiki, shop] = await listed(host)
  assert.ok(wiki && shop)
  const idOf = async (handle: string) => (await host.ok(['show', handle, '--json'])).json<{ id: string }>().id
  assert.equal(await idOf(shop.id), shop.id)
  assert.equal(await idOf(shop.id.slice(0, -1)), shop.id)
  assert.equal(await idOf('latest'), wiki.id)
  assert.equal(await idOf('shop@latest'), shop.id)

  // Of the century: the day and the year may have changed between them.
  const ambiguous = await host.run(['show', shop.id.slice(0, 2)])
  assert.equal(ambiguous.code, 2)
  for (const { id } of [wiki, shop]) assert.ok(ambiguous.stderr.includes(id))
  for (const handle of ['20990101T000000Z-aaaaaaaa', 'nonsense', 'nothing@latest', `${shop.id}x`]) {
    for (const command of [
      ['show', handle],
      ['restore', handle, '--to', host.path('x')],
      ['verify', handle],
      ['hold', handle],
    ]) {
      const ran = await host.run(command)
      assert.equal(ran.code, 10, `${command.join(' ')}: ${ran.stderr}`)
      assert.match(ran.stderr, /^cairn: error: no such backup: .*\n {2}hint: /)
      assert.equal(ran.out, '')
    }
  }
  const mistyped = await machine().run(['show', 'latest', '--store', '/no/such/folder'])
  assert.equal(mistyped.code, 2)
  assert.match(mistyped.stderr, /there is no store at \/no\/such\/folder/)
})

test('help and version are results and exit with 0', async () => {
  const host = machine()
  assert.match((await host.ok(['--version'])).out, /^cairn \d+\.\d+\.\d+\n$/)
  for (const args of [['--help'], ['help'], ['help', 'backup'], ['restore', '--help']]) {
    const { out, stderr } = await host.ok(args)
    assert.match(out, /Usage: cairn/)
    assert.equal(stderr, '')
  }
})
