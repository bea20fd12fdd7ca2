import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { open, writeFile } from 'node:fs/promises'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  allGone,
  filesIn,
  leftovers,
  listed,
  type Machine,
  machine,
  privateFiles,
  type Ran,
  type Running,
  randomFiles,
} from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../support/free-port.ts'
import { webhookServer } from '../support/webhook-server.ts'

/** A host with one job of files, `wiki`, that can say more; and what it says besides. */
function scheduled(job: object, more: object = {}): Machine {
  const host = machine()
  const files = randomFiles(host.path('wiki'), 10_000)
  configure(host, { source: { type: 'files', paths: [files] }, ...job }, more)
  return host
}

function configure(host: Machine, job: object, more: object = {}): void {
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    ...more,
    jobs: { wiki: { to: ['disk'], ...job } },
  })
}

async function stop(running: Running, signal: NodeJS.Signals = 'SIGTERM'): Promise<Ran> {
  running.child.kill(signal)
  return await running.ended
}

interface Run {
  readonly id: string
  readonly exit: number | null
  readonly trigger: string
  readonly prune: string | null
  readonly failures: { readonly what: string; readonly why: string }[]
  readonly backups: { readonly id: string; readonly stores: string[] }[]
}

async function runsOf(host: Machine): Promise<Run[]> {
  return (await host.ok(['runs', 'wiki', '--json'])).json<Run[]>()
}

interface Health {
  readonly ok: boolean
  readonly jobs: {
    readonly wiki: {
      readonly lastRun: { readonly exit: number | null } | null
      readonly lastGood: Record<string, string | null>
      readonly nextRun: string | null
      readonly alarm: string[]
      readonly overdue: string[]
    }
  }
}

async function healthAt(port: number): Promise<{ status: number; health: Health }> {
  const response = await fetch(`http://127.0.0.1:${port}/health`)
  return { status: response.status, health: (await response.json()) as Health }
}

/** `cairn serve`, which ends with the test at the latest. */
function serving(
  t: TestContext,
  host: Machine,
  env: Record<string, string> = {},
  ...args: string[]
): Running {
  const running = host.start(['serve', ...args], { env })
  t.after(() => running.child.kill('SIGKILL'))
  return running
}

test('serve runs a job by its schedule, tells how each run began and ended, and goes on after one that failed', async t => {
  await using server = await webhookServer()
  const token = 'tok-6f1d2b'
  const host = machine()
  // The second run fails, and what it prints on the way holds a secret.
  const count = `n=$(cat ${host.path('n')} 2>/dev/null || echo 0); echo $((n + 1)) > ${host.path('n')}`
  // The fourth one gets no further, so that all there is comes from the three before.
  const hook = `${count}; [ "$n" != 1 ] || { echo "refused: $TOKEN"; exit 3; }; [ "$n" -lt 3 ] || exec sleep 600`
  configure(host, {
    source: { type: 'files', paths: [randomFiles(host.path('wiki'), 10_000)] },
    schedule: '* * * * * *',
    keep: { last: 1 },
    webhooks: { healthchecks: { env: 'PING' }, log: true },
    hooks: { before: [{ run: hook, env: { TOKEN: { env: 'TOKEN' } } }] },
  })
  const env = { TOKEN: token, PING: `${server.origin}/ping` }
  const running = serving(t, host, env, '--json')
  await server.called('start', 4)
  const ran = await stop(running)
  assert.equal(ran.code, 143, ran.stderr)
  assert.deepEqual(server.words().slice(0, 7), ['start', 'ping', 'start', 'fail', 'start', 'ping', 'start'])
  const [, good, , bad] = server.calls
  assert.match(good?.body ?? '', /backed up files: \d{8}T/)
  assert.match(bad?.body ?? '', /error: the before hook of wiki failed: .*refused: \*\*\*/s)
  const all = server.calls.map(({ body }) => body).join() + readAll(host.path('state', 'runs'))
  assert.doesNotMatch(all, new RegExp(`${token}|${server.origin}`))
  for (const line of ran.stderr.trim().split('\n')) JSON.parse(line)
  const runs = (await runsOf(host)).toReversed()
  assert.deepEqual(
    runs.slice(0, 3).map(({ exit, trigger, prune }) => [exit, trigger, prune]),
    [
      [0, 'schedule', 'done'],
      [1, 'schedule', null],
      [0, 'schedule', 'done'],
    ],
  )
  // Retention was applied: of the backups, one is not on its way out.
  assert.equal((await listed(host)).length, 1)
  const log = await host.ok(['runs', runs[1]?.id ?? ''])
  assert.match(log.out, /^wiki, schedule, exit 1\n.*\n?.*refused: \*\*\*/)
})

