import { setTimeout as sleep } from 'node:timers/promises'
import type { App } from '../app.ts'
import { guardScope } from '../engine/guards.ts'
import { planRestore, restore } from '../engine/restore.ts'
import { manifestFrom } from '../engine/stated.ts'
import type { Context } from '../model/context.ts'
import { type ExitCode, exitCode, usage } from '../model/failure.ts'
import { showCount, showDuration, writeDuration } from '../model/quantity.ts'
import type { RestoreOptions, RestorePlan, Selection } from '../model/restore.ts'
import type { Guard } from '../model/source.ts'
import { takeLock } from '../platform/lock.ts'
import { asJson, canAsk, consent, type Global, out, outDone, outJson, paint, say, sayFailure } from './io.ts'
import { findBackup, readingOf, withApp } from './work.ts'

interface Options extends Global {
  readonly store: readonly string[]
  readonly identity?: string
  readonly to?: string
  readonly only?: readonly string[]
  readonly allow: readonly string[]
  /** Commander's way to say --no-owner. */
  readonly owner?: boolean
  readonly privileges?: boolean
  readonly role?: string
  readonly create?: boolean
  readonly jobs?: number
  readonly schemaOnly?: boolean
  readonly dataOnly?: boolean
  readonly dryRun?: boolean
  /** In milliseconds. */
  readonly delay?: number
  readonly yes?: boolean
}

/** `cairn restore BACKUP`: says what it would do, asks where something would be replaced, and does it, whole or not at all. */
export function run(handle: string, options: Options): Promise<ExitCode> {
  return withApp(options, async ({ app, ctx, report }) => {
    const { entry } = await findBackup(app, await app.stores(options.store), handle, ctx, true)
    const { manifest } = await manifestFrom(entry, ctx)
    const { stagesOf } = await readingOf(app, options.identity)
    const restorer = app.restorer(manifest, options.to ?? null)
    const pick = selectionOf(options)
    const from = entry.copies.map(copy => copy.store)
    const plan = await planRestore(manifest, from, restorer, pick, stagesOf, ctx)
    report.end()
    for (const why of plan.warnings) sayFailure({ what: 'restore', why, remedy: '' }, 'warning')
    if (options.dryRun) {
      if (options.json) await outJson({ cairn: 1, id: manifest.id, dryRun: true, ...plan })
      else await out(planText(manifest.id, plan))
      return exitCode.ok
    }
    if (!options.quiet && !options.json) say(planText(manifest.id, plan))
    const replace = await mayReplace(plan, options, ctx.signal)
    const started = performance.now()
    const pause = options.delay === undefined ? undefined : timeToCancel(options.delay, ctx)
    const work = (enter?: Step) =>
      restore(manifest, from, restorer, pick, replace, stagesOf, ctx, inOrder(pause, enter))
    const guard = options.to === undefined ? app.standstill(manifest.job) : null
    const { done, isLeft } = guard
      ? await within(guard, manifest.job, app, ctx, work)
      : { done: await work(), isLeft: true }
    report.end()
    for (const why of done.warnings) sayFailure({ what: 'restored, but', why, remedy: '' }, 'warning')
    const seconds = showDuration(performance.now() - started)
    const { isShort, ...told } = done
    const result = options.json
      ? asJson({ id: manifest.id, ...told, cairn: 1 })
      : `${paint('green', 'restored', process.stdout)} ${manifest.id} to ${done.target} in ${seconds}${counted(done)}`
    return await outDone(result, isLeft && !isShort ? exitCode.ok : exitCode.partial)
  })
}

/** Something that is done before anything is touched. */
type Step = () => Promise<void>

/** Undefined where there is nothing to do. */
function inOrder(...maybe: (Step | undefined)[]): Step | undefined {
  const steps = maybe.filter(step => step !== undefined)
  if (steps.length === 0) return undefined
  return async () => {
    for (const step of steps) await step()
  }
}

/** Throws what ended the run where it was cancelled. */
function timeToCancel(ms: number, ctx: Context): Step {
  return async () => {
    ctx.emit({ type: 'notice', text: `nothing was touched yet: Ctrl-C within ${writeDuration(ms)} cancels` })
    await sleep(ms, undefined, { signal: ctx.signal }).catch(() => ctx.signal.throwIfAborted())
  }
}

/**
 * The job's lock is held: a backup would stop and start the same containers. The guard is entered when `work` is ready to
 * touch something. `isLeft`: false where the guard could not be left, which was reported; what was restored is none the
 * worse for it.
 */
async function within<T>(
  guard: Guard,
  job: string,
  app: App,
  ctx: Context,
  work: (ready: Step) => Promise<T>,
): Promise<{ done: T; isLeft: boolean }> {
  using _lock = await takeLock(app.state.lockPath(job), `job ${job}`)
  await guard.recover(ctx)
  const scope = guardScope([guard])
  let isLeft = true
  const leave = (): Promise<void> =>
    scope.leave(ctx).catch(() => {
      isLeft = false
    })
  const done = await work(() => scope.enter(ctx)).finally(leave)
  return { done, isLeft }
}

function selectionOf(o: Options): Selection {
  const said: RestoreOptions = {
    ...(o.owner === false ? { noOwner: true } : {}),
    ...(o.privileges === false ? { noPrivileges: true } : {}),
    ...(o.role === undefined ? {} : { role: o.role }),
    ...(o.create ? { create: true } : {}),
    ...(o.jobs === undefined ? {} : { jobs: o.jobs }),
    ...(o.schemaOnly ? { schemaOnly: true } : {}),
    ...(o.dataOnly ? { dataOnly: true } : {}),
  }
  return { ...(o.only ? { only: o.only } : {}), allow: new Set(o.allow), options: said }
}

function planText(id: string, plan: RestorePlan): string {
  const replaces = plan.replaces.map(what => `  replaces ${what}`)
  return [`restore ${id} to ${plan.target}:`, ...plan.steps.map(step => `  ${step}`), ...replaces].join('\n')
}

function counted({ objects, rows }: { objects: number | null; rows: number | null }): string {
  if (objects === null) return ''
  const found = `: ${showCount(objects, 'object')}`
  return rows === null ? found : `${found}, ${showCount(rows, 'row')}`
}

/** Whether what is there may be replaced: asked only when something is. */
async function mayReplace(plan: RestorePlan, options: Options, signal: AbortSignal): Promise<boolean> {
  if (plan.replaces.length === 0) return options.yes === true
  if (options.yes) return true
  const what = `${plan.target} is not empty`
  if (!canAsk())
    throw usage(
      what,
      `${showCount(plan.replaces.length, 'thing')} would be replaced, and nobody can be asked`,
      'give --yes, or another --to',
    )
  if (await consent(`${what}: ${showCount(plan.replaces.length, 'thing')} will be replaced.`, signal))
    return true
  throw usage(what, 'it was not to be replaced', 'nothing was touched')
}
