import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { testContext } from '../../test/support/context.ts'
import { faulty } from '../../test/support/faulty-store.ts'
import { keysOf, readingWith, testJob, wholeBackup } from '../../test/support/job.ts'
import { syntheticBytes, syntheticSource } from '../../test/support/synthetic-source.ts'
import type { Context } from '../model/context.ts'
import { exitCode, Failure } from '../model/failure.ts'
import { manifestPrefix } from '../model/key.ts'
import type { Guard, Source } from '../model/source.ts'
import { Forbidden, type Store } from '../model/store.ts'
import { openState } from '../platform/state.ts'
import { memoryStore, weakStore } from '../stores/memory.ts'
import { backup } from './backup.ts'
import { readCatalog } from './catalog.ts'
import { collect } from './objects.ts'
import { exitOf } from './outcome.ts'
import { artifactReader } from './reader.ts'
import { readManifest } from './stated.ts'

const host = 'here/1'
const three = [
  { name: 'synthetic/App', bytes: 100_000 },
  { name: 'synthetic/app', bytes: 3 },
  { name: '../x', bytes: 0 },
]

test('a backup is its artifacts and the same manifest in every store, and comes back byte-equal', async () => {
  const ctx = testContext()
  const stores = [memoryStore('one'), memoryStore('two')]
  const manifest = wholeBackup(
    await backup(testJob(syntheticSource({ artifacts: three }), stores), host, ctx),
  )
  for (const store of stores) {
    const { entries } = await readCatalog([store], null, ctx)
    assert.equal(entries.length, 1)
    const [copy] = entries[0]?.copies ?? []
    assert.ok(copy)
    const read = await readManifest(copy, ctx)
    assert.deepEqual(read.manifest, manifest)
    const reader = artifactReader(store, readingWith(7), ctx)
    for (const { name, bytes } of three) {
      const record = manifest.artifacts.find(artifact => artifact.name === name)
      assert.ok(record)
      assert.deepEqual(
        Buffer.from(await collect(reader.open(record))),
        Buffer.from(syntheticBytes(name, bytes)),
      )
    }
  }
  const manifests = await Promise.all(stores.map(store => keysOf(store, ctx, manifestPrefix)))
  assert.deepEqual(manifests[0], manifests[1])
})

test('names that hurt stay in the manifest: keys are of the safe characters, each its own, under the job', async () => {
  const ctx = testContext()
  const store = memoryStore('one')
  const names = [
    'App',
    'app',
    'a/b',
    'a"b\n',
    "it's",
    '🧱'.repeat(15),
    'latest',
    '../x',
    ' ',
    '-rf',
    '..',
    'CON',
  ]
  const artifacts = names.map(name => ({ name, bytes: 10 }))
  const manifest = wholeBackup(await backup(testJob(syntheticSource({ artifacts }), [store]), host, ctx))
  const keys = manifest.artifacts
    .filter(({ role }) => role === 'data')
    .map(({ objects }) => objects[0]?.key ?? '')
  assert.deepEqual(
    manifest.artifacts.filter(({ role }) => role === 'data').map(({ name }) => name),
    names,
  )
  assert.equal(new Set(keys.map(key => key.toLowerCase())).size, names.length)
  for (const key of keys) assert.match(key, /^shop\/[^/]+\/\d{4}-[a-z0-9_][a-z0-9._-]*$/)
})

for (const failIn of ['inspect', 'open', 'artifacts', 'census', 'finish'] as const) {
  test(`a source that fails in ${failIn} leaves no backup, and nothing else, in any store`, async () => {
    const ctx = testContext()
    const stores = [memoryStore('one'), memoryStore('two'), memoryStore('three')]
    const source = syntheticSource({ artifacts: three, failIn })
    const outcomes = await backup(testJob(source, stores), host, ctx).catch((error: unknown) => error)
    if (failIn === 'inspect') assert.ok(outcomes instanceof Error)
    else assert.equal(exitOf(outcomes as Awaited<ReturnType<typeof backup>>), exitCode.failed)
    for (const store of stores) assert.deepEqual(await keysOf(store, ctx), [])
    for (const session of source.observed.sessions) assert.equal(session.disposals > 0, true)
    assert.deepEqual(readdirSync(ctx.dir), [])
  })
}