function readAll(folder: string): string {
  return readdirSync(folder)
    .map(name => readFileSync(`${folder}/${name}`, 'utf8'))
    .join()
}

test('SIGTERM during a run ends it: nothing is left, the failure is told, and the next start makes up for it', async t => {
  await using server = await webhookServer()
  const webhooks = { healthchecks: `${server.origin}/ping` }
  const host = machine()
  const source = { type: 'files', paths: [randomFiles(host.path('wiki'), 10_000)] }
  const schedule = '* * * * * *'
  configure(host, { source, schedule, webhooks, hooks: { before: ['exec sleep 600'] } })
  const running = serving(t, host)
  await running.said(/wiki: begins/)
  await server.called('start')
  // The lock is the one of `cairn backup`, and there is one scheduler for a state folder.
  const [other, second] = await Promise.all([host.run(['backup']), host.run(['serve'])])
  assert.equal(other.code, 11, other.stderr)
  assert.equal(second.code, 11, second.stderr)
  const before = server.calls.length
  const stopped = performance.now()
  const ran = await stop(running)
  assert.equal(ran.code, 143, ran.stderr)
  // Not when its hook is over, which takes ten minutes.
  assert.ok(performance.now() - stopped < 60_000)
  await allGone(host)
  assert.deepEqual(privateFiles(host), [])
  assert.deepEqual(leftovers(filesIn(host.path('disk'))), [])
  assert.deepEqual(server.words().slice(before), ['fail'])
  assert.deepEqual((await runsOf(host)).map(({ exit }) => exit).sort(), [11, 143])
  // Once a year: what runs now was missed.
  const missed = JSON.parse(readFileSync(host.path('state', 'jobs', 'wiki.json'), 'utf8'))
  assert.ok(Date.parse(missed.planned) < Date.now())
  configure(host, { source, schedule, webhooks })
  const again = serving(t, host)
  await again.said(/warning: wiki missed/)
  await again.said(/wiki: begins, late[\s\S]*backed up wiki/)
  await stop(again)
  const triggers = (await runsOf(host)).map(({ trigger }) => trigger)
  assert.ok(triggers.includes('missed'), triggers.join())
})

test('the alarm fires once, also over a restart; health and status tell of it; its end is said', async t => {
  await using server = await webhookServer()
  const host = machine()
  const folder = host.path('wiki')
  const port = await freePort()
  const job = {
    source: { type: 'files', paths: [folder] },
    schedule: '0 0 1 1 *',
    expect: 'every 1h',
    webhooks: { alarm: `${server.origin}/alarm`, over: `${server.origin}/over` },
  }
  configure(host, job, { serve: { listen: `127.0.0.1:${port}` } })
  const first = serving(t, host)
  await first.said(/health: http/)
  const { status, health } = await healthAt(port)
  assert.equal(status, 200)
  assert.equal(health.ok, true)
  const hurried = { ...job, expect: 'every 2s' }
  configure(host, hurried, { serve: { listen: `127.0.0.1:${port}` } })
  first.child.kill('SIGHUP')
  await server.called('alarm')
  await eventually('health tells of it', async () => (await healthAt(port)).status === 503)
  const red = await healthAt(port)
  assert.deepEqual(red.health.jobs.wiki.alarm, ['disk'])
  assert.deepEqual(red.health.jobs.wiki.overdue, ['in disk'])
  assert.equal(red.health.jobs.wiki.lastGood.disk, null)
  assert.match(red.health.jobs.wiki.nextRun ?? '', /-01-01T/)
  await stop(first, 'SIGKILL')

  const overdue = await host.run(['status', '--json'])
  assert.equal(overdue.code, 1, overdue.stderr)
  assert.match(overdue.stderr, /wiki is overdue: nothing good has ever arrived in disk/)
  assert.equal(overdue.json<{ stores: { overdue: boolean }[] }>().stores[0]?.overdue, true)

  const second = serving(t, host)
  await second.said(/health:/)
  await sleep(2_500)
  assert.deepEqual(server.words(), ['alarm'])
  // Somebody else puts it right; the daemon finds out from the store, when one of its looks meets a backup of the last 2 s.
  randomFiles(folder, 10_000)
  configure(host, { ...job, webhooks: undefined })
  const isOver = server.called('over').then(() => true)
  do await host.ok(['backup'])
  while (!(await Promise.race([isOver, sleep(200, false)])))
  await host.ok(['status'])
  await eventually('health tells of it', async () => {
    const { lastGood } = (await healthAt(port)).health.jobs.wiki
    return typeof lastGood.disk === 'string'
  })
  assert.equal((await stop(second)).code, 143)
})

