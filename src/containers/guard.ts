import { setTimeout as sleep } from 'node:timers/promises'
import type { Context } from '../model/context.ts'
import { asFailure, Failure } from '../model/failure.ts'
import type { Guard } from '../model/source.ts'
import { waitForLock } from '../platform/lock.ts'
import type { State } from '../platform/state.ts'
import { type Choice, choose, type Listed, stopOrder } from './choose.ts'
import { askFor, type Docker, docker, Refused } from './client.ts'
import { exec, goesWhenStopped, type Held, ready, start, stop } from './container.ts'
import { ourselves } from './self.ts'
import { type Server, servingOf } from './serving.ts'

const defaultAddress = 'unix:///var/run/docker.sock'

/** What a job says about the containers of its machine. */
export interface ContainerOptions {
  readonly stop: readonly string[]
  readonly project?: string | undefined
  /** Docker's address; DOCKER_HOST unless set. */
  readonly host?: string | undefined
  readonly waitMs: number
  readonly startWaitMs: number
  readonly startTimeoutMs: number
  readonly execTimeoutMs: number
  /** Whether the commands of labels are run; not where nothing is backed up. */
  readonly isBackup: boolean
  /** The databases that are read, or restored into: without their containers that could not be done. */
  servers(): Promise<readonly Server[]>
}

/** What must be undone: in the journal before anything is done. */
interface Entered {
  readonly since: string
  /** Those of one level were stopped together; in the order of stopping. */
  readonly levels: readonly (readonly Held[])[]
  /** How many levels were told to stop. */
  readonly told: number
  /** Whether all that were told to have stopped; if not, Docker may still be about to stop some. */
  readonly isStill: boolean
  /** Commands that are to be run at the end. */
  readonly after: readonly Command[]
  /** What earlier runs had stopped and could not start again. */
  readonly down?: readonly Held[]
}

interface Command {
  readonly id: string
  readonly name: string
  readonly command: string
}

/** What could not be undone, and why. */
interface Undone {
  readonly down: readonly Held[]
  readonly after: readonly Command[]
  readonly failure: Failure
}

/**
 * Containers that stand still while a job reads: stopped, those first that depend on others, and started in the opposite
 * order whatever happens. What will be stopped stands in the journal before: a run that was killed is put right by the next one.
 * What cannot be started stays there: each run tries again, and fails, until it runs or is gone.
 * One job at a time: a second one would find the same containers stopped, and the first would start them while it reads.
 */
export function containerGuard(
  job: string,
  options: ContainerOptions,
  { journal, lockPath }: Pick<State, 'journal' | 'lockPath'>,
): Guard {
  const at = options.host || process.env.DOCKER_HOST || defaultAddress
  const entry = `containers.${job}`
  let entered: Entered | null = null
  let alone: Disposable | null = null
  const turn = (ctx: Context): Promise<Disposable> =>
    waitForLock(lockPath('.containers'), 'the containers', ctx.signal, () =>
      ctx.emit({ type: 'notice', text: 'waits: the containers of another job are still stopped', job }),
    )
  const note = (now: Entered): void => {
    journal.write(entry, now)
    entered = now
  }
  const written = (): Entered | null =>
    (journal.entries().find(({ name }) => name === entry)?.entry as Entered | undefined) ?? null

  return {
    name: 'containers',
    isLeft: () => written() !== null,
    get leaveMs() {
      return longest(entered, options)
    },
    async check(ctx) {
      const { stop, exec } = await choiceOf(docker(at), job, options, ctx)
      const names = stopOrder(stop).map(level => level.map(({ name }) => name).join(', '))
      const within = exec.map(({ container }) => container.name).join(', ')
      return `stops ${names.join(', then ') || 'none'}${within && `; runs commands in ${within}`}`
    },
    async enter(ctx) {
      alone = await turn(ctx)
      const engine = docker(at)
      const choice = await choiceOf(engine, job, options, ctx)
      // Somebody may have started it since.
      const down = (written()?.down ?? []).filter(({ id }) => !choice.stop.some(each => each.id === id))
      if (choice.stop.length === 0 && choice.exec.length === 0 && down.length === 0) return
      note({ ...planned(choice, ctx), down })
      for (const { container, before } of choice.exec)
        if (before) await exec(engine, container, before, options.execTimeoutMs, ctx)
      await stopAll(engine, entered, note, ctx)
      if (choice.stop.length > 0) await sleep(options.waitMs, undefined, { signal: ctx.signal })
    },
    async leave(ctx) {
      try {
        if (entered) {
          const left = await undo(docker(at), entered, options, ctx)
          if (left) {
            note(remaining(entered, left.down, left.after))
            throw left.failure
          }
          journal.remove(entry)
        }
        entered = null
      } finally {
        alone?.[Symbol.dispose]()
        alone = null
      }
    },
    async recover(ctx) {
      const left = written()
      if (!left) return
      using _turn = await turn(ctx)
      const engine = docker(at)
      // Without an answer it stays as it is, for the next time.
      await engine.ask('GET', '/_ping', { signal: ctx.signal, patienceMs: 10_000 })
      ctx.emit(foundStopped(left))
      const undone = await undo(engine, left, options, ctx)
      ctx.signal.throwIfAborted()
      if (undone) {
        const { what, why, remedy } = undone.failure
        ctx.emit({ type: 'warning', what, why, remedy })
      }
      // A command is tried no third time.
      if (undone && undone.down.length > 0) journal.write(entry, remaining(left, undone.down, []))
      else journal.remove(entry)
    },
  }
}

