// One registry for all test processes of a run: HTTP on a Unix socket.
//
// POST /postgres/16 answers 200 with the facts, 503 with the reason why there is none, or 500 with what went wrong.

import { createServer, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { type Facts, type ServiceName, ServiceUnavailable } from './facts.ts'
import { createRegistry, type Registry } from './registry.ts'

export interface Broker {
  socket: string
  /** Stops every service. Synchronous, so that it can be the last thing a dying process does. */
  stop(): void
}

/** `dir` must be short: the path of a Unix socket has at most 107 bytes. */
export async function startBroker(dir: string): Promise<Broker> {
  const registry = createRegistry(dir)
  const socket = `${dir}/broker`
  const server = createServer(async (incoming, answer) => {
    const [, name, variant] = (incoming.url ?? '').split('/')
    try {
      const facts = await registry.get(name as ServiceName, variant ? Number(variant) : undefined)
      answer.writeHead(200).end(JSON.stringify(facts))
    } catch (error) {
      answer.writeHead(error instanceof ServiceUnavailable ? 503 : 500).end((error as Error).message)
    }
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(socket, resolve)
  })
  return {
    socket,
    stop() {
      server.close()
      server.closeAllConnections()
      registry.stop()
    },
  }
}

/** A registry at the other end of the socket, which somebody else stops. */
export function connectBroker(socketPath: string): Registry {
  return {
    async get(name, variant) {
      const { status, body } = await post(
        socketPath,
        variant === undefined ? `/${name}` : `/${name}/${variant}`,
      )
      if (status === 503) throw new ServiceUnavailable(body)
      if (status !== 200) throw new Error(body)
      return JSON.parse(body) as Facts[ServiceName]
    },
    stop() {},
  }
}

function post(socketPath: string, path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    // A connection of its own: one that was kept may be closed by the broker just when it is used again.
    const asking = request({ socketPath, path, method: 'POST', agent: false }, async answer => {
      resolve({ status: answer.statusCode ?? 0, body: await text(answer) })
    })
    asking.on('error', reject).end()
  })
}
