// An HTTP proxy that brings every CONNECT, to whatever name, to one port of this machine: azurite-proxy.ts PORT TARGET

import { createServer } from 'node:http'
import { connect } from 'node:net'

const [port, target] = process.argv.slice(2).map(Number)

createServer((_incoming, answer) => answer.end('for CONNECT only\n'))
  .on('connect', (_incoming, client, head) => {
    const server = connect(target ?? 0, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n')
      server.write(head)
      client.pipe(server).pipe(client)
    })
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const)
      one.on('error', () => other.destroy()).on('close', () => other.destroy())
  })
  .listen(port, '127.0.0.1')
