import { readFile } from 'node:fs/promises'
import type { Agent } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { S3, S3ClientConfig } from '@aws-sdk/client-s3'
import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { Secret } from '../../model/secret.ts'
import { shellQuoted } from '../../model/shell.ts'
import type { SecretSource } from '../../platform/secret-source.ts'
import { sendCustomerKey } from './customer-key.ts'
import { isPassing, isSilence } from './error.ts'
import type { S3Options } from './options.ts'

/** One request. `options` carries the signal; `attempt` counts from 1. */
type Request<T> = (s3: S3, options: { abortSignal: AbortSignal }, attempt: number) => Promise<T>

/** How often a request is tried, and how long the first pause is; each further one is four times as long. */
export interface Patience {
  readonly attempts: number
  readonly pauseMs: number
}

/** Bridges about 20 s, the time in which a gateway restarts. */
export const defaultPatience: Patience = { attempts: 5, pauseMs: 250 }

interface Ask {
  /** How long the server may be silent; default a third of `ctx.stallMs`, at most two minutes. */
  readonly silenceMs?: number
  /** The answer is read by the caller, at the caller's pace: only its beginning is waited for here. */
  readonly streams?: boolean
  readonly attempts?: number
}

/**
 * The connection to one bucket. Nothing is loaded, read or opened before the first request.
 *
 * `ask` repeats a request that failed for a passing reason, and throws what the SDK threw, untranslated, or the
 * signal's reason. A server that stays silent has failed after `ctx.stallMs`, usually after three attempts.
 */
export interface Connection {
  readonly bucket: string
  /** `s3://bucket` and where that is, for messages. */
  readonly where: string
  /** AWS itself, where every documented feature works. */
  readonly aws: boolean
  /** The secrets read so far: nothing shown may hold them. */
  readonly secrets: ReadonlySet<Secret>
  ask<T>(request: Request<T>, ctx: Context, how?: Ask): Promise<T>
  /** The server's time, as it stood in its last answer; null where that had none. */
  lastTime(): Date | null
  /** The AWS CLI's command that writes an object to stdout; it takes the credentials from its own chain. */
  shell(key: string): string
  close(): Promise<void>
}

export function connection(options: S3Options, patience: Patience): Connection {
  const endpoint = endpointOf(options)
  const aws = !endpoint || /(^|\.)amazonaws\.com(\.cn)?$/.test(new URL(endpoint).hostname)
  const secrets = new Set<Secret>()
  const clients = new Map<string, S3>()
  let shared: Promise<S3ClientConfig> | undefined
  let lastTime: Date | null = null

  /** Clients differ in their timeouts only; sockets and credentials are shared. */
  async function client(silenceMs: number, streams: boolean): Promise<S3> {
    shared ??= sharedConfig(options, endpoint, aws, secrets)
    const [{ S3 }, config] = await Promise.all([import('@aws-sdk/client-s3'), shared])
    const name = `${silenceMs} ${streams}`
    const known = clients.get(name)
    if (known) return known
    const made = new S3({
      ...config,
      requestHandler: { ...config.requestHandler, ...timeouts(silenceMs, streams) },
    })
    noteTimes(made, time => {
      lastTime = time
    })
    const key = await options.customerKey?.read()
    if (key) {
      secrets.add(key)
      sendCustomerKey(made, key)
    }
    // The first one's chain remembers what it found; without this each would ask the instance's role anew.
    shared = Promise.resolve({ ...config, credentials: made.config.credentials })
    clients.set(name, made)
    return made
  }

  async function ask<T>(request: Request<T>, ctx: Context, how: Ask = {}): Promise<T> {
    const silenceMs = how.silenceMs ?? Math.min(Math.ceil(ctx.stallMs / 3), 120_000)
    const s3 = await client(silenceMs, how.streams ?? false)
    let silences = 0
    const started = performance.now()
    for (let attempt = 1; ; attempt++) {
      ctx.signal.throwIfAborted()
      const pauseMs = patience.pauseMs * 4 ** (attempt - 1)
      try {
        return await request(s3, { abortSignal: ctx.signal }, attempt)
      } catch (error) {
        ctx.signal.throwIfAborted()
        if (isSilence(error)) silences++
        const stalled = silences * silenceMs >= ctx.stallMs
        const late = performance.now() + pauseMs - started > (ctx.patienceMs ?? Number.POSITIVE_INFINITY)
        if (stalled || late || attempt >= (how.attempts ?? patience.attempts) || !isPassing(error))
          throw error
      }
      await pause(pauseMs, ctx.signal)
    }
  }

  return {
    bucket: options.bucket,
    where: `s3://${options.bucket}${endpoint ? ` at ${new URL(endpoint).host}` : ''}`,
    aws,
    secrets,
    ask,
    lastTime: () => lastTime,
    shell: key => downloadCommand(options, endpoint, key),
    async close() {
      for (const each of clients.values()) each.destroy()
      clients.clear()
      shared = undefined
    },
  }
}

