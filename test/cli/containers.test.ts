// budget: 240 s
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DockerFacts } from '../services/facts.ts'
import { orSkip, service } from '../services/index.ts'
import { filesIn, listed, type Machine, machine } from '../support/cli.ts'
import { type Engine, engineOf, polite, stubborn } from '../support/containers.ts'
import { eventually } from '../support/eventually.ts'

/** A host with a folder that an app writes into, a store, and an engine without a network for the containers. */
interface Stage {
  readonly host: Machine
  readonly engine: Engine
  readonly facts: DockerFacts
  /** `docker run -d` of a line of the shell with that folder as /data; returns the name. */
  app(line: string, ...args: string[]): Promise<string>
  configure(containers: object, more?: object): void
}

async function stage(t: TestContext): Promise<Stage | undefined> {
  const facts = await orSkip(t, service('docker-alone'))
  if (!facts) return undefined
  const engine = engineOf(facts)
  const host = machine()
  mkdirSync(host.path('data'))
  writeFileSync(host.path('data/file'), 'content')
  return {
    ...{ host, engine, facts },
    async app(line, ...args) {
      const name = `app-${randomBytes(4).toString('hex')}`
      const mount = ['-v', `${host.path('data')}:/data`]
      const rest = ['--network', 'none', ...mount, ...args, facts.debian, 'sh', '-c', line]
      await engine.docker('run', '-d', '--name', name, ...rest)
      t.after(() => engine.docker('rm', '-f', name).catch(() => {}))
      return name
    },
    configure(containers, more = {}) {
      const source = { type: 'files', paths: [host.path('data')] }
      host.configure({
        stores: { disk: { type: 'local', path: host.path('store') } },
        defaults: { to: ['disk'] },
        jobs: {
          shop: { source, containers: { wait: '0s', host: facts.host, ...containers }, ...more },
          twin: { source, containers: { host: facts.host, ...containers, wait: '0s' } },
          yearly: { source, schedule: '0 0 1 1 *' },
          other: { source: { type: 'files', paths: [host.path('cairn.yaml')] } },
        },
      })
    },
  }
}

function secondsNow(): string {
  return String(Date.now() / 1000)
}

/** `die NAME` */
const eventFormat = '{{.Action}} {{index .Actor.Attributes "name"}}'

/** What Docker tells of its containers from a moment to now, a line each. */
async function eventsSince(engine: Engine, since: string, filters: readonly string[]): Promise<string[]> {
  const said = await engine.docker(
    ...['events', '--since', since, '--until', secondsNow(), ...filters, '--format', eventFormat],
  )
  return said.split('\n').filter(Boolean)
}

async function restored({ host }: Stage, file: string): Promise<string> {
  const to = host.path(`out-${randomBytes(3).toString('hex')}`)
  await host.ok(['restore', 'shop@latest', '--to', to])
  const path = filesIn(to).find(each => each.endsWith(`/${file}`) || each === file)
  return readFileSync(`${to}/${path}`, 'utf8').trim()
}

/** A backup that is killed when it has stopped the app. */
async function killedWhileStopped({ host, engine }: Stage, name: string): Promise<void> {
  const running = host.start(['backup', 'shop'])
  await eventually('it is stopped', async () => (await engine.state(name)) === 'exited')
  running.child.kill('SIGKILL')
  await running.ended
}