test('a retry is one run: one start, one end, and a log that tells of both attempts', async () => {
  await using server = await webhookServer()
  const host = machine()
  const flag = host.path('flag')
  const hook = `[ -e ${flag} ] || { touch ${flag}; echo not yet; exit 1; }`
  configure(host, {
    source: { type: 'files', paths: [randomFiles(host.path('wiki'), 10_000)] },
    retry: { times: 2, after: '1s' },
    webhooks: { healthchecks: `${server.origin}/ping` },
    hooks: { before: [hook] },
  })
  // No schedule: `run` is one run.
  const ran = await host.ok(['run'])
  assert.match(ran.stderr, /attempt 1 of 3 failed \(exit 1\); the next one is in 1\.0 s/)
  assert.deepEqual(server.words(), ['start', 'ping'])
  const [run, ...others] = await runsOf(host)
  assert.deepEqual([run?.exit, run?.trigger, run?.prune, others.length], [0, 'once', 'done', 0])
  assert.match(
    (await host.ok(['runs', run?.id ?? ''])).out,
    /not yet[\s\S]*attempt 1 of 3[\s\S]*backed up files/,
  )
  // `backup` is for a person who waits: it tries once.
  rmSync(flag)
  assert.equal((await host.run(['backup'])).code, 1)
})

test('an attempt that would come after the next run is not waited for', async t => {
  const retry = { times: 3, after: '1h' }
  const host = scheduled({ schedule: '* * * * * *', retry, hooks: { before: ['exit 1'] } })
  const running = serving(t, host)
  await running.said(/the next run comes before the next attempt[\s\S]*failed \(exit 1\)[\s\S]*wiki: begins/)
  assert.equal((await stop(running)).code, 143)
})

test('run gives the exit code of its jobs, passes commands on, and refuses what it does not know', async () => {
  const host = scheduled({})
  await host.ok(['run'])
  assert.equal((await host.ok(['run', 'list', '--json'])).json<unknown[]>().length, 1)
  const unknown = await host.run(['run', '--', 'lst'])
  assert.equal(unknown.code, 2)
  assert.match(unknown.stderr, /"lst" means nothing here/)
  configure(host, { source: { type: 'sqlite', path: host.path('none.db') } })
  assert.notEqual((await host.run(['run'])).code, 0)
  // Something to do is asked for by `serve`.
  const nothing = await host.run(['serve'])
  assert.equal(nothing.code, 2)
  assert.match(nothing.stderr, /no job has a schedule/)
})

test('a broken webhook never fails a backup: it is reported, and shown by its origin only', async () => {
  await using server = await webhookServer((_call, response) => response.writeHead(404).end())
  const host = scheduled({ webhooks: { success: `${server.origin}/secret-token`, start: 'no url' } })
  const ran = await host.ok(['backup'])
  assert.match(
    ran.stderr,
    new RegExp(`warning: the success webhook was not delivered \\(${server.origin}\\)`),
  )
  assert.match(ran.stderr, /warning: the start webhook was not delivered: .* not a URL/)
  assert.doesNotMatch(ran.stderr + readAll(host.path('state', 'runs')), /secret-token/)
  assert.equal((await listed(host)).length, 1)
})

test('a run does not wait for a webhook that is slow to answer its start, but its end waits for the last one', async () => {
  let ended = 0
  await using server = await webhookServer(({ path }, response) => {
    setTimeout(
      () => {
        if (path.endsWith('ping')) ended = Date.now()
        response.end()
      },
      path.endsWith('start') ? 10 : 1_500,
    )
  })
  const host = scheduled({ webhooks: { healthchecks: `${server.origin}/ping` } })
  await host.ok(['backup'])
  assert.ok(ended > 0, 'the process ended before the webhook was answered')
})

test('pruning that fails is a warning of its own, and the backup is good', async () => {
  const host = scheduled({ keep: { last: 1 } })
  await host.ok(['run'])
  // A manifest that cannot be read keeps everything.
  const [manifest = ''] = filesIn(host.path('disk')).filter(path => path.includes('manifests/'))
  writeFileSync(host.path('disk', manifest), '{}')
  const ran = await host.ok(['run'])
  assert.match(ran.stderr, /warning: nothing of wiki in disk is deleted/)
  const [run] = await runsOf(host)
  assert.deepEqual([run?.exit, run?.prune], [0, 'failed'])
})

