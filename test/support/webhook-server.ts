import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A request as it came in. */
export interface Call {
  readonly at: number
  readonly method: string
  readonly path: string
  readonly type: string | undefined
  readonly body: string
}

export interface WebhookServer extends AsyncDisposable {
  readonly origin: string
  readonly calls: Call[]
  /** `start`, `fail`, …: the last part of every path so far. */
  words(): string[]
  /** Resolves when that many calls were made whose path ends so. */
  called(word: string, times?: number): Promise<Call>
}

type Behaviour = (call: Call, response: ServerResponse, request: IncomingMessage) => void

/** A real HTTP server that writes down what it is asked; it says 200 unless told otherwise. */
export async function webhookServer(
  behave: Behaviour = (_call, response) => response.end('OK'),
): Promise<WebhookServer> {
  const calls: Call[] = []
  let heard = (): void => {}
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const call = {
        at: Date.now(),
        method: request.method ?? '',
        path: request.url ?? '',
        type: request.headers['content-type'],
        body: Buffer.concat(chunks).toString('utf8'),
      }
      calls.push(call)
      heard()
      behave(call, response, request)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    words: () => calls.map(({ path }) => path.slice(path.lastIndexOf('/') + 1)),
    async called(word, times = 1) {
      for (;;) {
        const call = calls.filter(({ path }) => path.endsWith(`/${word}`))[times - 1]
        if (call) return call
        await new Promise<void>(resolve => {
          heard = resolve
        })
      }
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