test('a compose project: dependents stop first, start last and when the others are healthy, and nothing is stored before', async t => {
  const here = await stage(t)
  if (!here) return
  const { host, engine, facts } = here
  const common = { image: facts.debian, network_mode: 'none', volumes: [`${host.path('data')}:/data`] }
  const command = (line: string) => ['sh', '-c', line.replaceAll('$', '$$$$')]
  const healthcheck = { test: ['CMD', 'test', '-e', '/tmp/ready'], interval: '200ms', retries: 100 }
  const db = `sleep 1; touch /tmp/ready; ${stubborn.replace('""', '"exit 0"')}`
  const project = await engine.compose(host.folder, {
    db: { ...common, command: command(`rm -f /tmp/ready; ${db}`), healthcheck },
    web: { ...common, command: command(polite), depends_on: { db: { condition: 'service_healthy' } } },
    worker: {
      ...common,
      command: command(stubborn.replace('""', '"exit 0"')),
      deploy: { replicas: 2 },
      depends_on: ['web'],
    },
    idle: { ...common, command: command(polite) },
    bystander: { ...common, command: command(stubborn.replace('""', '"exit 0"')) },
  })
  t.after(() => project.do('down', '-t', '0'))
  await project.do('up', '-d', '--wait')
  const up = secondsNow()
  await project.do('stop', '-t', '1', 'idle')
  mkdirSync(host.path('second'))
  writeFileSync(host.path('second/file'), 'second')
  const look = `(${facts.program} ps --format '{{.Names}}'; ls -R ${host.path('store')}) > ${host.path('seen')}`
  here.configure(
    { stop: ['worker', 'web', 'db', 'idle'], project: project.name },
    {
      source: undefined,
      sources: ['data', 'second'].map(name => ({ type: 'files', paths: [host.path(name)] })),
      hooks: { after: [{ run: look, env: { DOCKER_HOST: { env: 'ENGINE' } } }] },
    },
  )
  // It may be told of after it was done.
  const idle = ['-f', 'event=die', '-f', `container=${project.container('idle')}`]
  await eventually('its stop is told', async () => (await eventsSince(engine, up, idle)).length === 1)
  const doctor = await host.ok(['doctor', 'shop'], { env: { ENGINE: facts.host } })
  assert.match(
    doctor.out,
    /containers of shop.*stops \S+-worker-\d, \S+-worker-\d, then \S+-web-1, then \S+-db-1\n/,
  )
  const filters = ['die', 'start', 'health_status'].flatMap(event => ['-f', `event=${event}`])
  using told = engine.events(...filters, '--format', eventFormat)
  const ran = await host.ok(['backup', 'shop'], { env: { ENGINE: facts.host } })
  assert.doesNotMatch(ran.stderr, /warning/)
  await eventually('the last start is told', () => told.lines().length >= 9)
  const events = told.lines().map(each => each.replace(`${project.name}-`, ''))
  const workers = ['worker-1', 'worker-2']
  assert.deepEqual(
    events.slice(0, 2).sort(),
    workers.map(name => `die ${name}`),
  )
  assert.deepEqual(events.slice(2, 7), [
    'die web-1',
    'die db-1',
    'start db-1',
    'health_status: healthy db-1',
    'start web-1',
  ])
  assert.deepEqual(
    events.slice(7).sort(),
    workers.map(name => `start ${name}`),
  )
  assert.equal(await engine.state(project.container('idle')), 'exited')
  // What the hook saw once all had been read: the apps up, and no bytes of either backup.
  const seen = readFileSync(host.path('seen'), 'utf8')
  for (const name of ['db-1', 'web-1', ...workers]) assert.match(seen, new RegExp(`${project.name}-${name}`))
  assert.doesNotMatch(seen, /\.zst|data\b.*\.tar/)
  assert.equal((await listed(host)).length, 2)
})

test('what is read was written by nobody at that moment, and the app runs afterwards', async t => {
  const here = await stage(t)
  if (!here) return
  const name = await here.app(polite)
  here.configure({ stop: [name] })
  await eventually('it runs', () => existsSync(here.host.path('data/state')))
  await here.host.ok(['backup', 'shop'])
  assert.equal(await restored(here, 'state'), 'stopped')
  await eventually('it runs again', () => readFileSync(here.host.path('data/state'), 'utf8') === 'running\n')
})

test('a restore to where the backup came from stops the app too; one to elsewhere does not', async t => {
  const here = await stage(t)
  if (!here) return
  here.configure({})
  await here.host.ok(['backup', 'shop'])
  // Its command is for backups, and would fail.
  const app = await here.app(polite, '--label', 'cairn.exec-before=false')
  here.configure({ stop: [app] })
  const startedAt = (): Promise<string> => here.engine.docker('inspect', '-f', '{{.State.StartedAt}}', app)
  const first = await startedAt()
  await here.host.ok(['restore', 'shop@latest', '--to', here.host.path('elsewhere')])
  assert.equal(await startedAt(), first)
  writeFileSync(here.host.path('data/file'), 'changed')
  await here.host.ok(['restore', 'shop@latest', '--yes'])
  assert.equal(readFileSync(here.host.path('data/file'), 'utf8'), 'content')
  assert.notEqual(await startedAt(), first)
  assert.equal(await here.engine.state(app), 'running')
})