test('an address that is taken, or is none, is refused before anything runs', async () => {
  const host = scheduled({ schedule: '* * * * * *' })
  await using server = await webhookServer()
  const taken = await host.run(['serve', '--listen', server.origin.slice('http://'.length)])
  assert.equal(taken.code, 2)
  assert.match(taken.stderr, /cannot listen on .*another program listens there/)
  assert.equal((await host.run(['serve', '--listen', 'nowhere'])).code, 2)
  assert.equal(existsSync(host.path('disk')), false)
})

test('status goes by the runs of this host where a store cannot be listed, and says so', async () => {
  const host = scheduled({ expect: 'every 1h' })
  assert.equal((await host.run(['status'])).code, 1)
  await host.ok(['backup'])
  rmSync(host.path('disk'), { recursive: true })
  symlinkSync('disk', host.path('disk'))
  const ran = await host.ok(['status'])
  assert.match(ran.stderr, /warning: store disk was not asked about wiki: .*\n.*runs of this host/)
})

test('SIGHUP has the configuration read again: a broken one changes nothing, and what runs is not disturbed', async t => {
  const host = machine()
  const port = await freePort()
  const source = { type: 'files', paths: [randomFiles(host.path('wiki'), 10_000)] }
  const put = (jobs: object, at = port): void =>
    host.configure({
      stores: { disk: { type: 'local', path: host.path('disk') } },
      serve: { listen: `127.0.0.1:${at}` },
      defaults: { to: ['disk'] },
      jobs,
    })
  const waits = `until [ -e ${host.path('go')} ]; do sleep 0.05; done`
  const slow = { source, schedule: '* * * * * *', hooks: { before: [waits] } }
  put({ slow })
  const running = serving(t, host)
  await running.said(/slow: begins/)

  host.configure('jobs: { slow: { sorce: x } }')
  running.child.kill('SIGHUP')
  await running.said(/error: the configuration stays as it was: .*cairn\.yaml[\s\S]*did you mean "source"/)

  const yearly = { source, schedule: '0 0 1 1 *' }
  put({ slow: yearly, fresh: { source, schedule: '* * * * * *' } })
  running.child.kill('SIGHUP')
  await running.said(/the configuration was read again: slow, fresh/)
  await running.said(/fresh: begins[\s\S]*backed up fresh/)
  writeFileSync(host.path('go'), '')
  await running.said(/backed up slow[\s\S]*slow: done[\s\S]*slow: next run \d{4}-01-01T/)

  put({ slow: yearly }, port + 1)
  running.child.kill('SIGHUP')
  await running.said(/read again: slow\n.*another "serve.listen" holds from the next start on/)
  rmSync(host.config)
  running.child.kill('SIGHUP')
  await running.said(/read again: slow\n[\s\S]*the configuration stays as it was: there is nothing to do/)
  const watched = async () => Object.keys((await healthAt(port)).health.jobs).join()
  await eventually('fresh is forgotten', async () => (await watched()) === 'slow')
  const ran = await stop(running)
  assert.equal(ran.code, 143, ran.stderr)
  assert.equal(ran.stderr.match(/slow: begins/g)?.length, 1, ran.stderr)
})

test('SIGHUP that comes while serve is still starting waits until there is something to read again', async t => {
  const host = machine()
  const source = { type: 'files', paths: [randomFiles(host.path('wiki'), 10_000)] }
  const stores = { disk: { type: 'local', path: host.path('disk') } }
  const config = JSON.stringify({ stores, jobs: { wiki: { source, to: ['disk'], schedule: '0 0 1 1 *' } } })
  const pipe = host.path('pipe')
  execFileSync('mkfifo', [pipe])
  const running = serving(t, host, {}, '--config', pipe)
  // Opened by both: now the configuration is being read.
  const first = await open(pipe, 'w')
  running.child.kill('SIGHUP')
  await first.writeFile(config)
  await first.close()
  // As long as it reads, it would read what follows, too.
  await eventually('the configuration was read to its end', () => !hasOpen(running, pipe))
  await writeFile(pipe, config)
  await running.said(/the configuration was read again: wiki/)
  const ran = await stop(running)
  assert.equal(ran.code, 143, ran.stderr)
})

function hasOpen({ child }: Running, path: string): boolean {
  const folder = `/proc/${child.pid}/fd`
  const at = (fd: string): string => {
    try {
      return readlinkSync(`${folder}/${fd}`)
    } catch {
      return ''
    }
  }
  return readdirSync(folder).some(fd => at(fd) === path)
}
