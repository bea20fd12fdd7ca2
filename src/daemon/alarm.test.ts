import assert from 'node:assert/strict'
import { globSync, mkdtempSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { webhookServer } from '../../test/support/webhook-server.ts'
import { type App, appFor } from '../app.ts'
import { Config } from '../config/schema.ts'
import type { Context } from '../model/context.ts'
import type { RunEvent } from '../model/event.ts'
import type { Store } from '../model/store.ts'
import { openState } from '../platform/state.ts'
import { type Look, lookAt } from './alarm.ts'
import { type Arrival, isOverdue, oldestIn } from './arrivals.ts'
import { readJobState, updateJobState } from './job-state.ts'
import { runJob } from './run-job.ts'

const folders: string[] = []
process.on('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

const hour = 3_600_000

interface Host {
  readonly folder: string
  /** The state folder and the configuration read anew: a restart. */
  app(state?: string): App
  /** Looks when so many hours have gone by. */
  look(hours: number, app?: App): Promise<Look>
  /** Backs up when so many hours have gone by, which must end with this exit code. */
  backup(app?: App, hours?: number, exit?: number): Promise<void>
  /** What was said since this was last asked. */
  said(): RunEvent[]
}

/** A job of one file, of an archive that lacks one of two, or of several files each by itself, with two stores, in which something must arrive every day. */
function host(
  webhooks: object = {},
  kind: 'file' | 'archive' | string[] = 'file',
  folder = newFolder(),
): Host {
  writeFileSync(join(folder, 'file'), 'content')
  const stores = Object.fromEntries(
    ['disk', 'nas'].map(name => [name, { type: 'local', path: join(folder, name) }]),
  )
  const member = (name: string) => ({ name, source: { type: 'file', path: join(folder, name) } })
  const source =
    kind === 'archive'
      ? { type: 'archive', name: 'wiki', members: [member('file'), member('other')] }
      : { type: 'files', paths: [join(folder, 'file')] }
  const from = Array.isArray(kind) ? { sources: kind.map(name => member(name).source) } : { source }
  const config = Config.parse({
    stores,
    compression: 'none',
    jobs: { wiki: { ...from, to: ['disk', 'nas'], expect: 'every 24h', webhooks } },
  })
  const app = (state = 'state'): App => appFor(config, openState({ CAIRN_STATE: join(folder, state) }))
  const events: RunEvent[] = []
  const context = (hours: number): Context =>
    testContext({
      clock: { now: () => new Date(Date.now() + hours * hour) },
      emit: event => events.push(event),
    })
  return {
    folder,
    app,
    look: (hours, using = app()) => lookAt('wiki', using, context(hours)),
    async backup(using = app(), hours = 0, exit = 0) {
      const request = {
        job: 'wiki',
        trigger: 'command',
        prune: false,
        retry: { times: 0, afterMs: 0 },
      } as const
      assert.equal((await runJob(request, using, context(hours))).exit, exit)
      events.length = 0
    },
    said: () => events.splice(0),
  }
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'cairn-alarm-'))
  folders.push(folder)
  return folder
}

const failures = (events: readonly RunEvent[]): string[] =>
  events.flatMap(event => (event.type === 'failure' ? [`${event.what}: ${event.why}`] : []))

test('an alarm is raised once when nothing good has come, not again after a restart, and its end is said once', async () => {
  await using server = await webhookServer()
  const here = host({ failure: `${server.origin}/alarm`, over: `${server.origin}/over` })
  await here.backup()
  server.calls.length = 0
  const well = await here.look(23.9)
  assert.deepEqual(well.alarms, [])
  const wait = (well.next?.getTime() ?? 0) - (Date.now() + 23.9 * hour)
  assert.ok(wait > 300_000 && wait < 361_000, `looks again in ${wait} ms`)
  assert.deepEqual((await here.look(24.1)).alarms, ['disk', 'nas'])
  assert.match(
    failures(here.said()).join('|'),
    /^alarm for wiki: [^|]*every 1 days[^|]* in disk since [^|]* in nas since [^|]*$/,
  )
  assert.deepEqual((await here.look(25)).alarms, ['disk', 'nas'])
  assert.deepEqual((await here.look(26, here.app())).alarms, ['disk', 'nas'])
  assert.deepEqual(here.said(), [])
  assert.deepEqual(server.words(), ['alarm'])
  assert.match(server.calls[0]?.body ?? '', /nothing good has arrived in disk since 20/)
  // A look from now on finds the clocks as they are: the backup is young again.
  assert.deepEqual((await here.look(0)).alarms, [])
  assert.deepEqual((await here.look(0)).alarms, [])
  assert.deepEqual(
    here.said().map(event => event.type === 'notice' && event.text),
    ['the alarm is over: a good backup has arrived in disk, nas'],
  )
  assert.deepEqual(server.words(), ['alarm', 'over'])
})