test('a restore with a wrong key stops nothing, of an archive as of one source', async t => {
  const here = await stage(t)
  if (!here) return
  const app = await here.app(polite)
  const startedAt = (): Promise<string> => here.engine.docker('inspect', '-f', '{{.State.StartedAt}}', app)
  const first = await startedAt()
  const source = { type: 'files', paths: [here.host.path('data')] }
  const archive = { type: 'archive', name: 'all', members: [{ name: 'data.tar', source }] }
  const encryption = { gpg: { passphrase: { env: 'KEY' } } }
  const env = { KEY: 'right' }
  for (const [unit, one] of Object.entries({ files: source, all: archive })) {
    // Nothing is stopped by these backups.
    here.configure({}, { source: one, encryption })
    await here.host.ok(['backup', 'shop'], { env })
    here.configure({ stop: [app] }, { source: one, encryption })
    const wrong = await here.host.run(['restore', `shop/${unit}@latest`, '--yes'], { env: { KEY: 'wrong' } })
    assert.equal(wrong.code, 12, wrong.stderr)
    assert.equal(await startedAt(), first)
  }
  writeFileSync(here.host.path('data/file'), 'changed')
  await here.host.ok(['restore', 'shop/all@latest', '--yes'], { env })
  assert.equal(readFileSync(here.host.path('data/file'), 'utf8'), 'content')
  assert.notEqual(await startedAt(), first)
  assert.equal(await here.engine.state(app), 'running')
})

test('after SIGKILL of Cairn the next run of any job starts what it had stopped, once', async t => {
  const here = await stage(t)
  if (!here) return
  const name = await here.app(polite)
  here.configure({ stop: [name], wait: '10 min' })
  await killedWhileStopped(here, name)
  assert.equal(await here.engine.state(name), 'exited')
  const ran = await here.host.ok(['backup', 'other'])
  assert.match(
    ran.stderr,
    new RegExp(`an earlier run did not end.*\\n.*starting what it had stopped: ${name}`),
  )
  assert.equal(await here.engine.state(name), 'running')
  assert.doesNotMatch((await here.host.ok(['backup', 'other'])).stderr, /earlier run/)

  await killedWhileStopped(here, name)
  const serving = here.host.start(['serve'])
  await eventually('it runs', async () => (await here.engine.state(name)) === 'running')
  serving.child.kill('SIGTERM')
  assert.equal((await serving.ended).code, 143)
})

test('one that cannot be started again is tried at every run, each of which fails, until it runs', async t => {
  const here = await stage(t)
  if (!here) return
  const mount = here.host.path('mount')
  mkdirSync(mount)
  const name = await here.app(polite, '--mount', `type=bind,source=${mount},target=/mnt`)
  here.configure({ stop: [name] }, { hooks: { before: [`rm -rf ${mount}`] } })
  const refused = new RegExp(
    `container ${name} cannot be started again: Docker says: .*\\n.*docker start ${name}`,
  )
  for (let n = 0; n < 3; n++) {
    const ran = await here.host.run(['backup', 'shop'])
    assert.deepEqual([ran.code, n], [3, n], ran.stderr)
    assert.match(ran.stderr, refused)
  }
  assert.match((await here.host.run(['backup', 'other'])).stderr, refused)
  assert.equal((await listed(here.host)).length, 4)
  here.configure({ stop: [name] })
  mkdirSync(mount)
  await here.host.ok(['backup', 'shop'])
  assert.equal(await here.engine.state(name), 'running')
  assert.doesNotMatch((await here.host.ok(['backup', 'shop'])).stderr, /earlier run/)
})