for (const as of ['bytes', 'program'] as const) {
  for (const bytes of [0, 70_000, 200_000]) {
    test(`a stream (${as}) that breaks after ${bytes} of 200000 bytes leaves nothing in the store`, async () => {
      const ctx = testContext()
      const store = memoryStore('one')
      const artifacts = [{ name: 'a', bytes: 200_000, as, breakAfter: { bytes, how: 'throw' as const } }]
      const outcomes = await backup(testJob(syntheticSource({ artifacts }), [store]), host, ctx)
      assert.equal(exitOf(outcomes), exitCode.failed)
      assert.deepEqual(await keysOf(store, ctx), [])
    })
  }
}

test('one store that fails loses its copy only, says so, and is cleared; the run is partial', async () => {
  const ctx = testContext()
  const [good, inner] = [memoryStore('good'), memoryStore('bad')]
  const bad = faulty(inner, { put: { failAfter: 50_000 }, only: /^shop\// })
  const outcomes = await backup(testJob(syntheticSource({ artifacts: three }), [good, bad]), host, ctx)
  assert.equal(exitOf(outcomes), exitCode.partial)
  assert.deepEqual(outcomes[0]?.stores, ['good'])
  assert.deepEqual(await keysOf(inner, ctx), [])
  assert.ok(ctx.events.some(event => event.type === 'failure' && event.store === 'bad'))
})

test('that leftovers cannot be cleared is told of stores that take the backup, and not of those that we may only write to', async () => {
  const ctx = testContext()
  const stores = ['good', 'bad', 'closed'].map(name => memoryStore(name))
  const [good, bad, closed] = [
    { list: { error: new Error('too busy') } },
    { list: { error: new Error('away') }, put: { failAfter: 0 } },
    { list: { error: new Forbidden({ what: 'cannot list', why: 'it is not permitted' }) } },
  ].map((faults, index) => faulty(stores[index] ?? memoryStore('none'), faults))
  assert.ok(good && bad && closed)
  const outcomes = await backup(
    testJob(syntheticSource({ artifacts: three }), [good, bad, closed]),
    host,
    ctx,
  )
  assert.deepEqual(outcomes[0]?.stores, ['good', 'closed'])
  const warnings = ctx.events.flatMap(event => (event.type === 'warning' ? [[event.what, event.why]] : []))
  assert.deepEqual(warnings, [['cannot clear what an interrupted backup left in good', 'too busy']])
})

test('a store that stops reading is dropped after the stall, and the others are whole', async () => {
  const ctx = testContext({ stallMs: 1_500 })
  const [good, inner] = [memoryStore('good'), memoryStore('hung')]
  const artifacts = [{ name: 'a', bytes: 80 * 1024 * 1024 }]
  const hung = faulty(inner, { put: { hangAfter: 30 * 1024 * 1024 }, only: /^shop\// })
  const outcomes = await backup(
    testJob(syntheticSource({ artifacts }), [good, hung], { stages: [] }),
    host,
    ctx,
  )
  assert.deepEqual(outcomes[0]?.stores, ['good'])
  assert.match(outcomes[0]?.failures[0]?.what ?? '', /store hung has stalled/)
})

test('a store with nothing but the right to write gets a backup that another identity can read', async () => {
  const ctx = testContext()
  const store = weakStore('weak')
  const manifest = wholeBackup(
    await backup(testJob(syntheticSource({ artifacts: three }), [store]), host, ctx),
  )
  assert.equal(manifest.artifacts.length, 4)
})

test('objects are split where the smallest store ends them, the same in every store', async () => {
  const ctx = testContext()
  const stores = [memoryStore('small', { maxObjectBytes: 40_000 }), memoryStore('large')]
  const artifacts = [
    { name: 'a', bytes: 100_000 },
    { name: 'exact', bytes: 80_000 },
    { name: 'by a program', bytes: 100_000, as: 'program' as const },
  ]
  const job = testJob(syntheticSource({ artifacts }), stores, { stages: [] })
  const manifest = wholeBackup(await backup(job, host, ctx))
  assert.deepEqual(
    manifest.artifacts.slice(0, 3).map(({ objects }) => objects.map(({ bytes }) => bytes)),
    [
      [40_000, 40_000, 20_000],
      [40_000, 40_000],
      [40_000, 40_000, 20_000],
    ],
  )
  for (const store of stores) {
    const reader = artifactReader(store, () => [], ctx)
    for (const { name, bytes } of artifacts) {
      const record = manifest.artifacts.find(artifact => artifact.name === name)
      assert.ok(record)
      assert.deepEqual(await collect(reader.open(record)), Buffer.from(syntheticBytes(name, bytes)))
    }
  }
})

/** Answers nothing, as a server behind a network that drops what is sent. */
function silentStore(name: string): Store {
  const silence = (ctx: Context): Promise<never> =>
    new Promise((_, reject) => {
      const give = (): void => reject(ctx.signal.reason)
      if (ctx.signal.aborted) give()
      ctx.signal.addEventListener('abort', give, { once: true })
    })
  return {
    ...memoryStore(name),
    put: (_key, _body, _options, ctx) => silence(ctx),
    remove: (_key, _version, ctx) => silence(ctx),
    // biome-ignore lint/correctness/useYield: it never comes to one
    async *list(_prefix, ctx) {
      await silence(ctx)
    },
  }
}

test('a source is not held up for long by a store that did not answer before', async () => {
  const ctx = testContext()
  let held = 0
  const guard: Guard = {
    name: 'stand still',
    enter: async () => {
      held -= performance.now()
    },
    leave: async () => {
      held += performance.now()
    },
    recover: async () => {},
  }
  const down: Store = {
    ...silentStore('down'),
    // biome-ignore lint/correctness/useYield: it fails before
    async *list() {
      throw new Failure({ what: 'cannot list', why: 'nobody answers' })
    },
  }
  const source = syntheticSource({ artifacts: three })
  const [outcome] = await backup(testJob(source, [memoryStore('one'), down], { guards: [guard] }), host, ctx)
  assert.ok(held < ctx.stallMs / 2, `held for ${held} ms`)
  assert.deepEqual(outcome?.stores, ['one'])
  assert.match(outcome?.failures.join() ?? '', /store down failed: it did not answer/)
})

test('a run that is stopped does not wait long for a store that does not answer', async () => {
  const stop = new AbortController()
  const ctx = { ...testContext(), signal: stop.signal }
  const store: Store = { ...silentStore('down'), async *list() {} }
  const running = backup(testJob(syntheticSource({ artifacts: three }), [store]), host, ctx)
  setTimeout(() => stop.abort(new Error('stopped')), 50)
  const at = performance.now()
  await assert.rejects(running, /stopped/)
  assert.ok(performance.now() - at < 20_000)
})

test('guards are left in the opposite order whatever happens, also those that failed to be entered', async () => {
  const calls: string[] = []
  const guard = (name: string, fails = false): Guard => ({
    name,
    async enter() {
      calls.push(`enter ${name}`)
      if (fails) throw new Failure({ what: name, why: 'no' })
    },
    async leave() {
      calls.push(`leave ${name}`)
    },
    async recover() {},
  })
  const ctx = testContext()
  const run = (fails: boolean) =>
    backup(
      testJob(syntheticSource({ artifacts: three }), [memoryStore('one')], {
        guards: [guard('a'), guard('b', fails)],
      }),
      host,
      ctx,
    )
  wholeBackup(await run(false))
  assert.deepEqual(calls.splice(0), ['enter a', 'enter b', 'leave b', 'leave a'])
  await assert.rejects(run(true), /b: no/)
  assert.deepEqual(calls, ['enter a', 'enter b', 'leave b', 'leave a'])
})

test('the guards of a job are entered once, and left when the last unit of its last source was read', async () => {
  const ctx = testContext()
  const calls: string[] = []
  const watched = (units: string[]): Source => {
    const source = syntheticSource({ artifacts: three, units })
    const open = source.open.bind(source)
    source.open = async (unit, ...rest) => {
      calls.push(unit.name)
      return await open(unit, ...rest)
    }
    return source
  }
  const guard: Guard = {
    name: 'the app',
    enter: async () => void calls.push('enter'),
    leave: async () => void calls.push('leave'),
    recover: async () => {},
  }
  const job = testJob(watched(['a', 'b']), [memoryStore('one')], { guards: [guard] })
  const outcomes = await backup({ ...job, sources: [...job.sources, watched(['c'])] }, host, ctx)
  assert.equal(exitOf(outcomes), exitCode.ok)
  assert.deepEqual(calls, ['enter', 'a', 'b', 'c', 'leave'])
})

test('a guard that cannot be left is a failure of the run, though every backup is whole', async () => {
  const stuck: Guard = {
    name: 'the app',
    enter: async () => {},
    leave: () => Promise.reject(new Error('it does not start')),
    recover: async () => {},
  }
  for (const capture of ['spool', 'stream'] as const) {
    const source = syntheticSource({ artifacts: three, units: ['a', 'b'] })
    const job = testJob(source, [memoryStore('one')], { guards: [stuck], capture })
    const outcomes = await backup(job, host, testContext())
    assert.deepEqual(
      outcomes.map(({ unit, manifest, stores }) => [unit, manifest !== null, ...stores]),
      [
        ['a', true, 'one'],
        ['b', true, 'one'],
      ],
    )
    assert.equal(exitOf(outcomes), exitCode.partial)
    assert.match(outcomes[1]?.failures[0]?.message ?? '', /it does not start/)
  }
})

test('with a spool and guards every unit is read, then the guards are left, then every unit is stored', async () => {
  const ctx = testContext()
  const calls: string[] = []
  const guard: Guard = {
    name: 'the app',
    enter: async () => {},
    leave: async () => void calls.push('leave'),
    recover: async () => {},
  }
  const source = syntheticSource({ artifacts: three, units: ['a', 'b', 'c'] })
  const open = source.open.bind(source)
  source.open = async (unit, ...rest) => {
    calls.push(`read ${unit.name}`)
    if (unit.name === 'b') throw new Failure({ what: 'b', why: 'is not there' })
    return await open(unit, ...rest)
  }
  const inner = memoryStore('one')
  const store: Store = {
    ...inner,
    put(key, body, options, at) {
      if (key.includes('/manifests/')) calls.push('stored')
      return inner.put(key, body, options, at)
    },
  }
  const outcomes = await backup(testJob(source, [store], { guards: [guard], capture: 'spool' }), host, ctx)
  assert.deepEqual(calls, ['read a', 'read b', 'read c', 'leave', 'stored', 'stored'])
  assert.deepEqual(
    outcomes.map(({ manifest }) => manifest !== null),
    [true, false, true],
  )
  assert.deepEqual(readdirSync(ctx.spool), [])
})

test('a source that cannot be looked at does not stop the others of its job; two that are the same do', async () => {
  const ctx = testContext()
  const store = memoryStore('one')
  const source = syntheticSource({ artifacts: three })
  const gone: Source = { ...source, inspect: () => Promise.reject(new Error('no such server')) }
  const job = testJob(source, [store])
  const outcomes = await backup({ ...job, sources: [gone, source] }, host, ctx)
  assert.equal(exitOf(outcomes), exitCode.partial)
  assert.match(outcomes[0]?.failures[0]?.message ?? '', /source 1 .*no such server/)
  wholeBackup(outcomes.slice(1))
  const keys = await keysOf(store, ctx)
  await assert.rejects(backup({ ...job, sources: [source, source] }, host, ctx), /twice/)
  await assert.rejects(backup({ ...job, sources: [gone, gone] }, host, ctx), /no such server/)
  assert.deepEqual(await keysOf(store, ctx), keys)
})

test('leftovers are cleared away before any guard is entered, and else while the sources are looked at', async () => {
  const ctx = testContext()
  const calls: string[] = []
  const inner = memoryStore('one')
  const store: Store = {
    ...inner,
    async *list(prefix, at) {
      if (calls.length < 2) await sleep(100)
      calls.push('listed')
      yield* inner.list(prefix, at)
    },
  }
  const source = syntheticSource({ artifacts: three })
  const inspect = source.inspect.bind(source)
  source.inspect = at => {
    calls.push('inspected')
    return inspect(at)
  }
  const none = async (): Promise<void> => {}
  const guard: Guard = {
    name: 'g',
    enter: async () => void calls.push('entered'),
    leave: none,
    recover: none,
  }
  wholeBackup(await backup(testJob(source, [store], { guards: [guard] }), host, ctx))
  assert.ok(calls.indexOf('listed') < calls.indexOf('entered'), `${calls}`)
  calls.length = 0
  wholeBackup(await backup(testJob(source, [store]), host, ctx))
  assert.deepEqual(calls.slice(0, 2), ['inspected', 'listed'])
})

test('what a run that died had stopped is put right before anything else, by its journal', async () => {
  const ctx = testContext()
  const { journal } = openState({ CAIRN_STATE: ctx.dir })
  const running = new Set(['app'])
  const stopsApp: Guard = {
    name: 'the app',
    async enter() {
      journal.write('shop', { stopped: 'app' })
      running.delete('app')
    },
    async leave() {
      running.add('app')
      journal.remove('shop')
    },
    async recover(inner) {
      if (journal.entries().some(({ name }) => name === 'shop')) await this.leave(inner)
    },
  }
  await stopsApp.enter(ctx)
  const source = syntheticSource({ artifacts: three })
  const enter = stopsApp.enter.bind(stopsApp)
  stopsApp.enter = inner => {
    assert.deepEqual([...running, ...journal.entries()], ['app'])
    return enter(inner)
  }
  wholeBackup(await backup(testJob(source, [memoryStore('one')], { guards: [stopsApp] }), host, ctx))
  assert.deepEqual([...running, ...journal.entries()], ['app'])
})

test('several units are a backup each; one that fails does not stop the others', async () => {
  const ctx = testContext()
  const store = memoryStore('one')
  const source = syntheticSource({ artifacts: three, units: ['a', 'b', 'c'] })
  const open = source.open.bind(source)
  source.open = (unit, ...rest) =>
    unit.name === 'b' ? Promise.reject(new Error('gone')) : open(unit, ...rest)
  const outcomes = await backup(testJob(source, [store]), host, ctx)
  assert.deepEqual(outcomes[2]?.failures, [])
  assert.deepEqual(
    outcomes.map(({ unit, manifest }) => [unit, manifest !== null]),
    [
      ['a', true],
      ['b', false],
      ['c', true],
    ],
  )
  assert.equal(exitOf(outcomes), exitCode.partial)
  assert.equal((await readCatalog([store], null, ctx)).entries.length, 2)
})

test('an interrupted backup throws the reason and leaves nothing', async () => {
  const stop = new AbortController()
  const ctx = testContext({ signal: stop.signal })
  const store = memoryStore('one')
  const artifacts = [{ name: 'a', bytes: 10_000_000, msPerChunk: 5 }]
  const running = backup(testJob(syntheticSource({ artifacts }), [store]), host, ctx)
  setTimeout(() => stop.abort(new Error('enough')), 50)
  await assert.rejects(running, /enough/)
  assert.deepEqual(await keysOf(store, testContext()), [])
})

test('what a killed run of this host left is cleared by the next; what another host may be writing is not', async () => {
  const ctx = testContext()
  const store = memoryStore('one')
  const leave = async (who: string, days: number): Promise<string[]> => {
    const at = new Date(Date.now() - days * 86_400_000)
    const before = await keysOf(store, ctx)
    const clock = { now: () => at }
    const stuck = faulty(store, { put: { failAfter: 0 }, only: /manifests/, remove: new Error('killed') })
    await backup(testJob(syntheticSource({ artifacts: three }), [stuck]), who, testContext({ clock }))
    return (await keysOf(store, ctx)).filter(key => !before.includes(key))
  }
  const ours = await leave(host, 0)
  const theirs = await leave('there/2', 0)
  const expired = await leave('there/3', 8)
  assert.ok(ours.length > 0 && theirs.length > 0 && expired.length > 0)
  wholeBackup(await backup(testJob(syntheticSource({ artifacts: three }), [store]), host, ctx))
  const left = await keysOf(store, ctx)
  assert.deepEqual(
    left.filter(key => ours.includes(key) || expired.includes(key)),
    [],
  )
  assert.deepEqual(
    left.filter(key => theirs.includes(key)),
    theirs,
  )
})

test('a store that is fed after another one gets the same backup', async () => {
  const ctx = testContext()
  const [fast, slow] = [memoryStore('fast'), memoryStore('slow')]
  const job = testJob(syntheticSource({ artifacts: three }), [])
  const outcomes = await backup(
    {
      ...job,
      to: [
        { store: fast, keep: {} },
        { store: slow, keep: {}, after: 'fast' },
      ],
    },
    host,
    ctx,
  )
  assert.deepEqual(outcomes[0]?.stores, ['fast', 'slow'])
  assert.deepEqual(await keysOf(fast, ctx, manifestPrefix), await keysOf(slow, ctx, manifestPrefix))
  assert.deepEqual(await keysOf(fast, ctx, 'shop/'), await keysOf(slow, ctx, 'shop/'))
})

test('a store that says it has another number of bytes than were sent has not got the backup', async () => {
  const ctx = testContext()
  const inner = memoryStore('liar')
  const liar = {
    ...inner,
    put: async (...args: Parameters<typeof inner.put>) => {
      const object = await inner.put(...args)
      return args[0].startsWith('shop/') ? { ...object, bytes: object.bytes - 1 } : object
    },
  }
  const outcomes = await backup(testJob(syntheticSource({ artifacts: three }), [liar]), host, ctx)
  assert.equal(outcomes[0]?.manifest, null)
})
