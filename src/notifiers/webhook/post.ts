import type { IncomingMessage } from 'node:http'
import { http, https } from '../../platform/http.ts'

/** How one attempt to POST ended. */
export interface Answer {
  readonly ok: boolean
  /** Why not, without the URL. */
  readonly why: string
  /** Whether another try might do better. */
  readonly again: boolean
}

/** POSTs once, through the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name. Never throws. */
export function post(
  url: URL,
  headers: Readonly<Record<string, string>>,
  body: Buffer,
  signal: AbortSignal,
  timeoutMs: number,
): Promise<Answer> {
  const secure = url.protocol === 'https:'
  const proxy = { proxyEnv: process.env }
  const agent = secure ? new https.Agent(proxy) : new http.Agent(proxy)
  const limit = AbortSignal.timeout(timeoutMs)
  return new Promise<Answer>(resolve => {
    const failed = (error: Error): void =>
      resolve({
        ok: false,
        again: true,
        why: limit.aborted ? `no answer within ${timeoutMs / 1000} s` : reason(error),
      })
    try {
      const sent = (secure ? https.request : http.request)(
        url,
        {
          agent,
          method: 'POST',
          headers: { ...headers, 'content-length': body.length, 'user-agent': 'cairn' },
          signal: AbortSignal.any([signal, limit]),
        },
        response => {
          // What it goes on to say is not for us.
          response.on('error', () => {}).resume()
          resolve(judge(response))
        },
      )
      sent.on('error', failed)
      sent.end(body)
    } catch (error) {
      failed(error as Error)
    }
  }).finally(() => agent.destroy())
}

function judge({ statusCode = 0, headers }: IncomingMessage): Answer {
  if (statusCode >= 200 && statusCode < 300) return { ok: true, why: '', again: false }
  if (statusCode >= 300 && statusCode < 400) {
    const to =
      headers.location && URL.canParse(headers.location) ? ` to ${new URL(headers.location).origin}` : ''
    return { ok: false, why: `it redirects${to} (HTTP ${statusCode})`, again: false }
  }
  const again = statusCode >= 500 || statusCode === 429 || statusCode === 408
  return { ok: false, why: `the answer was HTTP ${statusCode}`, again }
}

function reason(error: Error): string {
  const { code } = error as NodeJS.ErrnoException
  if (error instanceof AggregateError) return error.errors.map(reason).join('; ')
  if (code === 'ECONNRESET') return 'the connection was cut'
  return error.message || code || error.name
}
