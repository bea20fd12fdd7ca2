import type { App } from '../app.ts'
import { collect } from '../engine/objects.ts'
import type { Context } from '../model/context.ts'
import { asFailure, type ExitCode, exitCode, type Failure } from '../model/failure.ts'
import type { Job } from '../model/job.ts'
import { safeName } from '../model/key.ts'
import { showBytes, showCount } from '../model/quantity.ts'
import type { Source } from '../model/source.ts'
import { type Advice, isProgram, type Stage, type Step } from '../model/step.ts'
import { Forbidden, type Store } from '../model/store.ts'
import { flow } from '../platform/flow.ts'
import { needProgram } from '../platform/program.ts'
import { edge } from '../platform/run-context.ts'
import { type Global, out, outJson, paint } from './io.ts'
import { awaited, withApp } from './work.ts'

interface Check {
  readonly what: string
  readonly ok: boolean
  /** It is worth a look, and fails nothing. */
  readonly warning?: true
  readonly found: string
  readonly remedy: string
}

/** `cairn doctor [JOB…]`: tries everything a backup needs, without making one, and says what to do about each failure. */
export function run(jobs: readonly string[], global: Global): Promise<ExitCode> {
  return withApp(global, async ({ app, ctx, report }) => {
    const names = app.jobNames(jobs)
    const checks: Check[] = [
      { what: 'configuration', ok: true, found: showCount(names.length, 'job'), remedy: '' },
    ]
    const stores = new Map<string, Store>()
    for (const name of names) {
      const opened = await attempt(`job ${name}`, async () => openJob(await app.job(name), app, stores, ctx))
      checks.push(...(Array.isArray(opened) ? opened : [opened]))
    }
    for (const store of stores.values()) checks.push(...(await checkStore(store, app, ctx)))
    checks.push(...(await Promise.all(names.map(name => checkWebhooks(name, app, ctx)))).flat())
    checks.push(await attempt('reading keys', () => checkKeys(app)))
    report.end()
    const ok = checks.every(check => check.ok)
    if (global.json) await outJson({ cairn: 1, ok, checks })
    else await out([...checks.map(line), '', ...whatToDo(checks, names)].join('\n'))
    return ok ? exitCode.ok : exitCode.failed
  })
}

/** The remedies of what failed, each once; or what comes next. */
function whatToDo(checks: readonly Check[], jobs: readonly string[]): string[] {
  const failed = checks.filter(check => !check.ok)
  const next = `Next: cairn backup ${jobs.join(' ')}`
  if (failed.length === 0)
    return [checks.some(check => check.warning) ? `Nothing has failed. ${next}` : `All is well. ${next}`]
  const remedies = failed.map(({ what, remedy, found }) => `${what}: ${remedy || found}`)
  return [
    `${failed.length} of ${checks.length} checks failed. What to do, then again cairn doctor:`,
    ...remedies.map((remedy, index) => `  ${index + 1}. ${remedy}`),
  ]
}

async function openJob(job: Job, app: App, stores: Map<string, Store>, ctx: Context): Promise<Check[]> {
  for (const { store } of job.to) stores.set(store.name, store)
  const sources: Check[] = []
  const advised: Check[] = []
  for (const source of job.sources) sources.push(...(await checkSource(job.name, source, advised, ctx)))
  const stages = await attempt(`stages of ${job.name}`, () => checkStages(job.stages, ctx))
  const opened = stages.ok ? await checkOpens(job, app, ctx) : []
  for (const { name, warning } of job.stages)
    if (warning) advised.push(toWarn(`stage ${name} of ${job.name}`, warning))
  return [
    ...sources,
    stages,
    ...opened,
    ...advised,
    ...(await checkHooks(job.name, app)),
    ...(await checkGuards(job, ctx)),
  ]
}

