import assert from 'node:assert/strict'
import { test } from 'node:test'
import { choose, type Listed, stopOrder } from './choose.ts'

let last = 0

function container(name: string, labels: Record<string, string> = {}, state = 'running'): Listed {
  return { id: String(++last).padStart(64, '0'), name, labels, state }
}

function service(
  project: string,
  name: string,
  more: Record<string, string> = {},
  state = 'running',
): Listed {
  const prefix = 'com.docker.compose.'
  const own = Object.entries(more).map(([key, value]) => [key.includes('.') ? key : `${prefix}${key}`, value])
  const labels = { [`${prefix}project`]: project, [`${prefix}service`]: name, [`${prefix}oneoff`]: 'False' }
  return container(`${project}-${name}-${last}`, { ...labels, ...Object.fromEntries(own) }, state)
}

const wanted = { job: 'shop', names: [], project: 'stack', self: null }
const names = (list: readonly Listed[]): string[] => list.map(({ name }) => name)

test('a name is that of a container first, and else that of a service with all its replicas', () => {
  const replicas = [service('stack', 'app'), service('stack', 'app')]
  const exact = container('web')
  const all = [...replicas, exact, service('stack', 'web'), service('other', 'app'), container('apps')]
  assert.deepEqual(choose(all, { ...wanted, names: ['app', 'web'] }).stop, [...replicas, exact])
})

test('what `docker compose run` started is no replica of its service', () => {
  const app = service('stack', 'app')
  const all = [app, service('stack', 'app', { oneoff: 'True' })]
  assert.deepEqual(choose(all, { ...wanted, names: ['app'] }).stop, [app])
})

test('services are those of the own project only, and none where no project is known', () => {
  const all = [service('other', 'app')]
  for (const project of ['stack', null]) {
    const { stop, notes } = choose(all, { ...wanted, project, names: ['app'] })
    assert.deepEqual(stop, [])
    assert.match(notes.join(' '), /nothing is stopped for "app"/)
  }
})

test('a container that is not running stays so, and a paused or restarting one counts as running', () => {
  const states = ['running', 'paused', 'restarting', 'exited', 'created', 'dead']
  const all = states.map(state => container(state, {}, state))
  const { stop, notes } = choose(all, { ...wanted, names: states })
  assert.deepEqual(names(stop), ['running', 'paused', 'restarting'])
  assert.deepEqual(notes, [])
})

test('our own container is never stopped, by name, service or label', () => {
  const own = service('stack', 'backup', { 'cairn.stop': 'shop' })
  for (const each of [[own.name], ['backup'], []]) {
    const { stop, notes } = choose([own], { ...wanted, names: each, self: own.id })
    assert.deepEqual(stop, [])
    assert.match(notes.join(' '), /is not stopped.*the one that Cairn runs in/)
  }
})

test('labels name jobs, and count in the own project and where there is no project', () => {
  const all = [
    service('stack', 'a', { 'cairn.stop': 'shop, wiki' }),
    service('stack', 'b', { 'cairn.stop': 'wiki' }),
    service('other', 'c', { 'cairn.stop': 'shop' }),
    container('d', { 'cairn.stop': 'shop' }),
  ]
  assert.deepEqual(choose(all, wanted).stop, [all[0], all[3]])
  assert.deepEqual(choose(all, { ...wanted, project: null }).stop, [all[0], all[2], all[3]])
})

test('who is named and has the label is stopped once', () => {
  const app = container('app', { 'cairn.stop': 'shop' })
  assert.deepEqual(choose([app], { ...wanted, names: ['app', 'app'] }).stop, [app])
})

test('commands are those of running containers, for all jobs or for those of cairn.job', () => {
  const all = [
    container('a', { 'cairn.exec-before': 'flush' }),
    container('b', { 'cairn.exec-before': 'lock', 'cairn.exec-after': 'unlock', 'cairn.job': 'shop,wiki' }),
    container('c', { 'cairn.exec-before': 'x', 'cairn.job': 'wiki' }),
    container('d', { 'cairn.exec-before': 'x' }, 'exited'),
  ]
  assert.deepEqual(
    choose(all, wanted).exec.map(({ container: { name }, ...commands }) => ({ name, ...commands })),
    [
      { name: 'a', before: 'flush' },
      { name: 'b', before: 'lock', after: 'unlock' },
    ],
  )
})

test('those that depend on others stop before them, those of a circle together', () => {
  const db = service('stack', 'db')
  const cache = service('stack', 'cache')
  const app = service('stack', 'app', { depends_on: 'db:service_healthy:false,cache:service_started:true' })
  const web = service('stack', 'web', { depends_on: 'app:service_started:false' })
  const stranger = service('other', 'x', { depends_on: 'db:service_started:false' })
  assert.deepEqual(stopOrder([db, app, cache, web, stranger]), [[web, stranger], [app], [db, cache]])
  assert.deepEqual(stopOrder([db, web]), [[db, web]])
  const one = service('stack', 'one', { depends_on: 'two:service_started:false' })
  const two = service('stack', 'two', { depends_on: 'one:service_started:false' })
  assert.deepEqual(stopOrder([one, two]), [[one, two]])
  assert.deepEqual(stopOrder([]), [])
})