async function choiceOf(
  engine: Docker,
  job: string,
  options: ContainerOptions,
  ctx: Context,
): Promise<Choice> {
  const all = await listed(engine, ctx.signal)
  const { self, project } = await ourselves(engine, options.project)
  const choice = choose(all, { job, names: options.stop, project, self })
  const warn = (what: string, why: string, remedy: string): void =>
    ctx.emit({ type: 'warning', what, why, remedy })
  for (const note of choice.notes) warn(...note)
  const servers = choice.stop.length > 0 ? await options.servers() : []
  const serving = await servingOf(engine, servers, self)
  const stop: Listed[] = []
  for (const each of choice.stop) {
    const server = await serving(each)
    if (server !== null && options.isBackup)
      warn(
        `container ${each.name} is not stopped`,
        `the database at ${server} runs in it, and is read`,
        'take it out of the list',
      )
    else if (server !== null)
      ctx.emit({
        type: 'notice',
        text: `container ${each.name} is not stopped: the database at ${server} runs in it, and is restored into`,
      })
    else if (await goesWhenStopped(engine, each.id))
      warn(
        `container ${each.name} is not stopped`,
        'it was started with --rm: Docker would remove it',
        'start it without --rm',
      )
    else stop.push(each)
  }
  return { ...choice, stop, exec: options.isBackup ? choice.exec : [] }
}

async function listed(engine: Docker, signal: AbortSignal): Promise<Listed[]> {
  const all = await askFor<
    { Id: string; Names: string[] | null; State: string; Labels: Record<string, string> | null }[]
  >(engine, '/containers/json?all=true', { signal })
  return all.map(({ Id, Names, State, Labels }) => ({
    id: Id,
    // A linked container has further names, such as /other/alias.
    name: (Names ?? []).find(name => name.lastIndexOf('/') === 0)?.slice(1) ?? Id.slice(0, 12),
    state: State,
    labels: Labels ?? {},
  }))
}

function planned({ stop, exec }: Choice, ctx: Context): Entered {
  const held = ({ id, name, state }: Listed): Held => ({ id, name, wasPaused: state === 'paused' })
  return {
    since: ctx.clock.now().toISOString(),
    levels: stopOrder(stop).map(level => level.map(held)),
    told: 0,
    isStill: true,
    after: exec.flatMap(({ container: { id, name }, after }) =>
      after ? [{ id, name, command: after }] : [],
    ),
  }
}

async function stopAll(
  engine: Docker,
  plan: Entered | null,
  note: (now: Entered) => void,
  ctx: Context,
): Promise<void> {
  for (const [index, level] of (plan?.levels ?? []).entries()) {
    ctx.signal.throwIfAborted()
    const now = { ...(plan as Entered), told: index + 1 }
    note({ ...now, isStill: false })
    // All answers are awaited, also after one failed: only then is it known that nobody stops later.
    const answers = await Promise.allSettled(level.map(each => stop(engine, each, ctx)))
    note({ ...now, isStill: true })
    const failed = answers.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined
    if (failed) throw asFailure(failed.reason, 'cannot stop containers')
  }
}

