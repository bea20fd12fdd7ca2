import { existsSync, readFileSync, statSync } from 'node:fs'
import type { ClientRequest, IncomingMessage, RequestOptions } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure, usage } from '../model/failure.ts'
import { http, https } from '../platform/http.ts'

/** How long an answer may take where Docker has nothing to wait for. */
const answerMs = 60_000
const retryMs = 500

/** Docker's Engine API, as much of it as stopping and starting needs. Paths are unversioned: the engine takes its own version. */
export interface Docker {
  /** Where it answers, for messages. */
  readonly address: string
  /**
   * One request. Throws a `Refused` with Docker's own words for a status of 400 and more, a Failure with a remedy
   * where Docker cannot be reached. `patience`: goes on asking for so many milliseconds while Docker does not
   * answer, as during its restart; only for what may be repeated.
   */
  ask(method: 'GET' | 'POST', path: string, options?: AskOptions): Promise<Answer>
}

export interface AskOptions {
  readonly body?: unknown
  readonly timeoutMs?: number
  readonly patienceMs?: number
  readonly signal?: AbortSignal
  /** Of a longer answer only the beginning is kept. */
  readonly keepBytes?: number
}

export interface Answer {
  readonly status: number
  readonly body: Buffer
  /** True when an earlier try may have had its effect. */
  readonly wasRetried: boolean
}

/** Docker understood, and said no. */
export class Refused extends Failure {
  readonly status: number

  constructor(what: string, status: number, why: string) {
    super({ what, why: `Docker says: ${why}` })
    this.status = status
  }
}

/** The engine at an address (`unix:///var/run/docker.sock`, `tcp://host:2375`), as DOCKER_HOST has it. Asks nothing yet. */
export function docker(address: string, env: NodeJS.ProcessEnv = process.env): Docker {
  const { start, socketPath } = transport(address, env)
  return {
    address,
    async ask(method, path, options = {}) {
      const deadline = performance.now() + (options.patienceMs ?? 0)
      for (let tries = 1; ; tries++) {
        options.signal?.throwIfAborted()
        try {
          const answer = await once(start, method, path, options)
          if (answer.status === 503 && performance.now() < deadline) throw new Error('Docker is starting')
          if (answer.status >= 400) throw new Refused(`${method} ${path}`, answer.status, saidIn(answer.body))
          return { ...answer, wasRetried: tries > 1 }
        } catch (error) {
          if (error instanceof Refused) throw error
          options.signal?.throwIfAborted()
          if (performance.now() >= deadline) throw unreachable(address, socketPath, error as Error)
          await sleep(retryMs)
        }
      }
    },
  }
}

/** The same as JSON. */
export async function askFor<T>(from: Docker, path: string, options?: AskOptions): Promise<T> {
  const { body } = await from.ask('GET', path, options)
  return JSON.parse(body.toString('utf8')) as T
}

type Start = (options: RequestOptions, answered: (message: IncomingMessage) => void) => ClientRequest

function transport(address: string, env: NodeJS.ProcessEnv): { start: Start; socketPath: string | null } {
  const path = /^unix:\/\/(\/.+)$/.exec(address)?.[1]
  if (path !== undefined)
    return {
      socketPath: path,
      start: (options, answered) => http.request({ ...options, socketPath: path, host: 'docker' }, answered),
    }
  const at = /^(tcp|https?):\/\/(\[[0-9a-f:]+\]|[^/:]+)(?::(\d+))?\/?$/i.exec(address)
  if (!at)
    throw usage(
      `cannot reach Docker at ${address.replace(/\/\/.*@/, '//…@')}`,
      'the address is of no kind that Cairn knows',
      'write unix:///var/run/docker.sock or tcp://HOST:PORT',
    )
  const [, scheme, host = '', port] = at
  const isTls = scheme === 'https' || Boolean(env.DOCKER_TLS_VERIFY)
  const where = { host: host.replace(/^\[|\]$/g, ''), port: port ?? (isTls ? 2376 : 2375) }
  if (!isTls)
    return {
      socketPath: null,
      start: (options, answered) => http.request({ ...options, ...where }, answered),
    }
  const keys = tlsKeys(env.DOCKER_CERT_PATH || join(env.HOME ?? '/root', '.docker'))
  return {
    socketPath: null,
    start: (options, answered) => https.request({ ...options, ...where, ...keys }, answered),
  }
}

/** What the folder of DOCKER_CERT_PATH holds, under the names that the docker command uses. */
function tlsKeys(folder: string): Record<string, Buffer> {
  const files = { ca: 'ca.pem', cert: 'cert.pem', key: 'key.pem' }
  const there = Object.entries(files).filter(([, file]) => existsSync(join(folder, file)))
  return Object.fromEntries(there.map(([name, file]) => [name, readFileSync(join(folder, file))]))
}

function once(
  start: Start,
  method: string,
  path: string,
  { body, timeoutMs = answerMs, signal, keepBytes = Number.POSITIVE_INFINITY }: AskOptions,
): Promise<Omit<Answer, 'wasRetried'>> {
  const sent = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
  const headers = sent ? { 'content-type': 'application/json', 'content-length': sent.byteLength } : {}
  return new Promise((resolve, reject) => {
    // A connection of its own: one that was kept may be closed just when it is used again.
    const options = { method, path, headers, agent: false, ...(signal ? { signal } : {}) }
    const asking = start(options, async answer => {
      try {
        const chunks: Buffer[] = []
        let bytes = 0
        for await (const chunk of answer as AsyncIterable<Buffer>) {
          if (bytes < keepBytes) chunks.push(chunk)
          bytes += chunk.byteLength
        }
        resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(chunks) })
      } catch (error) {
        reject(error)
      }
    })
    asking.setTimeout(timeoutMs, () => asking.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)))
    asking.on('error', reject).end(sent)
  })
}

/** Docker answers errors as `{"message": "…"}`. */
function saidIn(body: Buffer): string {
  const text = body.toString('utf8').trim()
  try {
    return (JSON.parse(text) as { message?: string }).message ?? text
  } catch {
    return text || 'nothing'
  }
}

function unreachable(address: string, socketPath: string | null, error: Error): Failure {
  const what = `cannot reach Docker at ${address}`
  const code = (error as NodeJS.ErrnoException).code
  if (code === 'EACCES' && socketPath !== null) {
    const gid = groupOf(socketPath)
    return usage(
      what,
      `user ${process.geteuid?.()} may not use the socket, which belongs to group ${gid}`,
      `in the compose file, give Cairn that group: group_add: ["${gid}"]; or docker run --group-add ${gid}`,
    )
  }
  if (code === 'ENOENT' && socketPath !== null)
    return usage(
      what,
      'there is no such socket',
      `mount it into Cairn's container: -v ${socketPath}:${socketPath}; or set DOCKER_HOST`,
    )
  const why = error.message || String(code)
  return new Failure({ what, why, remedy: 'check that Docker runs, and DOCKER_HOST', cause: error })
}

function groupOf(path: string): number | string {
  try {
    return statSync(path).gid
  } catch {
    return '(unknown)'
  }
}