/** What hinders a backup of the source or of one of its units; a line that it is well where something of it is. */
async function checkSource(job: string, source: Source, advised: Check[], ctx: Context): Promise<Check[]> {
  const what = `source of ${job}`
  const checks = await attempt(what, async () => {
    const { version, units, estimate, advice = [] } = await source.inspect(ctx)
    advised.push(...advice.map(each => toWarn(what, each)))
    const failed = new Map<string, readonly Failure[]>()
    for (const unit of units) {
      const failures = (await source.check?.(unit, ctx)) ?? []
      if (failures.length > 0) failed.set(unit.name, failures)
    }
    const well = units.map(unit => unit.name).filter(name => !failed.has(name))
    const size = estimate > 0 ? `, about ${showBytes(estimate)}` : ''
    const found = `${source.engine} ${version}: ${well.join(', ')}${size}`
    const isWell = well.length > 0 || units.length === 0
    return [...(isWell ? [{ what, ok: true, found, remedy: '' }] : []), ...faults(what, failed)]
  })
  return Array.isArray(checks) ? checks : [checks]
}

function faults(what: string, failed: ReadonlyMap<string, readonly Failure[]>): Check[] {
  const failures = [...failed.values()].flat()
  return failures.map(({ message, remedy }) => ({ what, ok: false, found: message, remedy }))
}

function toWarn(place: string, { what, why, remedy }: Advice): Check {
  return { what: `${place}: ${what}`, ok: true, warning: true, found: why, remedy }
}

async function checkGuards({ name, guards }: Job, ctx: Context): Promise<Check[]> {
  return await Promise.all(
    guards.flatMap(guard =>
      guard.check ? attempt(`${guard.name} of ${name}`, async () => (await guard.check?.(ctx)) ?? '') : [],
    ),
  )
}

/** A program that is not there would only be noticed at night. Lines for the shell are the shell's. */
async function checkHooks(job: string, app: App): Promise<Check[]> {
  const { before, after, onFailure } = app.hooks(job)
  const programs = [...before, ...after, ...onFailure].flatMap(({ run }) =>
    typeof run === 'string' ? [] : [run[0] ?? ''],
  )
  return await Promise.all(
    [...new Set(programs)].map(program =>
      attempt(`hook ${program} of ${job}`, async () =>
        needProgram(program, 'correct its path in hooks, or make it executable with chmod +x'),
      ),
    ),
  )
}

/** Nothing is sent: at a check of healthchecks.io even a visit begins a run. Somebody who is away today may be back at night. */
async function checkWebhooks(job: string, app: App, ctx: Context): Promise<Check[]> {
  const what = `webhooks of ${job}`
  const checks = await attempt(what, async () => {
    const reached = await Promise.all(app.notifiers(job).map(notifier => notifier.check(edge(ctx))))
    return reached.flat().map(({ place, found, fault }) => ({
      what: `${what}: ${place}`,
      ...{ ok: true, found, remedy: fault?.remedy ?? '' },
      ...(fault ? { warning: true as const } : {}),
    }))
  })
  return Array.isArray(checks) ? checks : [checks]
}

/** Encodes a few bytes: missing programs and unusable keys show at once. */
async function checkStages(stages: readonly Stage[], ctx: Context): Promise<string> {
  const steps = stages.map(stage => stage.encode())
  await collect(flow(sample(), steps, edge(ctx)))
  const names = steps.map((step, index) => nameOf(step, stages[index]?.name ?? '')).join(', ') || 'none'
  return stages.some(stage => stage.encrypts) ? names : `${names}: backups are NOT encrypted`
}

/** Whether the keys of this host open what it encrypts. One without such a key writes only, on purpose. */
async function checkOpens({ name, stages }: Job, app: App, ctx: Context): Promise<Check[]> {
  if (!stages.some(stage => stage.encrypts)) return []
  const entries = stages.map(stage => ({ name: stage.name, ...stage.facts }))
  const record = { name: 'a sample', stages: entries }
  const check = await attempt(`keys for ${name}`, async () => {
    const reading = await app.reading(undefined)
    if (!reading.canDecode(record)) return ''
    const encoded = flow(
      sample(),
      stages.map(stage => stage.encode()),
      edge(ctx),
    )
    const back = reading.stagesOf(record).toReversed()
    const steps = back.map(stage => stage.decode())
    const plain = await collect(flow(encoded, steps, edge(ctx)))
    if (plain.toString() !== sampleText) throw new Error('what comes back is not what was encrypted')
    return 'what it encrypts can be read with them'
  })
  ctx.signal.throwIfAborted()
  if (check.ok) return check.found === '' ? [] : [check]
  const found = `the keys of this host do not open what the job encrypts: ${check.found}`
  return [{ what: check.what, ok: true, warning: true, found, remedy: anotherKey }]
}

