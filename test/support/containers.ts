import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DockerFacts } from '../services/facts.ts'
import { run } from '../services/process.ts'

/** The docker command against an engine of the tests. */
export interface Engine {
  readonly env: Record<string, string>
  docker(...args: string[]): Promise<string>
  /** A project of its own; down removes all of it. */
  compose(folder: string, services: object, more?: object): Promise<Project>
  /** `running`, `exited`, `paused`, …; `gone`. */
  state(container: string): Promise<string>
  /** Listens to `docker events` from now on, until it is disposed: Docker remembers the last 256, and each health check is three. */
  events(...args: string[]): Events
}

export interface Events extends Disposable {
  /** What was told so far. */
  lines(): string[]
}

export interface Project {
  readonly name: string
  do(...args: string[]): Promise<string>
  container(service: string, number?: number): string
}

export function engineOf({ host, program, config }: DockerFacts): Engine {
  const env = { DOCKER_HOST: host, DOCKER_CONFIG: config }
  const docker = (...args: string[]): Promise<string> => run(program, args, { env })
  return {
    env,
    docker,
    async compose(folder, services, more = {}) {
      const name = `t${randomBytes(4).toString('hex')}`
      const file = join(folder, 'compose.yaml')
      writeFileSync(file, JSON.stringify({ name, services, ...more }))
      const act = (...args: string[]): Promise<string> => docker('compose', '-f', file, ...args)
      return { name, do: act, container: (service, number = 1) => `${name}-${service}-${number}` }
    },
    state: name =>
      docker('inspect', '-f', '{{.State.Status}}', name).then(
        said => said.trim(),
        () => 'gone',
      ),
    events(...args) {
      const since = String(Date.now() / 1000)
      const listening = spawn(program, ['events', '--since', since, ...args], {
        env: { ...process.env, ...env },
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let text = ''
      listening.stdout.setEncoding('utf8').on('data', more => {
        text += more
      })
      return {
        lines: () => text.split('\n').filter(Boolean),
        [Symbol.dispose]: () => void listening.kill('SIGKILL'),
      }
    },
  }
}

/** Writes into /data/state whether it runs, and ends as soon as it is told to. */
export const polite =
  'echo running > /data/state; trap "echo stopped > /data/state; exit 0" TERM; while :; do sleep 0.05; done'
/** Must be killed. */
export const stubborn = 'trap "" TERM; while :; do sleep 0.05; done'
