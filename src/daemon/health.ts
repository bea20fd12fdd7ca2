import { createServer } from 'node:http'
import { usage } from '../model/failure.ts'

/** What is known of a job at the moment. */
export interface JobHealth {
  readonly running: boolean
  /** How the last run of this host ended, or is; null when there was none. */
  readonly lastRun: { readonly id: string; readonly at: string; readonly exit: number | null } | null
  /** When something good last arrived in each store, of the unit that has waited for longest; null: never. */
  readonly lastGood: Readonly<Record<string, string | null>>
  readonly nextRun: string | null
  /** The stores in which something is overdue. */
  readonly alarm: readonly string[]
  /** What is: `in disk`, and where the job has several units `of customers in disk`. */
  readonly overdue: readonly string[]
}

export type Health = Readonly<Record<string, JobHealth>>

/** So many connections at once: each takes a file, and backups need some too. */
const connections = 64

/**
 * Answers `GET /health`: 200, or 503 while something is overdue, with the state of every job as JSON; a run that failed is
 * told there too, but only what is overdue makes 503. 500 when the state cannot be told. Nothing else is served. Disposing closes it. Throws a Failure (exit 2)
 * when the address cannot be had.
 */
export async function serveHealth(
  address: { readonly host: string | undefined; readonly port: number },
  health: () => Health,
): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer((request, response) => {
    const path = request.url?.split('?')[0]
    const isRead = request.method === 'GET' || request.method === 'HEAD'
    if (path !== '/health' || !isRead) return void response.writeHead(path === '/health' ? 405 : 404).end()
    const jobs = answerOrNull(health)
    if (!jobs) return void response.writeHead(500).end()
    const isWell = Object.values(jobs).every(({ alarm }) => alarm.length === 0)
    const body = `${JSON.stringify({ cairn: 1, ok: isWell, jobs }, null, 2)}\n`
    response.writeHead(isWell ? 200 : 503, {
      'content-type': 'application/json',
      'cache-control': 'no-store',
    })
    response.end(request.method === 'HEAD' ? undefined : body)
  })
  server.maxConnections = connections
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'another program listens there' : error.message
      const place = `${address.host ?? '*'}:${address.port}`
      reject(usage(`cannot listen on ${place}`, why, 'choose another address: --listen, or "serve.listen"'))
    })
    server.listen(address.port, address.host, resolve)
  })
  const bound = server.address()
  return {
    port: typeof bound === 'object' && bound ? bound.port : address.port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

/** Whoever asks must not end what is asked. */
function answerOrNull(health: () => Health): Health | null {
  try {
    return health()
  } catch {
    return null
  }
}