const anotherKey =
  'set identity to a key of one of the recipients, or leave it out where a host is only to write; keep the key that fits where you can find it'

/** Where a program that is faster is missing, the work is done in this process. */
function nameOf(step: Step, stage: string): string {
  return isProgram(step) ? `${stage} by ${step.program}` : `${stage} in Node.js`
}

async function* sample(): AsyncGenerator<Uint8Array, void, undefined> {
  yield Buffer.from(sampleText)
}

const sampleText = 'cairn'

/** One fixed key for each host: in a bucket that locks by default it cannot be deleted, and must not pile up. */
async function checkStore(store: Store, app: App, ctx: Context): Promise<Check[]> {
  const key = `.cairn/v1/canary/${safeName(app.state.host.replace('/', '-'))}`
  const body = Buffer.from(`cairn ${ctx.clock.now().toISOString()}\n`)
  const checks = [
    await attempt(`store ${store.name}: reachable`, async () =>
      store.probe(awaited(edge(ctx))).then(() => 'yes'),
    ),
  ]
  if (!checks[0]?.ok) return checks
  const advice = await store.advice?.(edge(ctx)).catch(() => null)
  if (advice) checks.push(toWarn(`store ${store.name}`, advice))
  checks.push(
    await attempt(`store ${store.name}: write`, async () => {
      await store.put(key, body, { replace: true }, ctx)
      return 'a small object was written'
    }),
  )
  if (!checks.at(-1)?.ok) return checks
  if (store.can.read) {
    checks.push(
      await unlessForbidden(`store ${store.name}: read`, async () => {
        const read = await collect(store.get(key, {}, ctx))
        if (!read.equals(body)) throw new Error('what was read is not what was written')
        return 'it came back byte for byte'
      }),
    )
  }
  if (store.can.remove) {
    const remove = (): Promise<string> => store.remove(key, undefined, ctx)
    checks.push(await unlessForbidden(`store ${store.name}: delete`, remove))
  }
  return checks
}

async function checkKeys(app: App): Promise<string> {
  const { keyFile, unread } = await app.reading(undefined)
  if (unread[0]) throw unread[0]
  return keyFile
    ? `${keyFile} can be read`
    : 'no key file on this host: it can restore only what is not encrypted'
}

async function attempt(what: string, work: () => Promise<string>): Promise<Check>
async function attempt(what: string, work: () => Promise<Check[]>): Promise<Check | Check[]>
async function attempt(what: string, work: () => Promise<string | Check[]>): Promise<Check | Check[]> {
  try {
    const found = await work()
    return typeof found === 'string' ? { what, ok: true, found, remedy: '' } : found
  } catch (error) {
    const failure = asFailure(error, what)
    return { what, ok: false, found: failure.message, remedy: failure.remedy }
  }
}

/** A good host may be one that shall only write. */
async function unlessForbidden(what: string, work: () => Promise<string>): Promise<Check> {
  let isForbidden = false
  const check = await attempt(what, () =>
    work().catch((error: unknown) => {
      isForbidden = error instanceof Forbidden
      throw error
    }),
  )
  const remedy = 'nothing, if this host shall only write; `cairn prune` and restores need another one then'
  return isForbidden ? { ...check, ok: true, warning: true, remedy } : check
}

function line({ what, ok, warning, found, remedy }: Check): string {
  const good = warning ? paint('yellow', 'warn', process.stdout) : paint('green', 'ok  ', process.stdout)
  const sign = ok ? good : paint('red', 'FAIL', process.stdout)
  return `${sign}  ${what}: ${found}${remedy ? `\n      ${remedy}` : ''}`
}