test('what counts is in the stores: backups of another host, from before this one began', async () => {
  const here = host()
  await here.backup(here.app('state-of-another-host'))
  const look = await here.look(1)
  assert.deepEqual(look.alarms, [])
  assert.ok(look.arrivals.every(({ at, unasked }) => at && unasked === null))
  assert.deepEqual((await here.look(24.1)).alarms, ['disk', 'nas'])
})

test('each store counts: one that nothing reaches is overdue though the other is not', async () => {
  const here = host()
  await here.backup()
  const tenHoursAgo = new Date(Date.now() - 10 * hour)
  for (const path of globSync(join(here.folder, 'nas/.cairn/v1/manifests/wiki/*')))
    utimesSync(path, tenHoursAgo, tenHoursAgo)
  assert.deepEqual((await here.look(13.9)).alarms, [])
  assert.deepEqual((await here.look(14.1)).alarms, ['nas'])
  assert.deepEqual((await here.look(24.1)).alarms, ['disk', 'nas'])
  assert.equal(failures(here.said()).length, 2)
  await here.backup()
  assert.deepEqual((await here.look(1)).alarms, [])
})

test('a backup that lacks a part of its unit is nothing good, in the stores as in the records', async () => {
  const here = host({}, 'archive')
  const other = join(here.folder, 'other')
  writeFileSync(other, 'content')
  await here.backup()
  const whole = (await here.look(1)).arrivals
  rmSync(other)
  await here.backup(here.app(), 2, 3)
  assert.deepEqual((await here.look(3)).arrivals, whole)
  assert.deepEqual((await here.look(24.1)).alarms, ['disk', 'nas'])
  const disk = join(here.folder, 'disk')
  rmSync(disk, { recursive: true })
  symlinkSync(disk, disk)
  const [first] = (await here.look(3)).arrivals
  assert.ok(first?.unasked && first.at && whole[0]?.at)
  assert.ok(Math.abs(first.at.getTime() - whole[0].at.getTime()) < hour, `${first.at}`)
})

test('of several units each counts: one that fails for days is overdue, one that the job has lost is not', async () => {
  const here = host({}, ['file', 'other'])
  const second = join(here.folder, 'other')
  writeFileSync(second, 'content')
  await here.backup(here.app(), -41)
  await here.backup(here.app('state-of-another-host'), -41)
  rmSync(second)
  await here.backup(here.app(), -21, 3)
  await here.backup(here.app(), -1, 3)
  assert.deepEqual((await here.look(-18)).alarms, [])
  const { alarms, arrivals } = await here.look(0)
  assert.deepEqual(alarms, ['disk/other', 'nas/other'])
  assert.deepEqual(
    arrivals.map(({ store, unit }) => `${store} ${unit}`),
    ['disk file', 'disk other', 'nas file', 'nas other'],
  )
  assert.match(failures(here.said()).join('|'), /: nothing good of other has arrived in disk since 20/)
  // A host that only looks knows of no units, and goes by the job as a whole.
  assert.deepEqual((await here.look(0, here.app('state-of-nobody'))).alarms, [])
  const disk = join(here.folder, 'disk')
  renameSync(disk, `${disk}-away`)
  symlinkSync(disk, disk)
  assert.deepEqual((await here.look(0)).alarms, ['disk/other', 'nas/other'])
  rmSync(disk)
  renameSync(`${disk}-away`, disk)
  here.said()
  writeFileSync(second, 'content')
  await here.backup()
  assert.deepEqual((await here.look(0)).alarms, [])
  assert.deepEqual(
    here.said().map(event => event.type === 'notice' && event.text),
    ['the alarm is over: a good backup has arrived of other in disk, of other in nas'],
  )
})