/** RFC 9110, 6.6.1: an answer says when it was made. */
function noteTimes(client: S3, note: (time: Date | null) => void): void {
  client.middlewareStack.add(
    next => async args => {
      const result = await next(args)
      const { headers } = result.response as { headers?: Readonly<Record<string, string>> }
      const time = new Date(headers?.date ?? '')
      note(Number.isNaN(time.getTime()) ? null : time)
      return result
    },
    { step: 'deserialize', name: 'noteTimes', priority: 'low' },
  )
}

/** Undefined for AWS. The variables are the AWS CLI's; the SDK knows them too, but would not tell us. */
function endpointOf(options: S3Options): string | undefined {
  const { AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_IGNORE_CONFIGURED_ENDPOINT_URLS } = process.env
  const ignored = AWS_IGNORE_CONFIGURED_ENDPOINT_URLS?.toLowerCase() === 'true'
  const endpoint =
    options.endpoint ?? (ignored ? undefined : AWS_ENDPOINT_URL_S3 || AWS_ENDPOINT_URL || undefined)
  return endpoint && new URL(endpoint).hostname !== 's3.amazonaws.com' ? endpoint : undefined
}

function downloadCommand(options: S3Options, endpoint: string | undefined, key: string): string {
  const flags = Object.entries({ 'endpoint-url': endpoint, region: options.region, profile: options.profile })
  const given = flags.flatMap(([name, value]) => (value ? [`--${name}`, shellQuoted(value)] : []))
  const encrypted = options.customerKey ? ['--sse-c AES256 --sse-c-key fileb://CUSTOMER_KEY'] : []
  return ['aws s3 cp', shellQuoted(`s3://${options.bucket}/${key}`), '-', ...given, ...encrypted].join(' ')
}

async function sharedConfig(
  options: S3Options,
  endpoint: string | undefined,
  aws: boolean,
  secrets: Set<Secret>,
): Promise<S3ClientConfig & { requestHandler: object }> {
  const { AWS_REGION, AWS_DEFAULT_REGION } = process.env
  const region = options.region ?? (AWS_REGION || AWS_DEFAULT_REGION || (endpoint ? 'us-east-1' : undefined))
  return {
    ...(endpoint && { endpoint }),
    ...(region && { region }),
    ...(options.profile && { profile: options.profile }),
    ...(options.accessKeyId && { credentials: () => ownCredentials(options, secrets) }),
    forcePathStyle: options.pathStyle ?? endpoint !== undefined,
    followRegionRedirects: true,
    // Retrying is ours: the SDK's pauses cannot be aborted, and it does not repeat a part that lies in a file.
    maxAttempts: 1,
    // Many servers refuse the checksum headers and trailers that the SDK adds unasked (R2, B2, Ceph before 18).
    ...(!aws && { requestChecksumCalculation: 'WHEN_REQUIRED', responseChecksumValidation: 'WHEN_REQUIRED' }),
    // Proxies answer it wrongly, and the SDK opens a new connection for every request that carries it.
    expectContinueHeader: false,
    // It writes to the console by itself where a stream cannot be repeated.
    logger: silent,
    requestHandler: { connectionTimeout: 10_000, logger: silent, ...(await agents(options)) },
  }
}

/** The SDK's sum over the whole exchange (`requestTimeout`) ends with the headers, its socket timeout does not. */
function timeouts(silenceMs: number, streams: boolean) {
  return streams ? { requestTimeout: silenceMs, throwOnRequestTimeout: true } : { socketTimeout: silenceMs }
}

async function agents(options: S3Options): Promise<{ httpAgent: Agent; httpsAgent: Agent }> {
  const [http, https, tls] = await Promise.all([
    import('node:http'),
    import('node:https'),
    import('node:tls'),
  ])
  const trusted = await authorities(options)
  const trust = trusted === null ? {} : { ca: [...tls.rootCertificates, trusted] }
  const common = { keepAlive: true, maxSockets: 64, proxyEnv: process.env }
  return { httpAgent: new http.Agent(common), httpsAgent: new https.Agent({ ...common, ...trust }) }
}

/** The variable is the AWS CLI's; the SDK does not know it. */
async function authorities({ caFile }: S3Options): Promise<string | null> {
  const [name, path] = caFile ? ['caFile', caFile] : ['AWS_CA_BUNDLE', process.env.AWS_CA_BUNDLE]
  if (!path) return null
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw usage(`cannot read ${name} ${path}`, (error as Error).message, 'check the path and its permissions')
  }
}

async function ownCredentials(options: S3Options, secrets: Set<Secret>) {
  const read = async (source: SecretSource | undefined): Promise<string | undefined> => {
    const secret = await source?.read()
    if (secret) secrets.add(secret)
    return secret?.reveal()
  }
  const accessKeyId = (await read(options.accessKeyId)) ?? ''
  const secretAccessKey = (await read(options.secretAccessKey)) ?? ''
  const sessionToken = await read(options.sessionToken)
  return { accessKeyId, secretAccessKey, ...(sessionToken && { sessionToken }) }
}

/** Between half of the time and all of it, so that many writers do not come back at the same moment. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms * (0.5 + Math.random() / 2), undefined, { signal })
  } catch {
    signal.throwIfAborted()
  }
}

const silent = { debug() {}, info() {}, warn() {}, error() {} }