test('what a run that was killed had stopped is started by serve as soon as Docker answers, also after its start', async t => {
  const here = await stage(t)
  if (!here) return
  const name = await here.app(polite)
  here.configure({ stop: [name], wait: '10 min' })
  await killedWhileStopped(here, name)
  const socket = here.host.path('late.sock')
  here.configure({ stop: [name], host: `unix://${socket}` })
  const serving = here.host.start(['serve'])
  t.after(() => serving.child.kill('SIGKILL'))
  await serving.said(/cannot reach Docker/)
  symlinkSync(here.facts.host.replace('unix://', ''), socket)
  await eventually('it runs', async () => (await here.engine.state(name)) === 'running')
  serving.child.kill('SIGTERM')
  assert.equal((await serving.ended).code, 143)
})

test('jobs that stop the same app wait for each other: neither starts it while the other reads', async t => {
  const here = await stage(t)
  if (!here) return
  const begin = secondsNow()
  const name = await here.app(polite)
  const filters = ['-f', 'event=die', '-f', 'event=start', '-f', `container=${name}`]
  await eventually(
    'its start is told',
    async () => (await eventsSince(here.engine, begin, filters)).length > 0,
  )
  // Long enough for the other one to come to the lock.
  here.configure({ stop: [name], wait: '8s' })
  const since = secondsNow()
  const first = here.host.start(['backup', 'shop'])
  await eventually('it is stopped', async () => (await here.engine.state(name)) === 'exited')
  const second = await here.host.ok(['backup', 'twin'])
  assert.match(second.stderr, /waits: the containers of another job are still stopped/)
  assert.equal((await first.ended).code, 0)
  const expected = ['die', 'start', 'die', 'start'].map(action => `${action} ${name}`)
  assert.deepEqual(await eventsSince(here.engine, since, filters), expected)
})

test('killed while Docker is still stopping: it runs in the end all the same, also when its job is not configured any more', async t => {
  const here = await stage(t)
  if (!here) return
  const name = await here.app(stubborn, '--stop-timeout', '4')
  here.configure({ stop: [name] })
  const running = here.host.start(['backup', 'shop'])
  const journal = here.host.path('state/journal/containers.shop.json')
  await eventually(
    'it is being stopped',
    () => existsSync(journal) && /"told":1/.test(readFileSync(journal, 'utf8')),
  )
  await sleep(500)
  running.child.kill('SIGKILL')
  await running.ended
  const files = { type: 'files', paths: [here.host.path('data')] }
  const disk = { type: 'local', path: here.host.path('store') }
  here.host.configure({ stores: { disk }, jobs: { else: { source: files, to: ['disk'] } } })
  await here.host.ok(['backup'], { env: { DOCKER_HOST: here.facts.host } })
  assert.equal(await here.engine.state(name), 'running')
  await sleep(3_000)
  assert.equal(await here.engine.state(name), 'running')
})

test('SIGTERM and a source that fails leave the app running', async t => {
  const here = await stage(t)
  if (!here) return
  const name = await here.app(polite)
  here.configure({ stop: [name], wait: '10 min' })
  const running = here.host.start(['backup', 'shop'])
  await eventually('it is stopped', async () => (await here.engine.state(name)) === 'exited')
  running.child.kill('SIGTERM')
  assert.equal((await running.ended).code, 143)
  assert.equal(await here.engine.state(name), 'running')
  here.configure({ stop: [name] }, { source: { type: 'files', paths: [here.host.path('nowhere')] } })
  assert.notEqual((await here.host.run(['backup', 'shop'])).code, 0)
  assert.equal(await here.engine.state(name), 'running')
})

test('one that is killed after its grace, an unknown name, one started with --rm: warnings; a paused one is paused again', async t => {
  const here = await stage(t)
  if (!here) return
  const killed = await here.app(stubborn, '--stop-timeout', '1')
  const paused = await here.app(polite)
  const passing = await here.app(polite, '--rm')
  await here.engine.docker('pause', paused)
  here.configure({ stop: [killed, paused, passing, 'nobody'] })
  const { stderr } = await here.host.ok(['backup', 'shop'])
  assert.match(stderr, new RegExp(`warning: container ${killed} was killed: .*exit code 137`))
  assert.match(stderr, /warning: nothing is stopped for "nobody"/)
  assert.match(stderr, new RegExp(`warning: container ${passing} is not stopped: it was started with --rm`))
  assert.doesNotMatch(stderr, new RegExp(paused))
  const states = await Promise.all([killed, paused, passing].map(name => here.engine.state(name)))
  assert.deepEqual(states, ['running', 'paused', 'running'])
})

