// What is entered around the reading of a job: hooks, containers that stand still.

import type { ContainersConfig, HooksConfig, JobConfig } from '../config/schema.ts'
import { type ContainerOptions, containerGuard } from '../containers/index.ts'
import { type Hook, type Hooks, hookGuard } from '../engine/hooks.ts'
import type { Guard } from '../model/source.ts'
import type { State } from '../platform/state.ts'

const day = 24 * 3_600_000

export function hooksOf(hooks: HooksConfig | undefined): Hooks {
  const each = (list: HooksConfig['before']): Hook[] =>
    (list ?? []).map(({ run, timeout, env }) => ({
      run,
      timeoutMs: timeout,
      env: async () => {
        const values = Object.entries(env).map(async ([name, from]) => [name, await from.read()] as const)
        return Object.fromEntries(await Promise.all(values))
      },
    }))
  return { before: each(hooks?.before), after: each(hooks?.after), onFailure: each(hooks?.onFailure) }
}

export function guardsOf(
  job: string,
  { hooks, containers }: Pick<JobConfig, 'hooks' | 'containers'>,
  servers: ContainerOptions['servers'],
  state: State,
): Guard[] {
  return [
    ...(hooks ? [hookGuard(job, hooksOf(hooks), state.journal)] : []),
    ...(containers ? [containerGuard(job, containerOptions(containers, servers), state)] : []),
  ]
}

/** Longer waits than a timer can count make no sense here. */
const longestWaitMs = 20 * day

/** `servers`: whose containers are to go on. */
export function containerOptions(
  { wait, startWait, startTimeout, execTimeout, ...said }: ContainersConfig,
  servers: ContainerOptions['servers'],
): ContainerOptions {
  const upTo = (ms: number): number => Math.min(ms, longestWaitMs)
  return {
    ...said,
    waitMs: upTo(wait),
    startWaitMs: upTo(startWait),
    startTimeoutMs: upTo(startTimeout),
    execTimeoutMs: upTo(execTimeout),
    isBackup: true,
    servers,
  }
}