test('an alarm that an older Cairn raised for a store goes on for its units, and ends without them when the job loses them', async () => {
  const here = host({}, ['file', 'other'])
  const second = join(here.folder, 'other')
  writeFileSync(second, 'content')
  await here.backup(here.app(), -41)
  rmSync(second)
  await here.backup(here.app(), -1, 3)
  const raised = new Date(Date.now() - 10 * hour).toISOString()
  const alarms = { disk: { raised, told: true }, nas: { raised, told: true } }
  updateJobState(here.app().state, 'wiki', { alarms }, new Date())
  assert.deepEqual((await here.look(0)).alarms, ['disk/other', 'nas/other'])
  assert.deepEqual(
    here.said().map(({ type }) => type),
    ['failure'],
  )
  assert.equal(readJobState(here.app().state, 'wiki')?.alarms['disk/other']?.raised, raised)
  const fewer = host({}, ['file'], here.folder)
  await here.backup(fewer.app())
  assert.deepEqual((await here.look(0, fewer.app())).alarms, [])
  assert.deepEqual(
    here.said().map(event => event.type === 'notice' && event.text),
    ['the alarm is over: nothing is expected any more of other in disk, of other in nas'],
  )
})

test('a unit that the job has lost is not expected any more, and one that is new has its time', async () => {
  const here = host({}, ['file', 'other', 'third'])
  for (const name of ['other', 'third']) writeFileSync(join(here.folder, name), 'content')
  await here.backup(here.app(), -100)
  const fewer = host({}, ['file', 'new'], here.folder)
  writeFileSync(join(here.folder, 'new'), 'content')
  await here.backup(fewer.app(), -1)
  assert.deepEqual((await here.look(0, fewer.app())).alarms, [])
  assert.deepEqual((await here.look(24, fewer.app())).alarms, [
    'disk/file',
    'disk/new',
    'nas/file',
    'nas/new',
  ])
})

test('a unit that never arrived counts from when it was first found, and not from when its job was', () => {
  const at = (hours: number): Date => new Date(hours * hour)
  const arrival = { store: 'disk', unit: 'new', known: at(100), at: null, unasked: null }
  assert.equal(isOverdue(arrival, 24 * hour, at(0), at(123)), false)
  assert.equal(isOverdue(arrival, 24 * hour, at(0), at(125)), true)
  assert.equal(isOverdue({ ...arrival, known: null }, 24 * hour, at(0), at(123)), true)
})

test('of several units in a store, the one that has waited for longest tells how old the store is', () => {
  const arrival = (store: string, unit: string, at: string | null): Arrival => ({
    ...{ store, unit, known: null, unasked: null },
    at: at === null ? null : new Date(at),
  })
  const [old, young] = ['2026-01-01T00:00:00.000Z', '2026-02-01T00:00:00.000Z']
  assert.deepEqual(
    oldestIn([
      ...[arrival('disk', 'a', young), arrival('disk', 'b', old), arrival('disk', 'c', young)],
      ...[arrival('nas', 'a', old), arrival('nas', 'b', null), arrival('nas', 'c', young)],
    ]),
    { disk: old, nas: null },
  )
})

test('where nothing ever arrived, time runs from when the job was first seen', async () => {
  const here = host()
  assert.deepEqual((await here.look(0)).alarms, [])
  assert.deepEqual((await here.look(23)).alarms, [])
  assert.deepEqual((await here.look(24.1)).alarms, ['disk', 'nas'])
  assert.match(failures(here.said()).join(), /nothing good has ever arrived in disk/)
})

