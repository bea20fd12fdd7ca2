import { once } from 'node:events'
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What the proxy knows of a request before it decides. */
export interface Seen {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
  /** From 1, over all requests. */
  readonly number: number
}

/** What happens to a request instead of being forwarded. */
export type Fault =
  /** Answers by itself, after having read the request. */
  | { readonly status: number; readonly body?: string }
  /** Reads the request and says nothing. */
  | { readonly hang: true }
  /** Forwards, and breaks the connection after so many bytes of the request's body. */
  | { readonly cutRequestAfter: number }
  /** Forwards, and breaks the connection after so many bytes of the answer's body. */
  | { readonly cutAnswerAfter: number }
  /** Lets the server do it, and breaks the connection before the answer. */
  | { readonly loseAnswer: true }
  /** Forwards after a while. */
  | { readonly delayMs: number }

export interface S3Proxy extends AsyncDisposable {
  readonly endpoint: string
  /** Every request, in the order of arrival. */
  readonly seen: readonly Seen[]
  /** Decides for each request; undefined forwards it. */
  rule: (request: Seen) => Fault | undefined | Promise<Fault | undefined>
}

/**
 * A proxy before a real S3 server that does what networks, gateways and lesser servers do. Signatures hold through
 * it, because the Host header stays as the client wrote it.
 */
export async function s3Proxy(target: string): Promise<S3Proxy> {
  const seen: Seen[] = []
  const server = createServer((incoming, outgoing) => {
    outgoing.on('error', () => {})
    void handle(incoming, outgoing).catch(() => outgoing.destroy())
  })

  async function handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(incoming.url ?? '/', target)
    const { method = '', headers } = incoming
    const request = { method, path: pathname, query: searchParams, headers, number: seen.length + 1 }
    seen.push(request)
    const fault = (await proxy.rule(request)) ?? { delayMs: 0 }
    if ('status' in fault || 'hang' in fault) {
      incoming.resume()
      await once(incoming, 'end')
      if ('status' in fault) {
        outgoing.writeHead(fault.status, { 'content-type': 'application/xml' }).end(fault.body ?? '')
      }
      return
    }
    if ('delayMs' in fault) await new Promise(resolve => setTimeout(resolve, fault.delayMs))
    forward(incoming, outgoing, target, fault)
  }

  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy: S3Proxy = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    rule: () => undefined,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return proxy
}

function forward(incoming: IncomingMessage, outgoing: ServerResponse, target: string, fault: Fault): void {
  const { hostname, port } = new URL(target)
  const { method, url, headers } = incoming
  const upstream = httpRequest({ hostname, port, method, path: url, headers, agent: false }, answer => {
    if ('loseAnswer' in fault) {
      answer.resume().on('end', () => outgoing.destroy())
      return
    }
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
    copy(answer, outgoing, 'cutAnswerAfter' in fault ? fault.cutAnswerAfter : undefined, () =>
      outgoing.destroy(),
    )
  })
  upstream.on('error', () => outgoing.destroy())
  outgoing.on('close', () => upstream.destroy())
  copy(incoming, upstream, 'cutRequestAfter' in fault ? fault.cutRequestAfter : undefined, () => {
    // A request that has come whole by now does not take its connection along.
    incoming.socket.destroy()
    upstream.destroy()
  })
}

function copy(
  from: NodeJS.ReadableStream,
  to: NodeJS.WritableStream,
  limit: number | undefined,
  cut: () => void,
): void {
  if (limit === undefined) {
    from.pipe(to)
    return
  }
  let left = limit
  from.on('data', (chunk: Buffer) => {
    if (left <= 0) return
    to.write(chunk.subarray(0, left))
    left -= chunk.length
    // What was written is to get there first.
    if (left <= 0) setTimeout(cut, 20)
  })
  from.on('error', () => {})
}

/** An answer in the words of S3. */
export function s3Error(status: number, code: string, message = ''): Fault {
  return {
    status,
    body: `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`,
  }
}