test('labels: who has cairn.stop is stopped, and commands run inside before and after; one that fails stops the job', async t => {
  const here = await stage(t)
  if (!here) return
  const stopped = await here.app(polite, '--label', 'cairn.stop=shop,wiki')
  const before = 'cairn.exec-before=echo before >> /data/said'
  const labels = ['--label', before, '--label', 'cairn.exec-after=echo after >> /data/said']
  const asked = await here.app(stubborn, ...labels, '--label', 'cairn.job=shop')
  here.configure({})
  await here.host.ok(['backup', 'shop'])
  assert.equal(await restored(here, 'said'), 'before')
  assert.equal(await restored(here, 'state'), 'stopped')
  assert.equal(readFileSync(here.host.path('data/said'), 'utf8'), 'before\nafter\n')
  const failing = await here.app(stubborn, '--label', 'cairn.exec-before=echo no room >&2; exit 3')
  const ran = await here.host.run(['backup', 'shop'])
  assert.equal(ran.code, 1)
  assert.match(
    ran.stderr,
    new RegExp(`a command in container ${failing} failed: .*: no room \\(exit code 3\\)`),
  )
  assert.match(readFileSync(here.host.path('data/said'), 'utf8'), /after\n$/)
  for (const name of [stopped, asked]) assert.equal(await here.engine.state(name), 'running')
  assert.equal((await listed(here.host)).length, 1)
})

test('one that does not get well after its start, or is gone, is a warning, and the backup stands', async t => {
  const here = await stage(t)
  if (!here) return
  const health = ['--health-cmd', 'test -e /tmp/well', '--health-interval', '200ms', '--health-retries', '1']
  const sick = await here.app(polite, ...health)
  const gone = await here.app(polite)
  here.configure(
    { stop: [sick, gone], startTimeout: '1s', wait: '8s' },
    {
      hooks: { before: [`touch ${here.host.path('data/x')}`] },
      source: { type: 'files', paths: [here.host.path('data')] },
    },
  )
  const running = here.host.start(['backup', 'shop'])
  await eventually('it is stopped', async () => (await here.engine.state(gone)) !== 'running')
  await here.engine.docker('rm', '-f', gone)
  const { code, stderr } = await running.ended
  assert.equal(code, 0, stderr)
  assert.match(
    stderr,
    new RegExp(`container ${sick} was started and is not ready: it is (starting|unhealthy) after 1 s`),
  )
  assert.match(stderr, new RegExp(`container ${gone} is gone`))
  assert.equal((await listed(here.host)).length, 1)
})

test('Docker restarts while the app stands still: it is started when Docker is back', async t => {
  const here = await stage(t)
  if (!here) return
  const name = await here.app(polite)
  here.configure({ stop: [name], wait: '8s' })
  const running = here.host.start(['backup', 'shop'])
  await eventually('it is stopped', async () => (await here.engine.state(name)) === 'exited')
  process.kill(here.facts.pid, 'SIGHUP')
  const { code, stderr } = await running.ended
  assert.equal(code, 0, stderr)
  await eventually('it runs', async () => (await here.engine.state(name)) === 'running')
  assert.equal(await restored(here, 'state'), 'stopped')
})

test('a Docker that cannot be reached fails the job before anything is read', async t => {
  const here = await stage(t)
  if (!here) return
  here.configure({ stop: ['app'], host: `unix://${here.host.path('no.sock')}` })
  const doctor = await here.host.run(['doctor', 'shop'])
  assert.match(doctor.out, /containers of shop.*cannot reach Docker[\s\S]*mount it into/)
  const ran = await here.host.run(['backup', 'shop'])
  assert.equal(ran.code, 2)
  assert.match(ran.stderr, /cannot reach Docker at unix:.*there is no such socket\n.*hint: mount it/)
  assert.deepEqual(
    filesIn(here.host.path('store')).filter(key => /shop/.test(key)),
    [],
  )
})