test('a backup and a first sight from the future, by a clock that was wrong, silence no alarm', async () => {
  const here = host()
  const year = 365 * 24
  await here.look(year)
  await here.backup(here.app(), year)
  assert.deepEqual((await here.look(0)).alarms, [])
  const look = await here.look(24.1)
  assert.deepEqual(look.alarms, ['disk', 'nas'])
  assert.deepEqual(
    look.arrivals.map(({ at }) => at),
    [null, null],
  )
  const disk = join(here.folder, 'disk')
  rmSync(disk, { recursive: true })
  symlinkSync(disk, disk)
  const [first] = (await here.look(24.2)).arrivals
  assert.deepEqual([first?.at, first?.unasked === null], [null, false])
})

test('a copy that came later is as old as its backup, whatever its file says', async () => {
  const here = host()
  await here.backup(here.app(), -30)
  assert.deepEqual((await here.look(0)).alarms, ['disk', 'nas'])
  const year = new Date(Date.now() + 365 * 24 * hour)
  for (const path of globSync(join(here.folder, '*/.cairn/v1/manifests/wiki/*'))) utimesSync(path, year, year)
  assert.deepEqual((await here.look(0)).alarms, ['disk', 'nas'])
})

test('a newest backup whose manifest is damaged is passed over', async () => {
  const here = host()
  await here.backup(here.app(), -30)
  await here.backup(here.app(), -20)
  for (const store of ['disk', 'nas']) {
    const newest = globSync(join(here.folder, store, '.cairn/v1/manifests/wiki/*'))
      .toSorted()
      .at(-1)
    writeFileSync(newest ?? '', '{}')
  }
  const { alarms, arrivals } = await here.look(0)
  assert.deepEqual(
    [alarms, arrivals.map(({ unasked }) => unasked)],
    [
      ['disk', 'nas'],
      [null, null],
    ],
  )
})

test('a store that may be listed and not read tells by its listing', async () => {
  const here = host()
  await here.backup()
  const app = here.app()
  const refused: Store['get'] = () => {
    throw new Error('access denied')
  }
  const storesOf = (job: string): Store[] => app.storesOf(job).map(store => ({ ...store, get: refused }))
  const { arrivals, alarms } = await here.look(1, { ...app, storesOf })
  assert.deepEqual(alarms, [])
  assert.ok(arrivals.every(({ at, unasked }) => at && unasked === null))
})

test('a store that cannot be listed is judged by the runs of this host, and that is said', async () => {
  const here = host()
  await here.backup()
  const disk = join(here.folder, 'disk')
  renameSync(disk, `${disk}-away`)
  symlinkSync(disk, disk)
  const look = await here.look(1)
  assert.deepEqual(look.alarms, [])
  assert.ok(look.arrivals.find(({ store }) => store === 'disk')?.unasked)
  await here.look(24.1)
  assert.match(
    failures(here.said()).join(),
    /in disk since 20.*as far as runs of this host go \(.*\); nothing good/,
  )
})

test('an alarm that could not be delivered is told again at the next look, and said only once', async () => {
  let good = false
  await using server = await webhookServer((_call, response) => response.writeHead(good ? 200 : 404).end())
  const here = host({ alarm: `${server.origin}/alarm` })
  await here.backup()
  await here.look(24.1)
  assert.deepEqual(
    here.said().map(({ type }) => type),
    ['failure', 'warning'],
  )
  good = true
  await here.look(24.2)
  await here.look(24.3)
  assert.deepEqual(here.said(), [])
  assert.deepEqual(server.words(), ['alarm', 'alarm'])
})

test('a state folder that cannot be written does not silence the alarm', async () => {
  const here = host()
  const app = here.app('full')
  writeFileSync(join(here.folder, 'full', 'jobs'), 'not a folder')
  assert.deepEqual((await here.look(0, app)).alarms, [])
  assert.match(JSON.stringify(here.said()), /"warning".*cannot write down the alarms of wiki/)
  assert.deepEqual((await here.look(24.1, app)).alarms, ['disk', 'nas'])
  assert.equal(failures(here.said()).length, 1)
  await here.look(25, app)
  assert.deepEqual(failures(here.said()), [])
})
