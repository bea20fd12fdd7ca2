import type { Context } from '../model/context.ts'
import { asFailure, Failure } from '../model/failure.ts'
import { writeDuration } from '../model/quantity.ts'
import type { Secret } from '../model/secret.ts'
import type { Guard } from '../model/source.ts'
import { flow } from '../platform/flow.ts'
import { homeFolder } from '../platform/home.ts'
import { describeExit } from '../platform/program.ts'
import { edge } from '../platform/run-context.ts'
import type { Journal } from '../platform/state.ts'

/** A command of the user's that runs at a moment of a job. */
export interface Hook {
  /** A line for `/bin/sh`, or a program and its arguments. */
  readonly run: string | readonly string[]
  readonly timeoutMs: number
  /** Read when the hook runs. */
  env(): Promise<Readonly<Record<string, Secret>>>
}

export interface Hooks {
  /** Before a source is looked at; the first that fails stops the job. */
  readonly before: readonly Hook[]
  /** When the sources were read, whatever happened: all of them, in their order. */
  readonly after: readonly Hook[]
  /** When the job failed, wholly or in part, at its end. */
  readonly onFailure: readonly Hook[]
}

const tailBytes = 600

/**
 * `before` and `after` as a guard around the reading. That `before` was begun stands in the journal until `after` was run:
 * when we were killed in between, the next run of the job runs `after` first.
 */
export function hookGuard(job: string, hooks: Hooks, journal: Journal): Guard {
  const entry = `hooks.${job}`
  const runAfter = async (ctx: Context): Promise<void> => {
    let failure: { error: unknown } | null = null
    for (const hook of hooks.after) {
      await runHook(hook, { hook: 'after', job }, ctx).catch(error => {
        failure ??= { error }
      })
    }
    if (failure) throw (failure as { error: unknown }).error
    journal.remove(entry)
  }
  const isLeft = (): boolean => journal.entries().some(({ name }) => name === entry)
  return {
    name: 'hooks',
    isLeft,
    leaveMs: hooks.after.reduce((sum, hook) => sum + hook.timeoutMs + 10_000, 0),
    async enter(ctx) {
      journal.write(entry, { since: ctx.clock.now().toISOString() })
      for (const hook of hooks.before) await runHook(hook, { hook: 'before', job }, ctx)
    },
    leave: runAfter,
    async recover(ctx) {
      if (isLeft()) await runAfter(ctx)
    },
  }
}

/** Tells those hooks; one that fails is a warning, because the job has failed already. */
export async function runFailureHooks(
  job: string,
  hooks: Hooks,
  failures: readonly Failure[],
  ctx: Context,
): Promise<void> {
  const error = failures.map(({ message }) => message).join('\n')
  for (const hook of hooks.onFailure) {
    try {
      await runHook(hook, { hook: 'onFailure', job, error }, ctx)
    } catch (thrown) {
      const { what, why, remedy } = asFailure(thrown, 'a hook failed')
      ctx.emit({ type: 'warning', what, why, remedy })
    }
  }
}

/** Throws a Failure when it fails or takes too long; nothing that it started runs on then. */
async function runHook(
  hook: Hook,
  facts: { readonly hook: string; readonly job: string; readonly error?: string },
  ctx: Context,
): Promise<void> {
  const [program, ...args] = typeof hook.run === 'string' ? ['/bin/sh', '-c', hook.run] : hook.run
  const shown = typeof hook.run === 'string' ? hook.run : hook.run.join(' ')
  const what = `the ${facts.hook} hook of ${facts.job} failed: ${shown}`
  const timeout = AbortSignal.timeout(hook.timeoutMs)
  // It may be silent for as long as it likes, within its time.
  const inner = {
    ...edge(ctx),
    signal: AbortSignal.any([ctx.signal, timeout]),
    stallMs: hook.timeoutMs + 60_000,
  }
  let said = Buffer.alloc(0)
  try {
    const running = {
      program: program ?? '',
      args,
      cwd: process.cwd(),
      env: { ...(await hook.env()), ...environment(facts) },
      judge: (exit: Parameters<typeof describeExit>[0], stderrTail: string) =>
        exit.code === 0
          ? null
          : new Failure({ what, why: describeExit(exit, stderrTail || said.toString('utf8')) }),
    }
    for await (const chunk of flow(running, [], inner))
      said = Buffer.concat([said, chunk]).subarray(-tailBytes)
  } catch (error) {
    ctx.signal.throwIfAborted()
    if (!timeout.aborted) throw asFailure(error, what)
    throw new Failure({
      what,
      why: `it took longer than ${writeDuration(hook.timeoutMs)}, and was ended`,
      remedy: 'set its "timeout" higher, or find out what it waits for',
    })
  }
}

function environment(facts: {
  readonly hook: string
  readonly job: string
  readonly error?: string
}): Record<string, string> {
  return {
    HOME: homeFolder(),
    ...(process.env.USER ? { USER: process.env.USER } : {}),
    CAIRN_HOOK: facts.hook,
    CAIRN_JOB: facts.job,
    ...(facts.error === undefined ? {} : { CAIRN_ERROR: facts.error }),
  }
}