function remaining({ since }: Entered, down: readonly Held[], after: readonly Command[]): Entered {
  return { since, levels: [], told: 0, isStill: true, after, down }
}

/**
 * Starts what was stopped, waits until it is ready, and runs the last commands. Goes on after a failure; returns what is
 * still to be done then, with the first failure. A container that is gone, or not ready in time, is a warning: nothing more can be done for it.
 */
async function undo(
  engine: Docker,
  left: Entered,
  options: ContainerOptions,
  ctx: Context,
): Promise<Undone | null> {
  const failures: Failure[] = []
  const failed = async <T>(what: string, each: T, work: () => Promise<unknown>): Promise<T[]> => {
    try {
      await work()
      return []
    } catch (error) {
      failures.push(asFailure(error, what))
      return [each]
    }
  }
  const started = (level: readonly Held[], isStill: boolean | null): Promise<Held[][]> =>
    Promise.all(
      level.map(each =>
        failed(`container ${each.name} cannot be started`, each, () =>
          startOne(engine, each, isStill, options, ctx),
        ),
      ),
    )
  const down: Held[][] = await started(left.down ?? [], null)
  const levels = left.levels.slice(0, left.told).toReversed()
  for (const level of levels) down.push(...(await started(level, left.isStill)))
  if (levels.length > 0) await sleep(options.startWaitMs, undefined, { signal: ctx.signal })
  const after: Command[] = []
  for (const each of left.after)
    after.push(
      ...(await failed('', each, () => exec(engine, each, each.command, options.execTimeoutMs, ctx))),
    )
  const [failure] = failures
  return failure ? { down: down.flat(), after, failure } : null
}

/** `isStill` as it was noted; null where it has been down for longer, so that nobody wonders who has started it. */
async function startOne(
  engine: Docker,
  held: Held,
  isStill: boolean | null,
  options: ContainerOptions,
  ctx: Context,
): Promise<void> {
  const { name } = held
  const warn = (what: string, why: string, remedy: string): void =>
    ctx.emit({ type: 'warning', what: `container ${name} ${what}`, why, remedy })
  try {
    // Docker may be about to stop it for a run that is dead: it is waited for by asking for the same.
    if (isStill === false) await stop(engine, { ...held, wasPaused: false }, ctx)
    const { wasRunning } = await start(engine, held, ctx)
    if (wasRunning && isStill)
      warn('was running while it was read', 'somebody else had started it', 'see who else starts containers')
    const fault = await ready(engine, held, options.startTimeoutMs, ctx)
    if (fault) warn('was started and is not ready', fault, `docker logs ${name} tells more`)
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    if (error.status === 404) {
      warn('is gone', 'it was removed or made anew while it was stopped', 'check that it runs')
      return
    }
    const what = `container ${name} cannot be started again`
    const remedy = `docker start ${name}; or docker rm ${name}, if it is not needed any more`
    throw new Failure({ what, why: error.why, remedy, cause: error })
  }
}

function foundStopped({ since, levels, told, down = [] }: Entered) {
  const names = [...levels.slice(0, told).flat(), ...down].map(({ name }) => name)
  return {
    type: 'warning' as const,
    what:
      levels.length === 0 && down.length > 0
        ? 'an earlier run could not start again all that it had stopped'
        : 'an earlier run did not end',
    why: `it began at ${since}`,
    remedy: names.length > 0 ? `now starting what it had stopped: ${names.join(', ')}` : '',
  }
}

/** Docker may be restarting while it is asked, several times for each level; and no timer counts further than 24 days. */
function longest(entered: Entered | null, options: ContainerOptions): number {
  const { startTimeoutMs, startWaitMs, execTimeoutMs } = options
  const count = (entered?.levels.length ?? 0) + (entered?.down?.length ? 1 : 0)
  const levels = count * (startTimeoutMs + 5 * 60_000)
  const commands = (entered?.after.length ?? 0) * execTimeoutMs
  return Math.min(levels + startWaitMs + commands + 60_000, 2 ** 31 - 1)
}
