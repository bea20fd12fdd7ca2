import { connect } from 'node:net'
import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import type { Reach } from '../../model/notifier.ts'

const defaultPorts: Readonly<Record<string, number>> = { 'http:': 80, 'https:': 443 }

/** Whether the host of a URL, or the proxy on the way to it, takes a connection. Not a byte is sent. Throws only when aborted. */
export async function reach(url: URL, ctx: Context, timeoutMs: number): Promise<Reach> {
  const proxy = proxyFor(url)
  const to = proxy ?? url
  const place = url.origin
  try {
    await connected(to, AbortSignal.any([ctx.signal, AbortSignal.timeout(timeoutMs)]))
    const found = proxy ? `the proxy on the way, ${proxy.host}, answers` : `${to.host} answers`
    return { place, found, fault: null }
  } catch (error) {
    ctx.signal.throwIfAborted()
    const why = reason(error as Error, to.host, timeoutMs)
    const remedy = 'check the host in the URL, the network and the firewall'
    return { place, found: why, fault: new Failure({ what: `${place} cannot be reached`, why, remedy }) }
  }
}

function connected(to: URL, signal: AbortSignal): Promise<void> {
  // An address of IPv6 stands in brackets.
  const host = to.hostname.replace(/^\[|\]$/g, '')
  const port = to.port === '' ? (defaultPorts[to.protocol] ?? 443) : Number(to.port)
  return new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const socket = connect({ host, port })
    const stop = (): void => {
      socket.destroy()
      reject(signal.reason)
    }
    signal.addEventListener('abort', stop, { once: true })
    socket.once('connect', resolve).once('error', reject)
    socket.once('close', () => signal.removeEventListener('abort', stop))
    socket.once('connect', () => socket.destroy())
  })
}

function reason(error: Error, host: string, timeoutMs: number): string {
  const { code } = error as NodeJS.ErrnoException
  if (error.name === 'TimeoutError') return `${host} did not answer within ${timeoutMs / 1000} s`
  if (error instanceof AggregateError)
    return reason(error.errors[0] ?? new Error('no answer'), host, timeoutMs)
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return `no address is known for ${host}`
  if (code === 'ECONNREFUSED') return `${host} refuses the connection`
  return `${host}: ${code ?? error.message}`
}

/** The proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for it; null: none. */
function proxyFor({ protocol, hostname, port }: URL): URL | null {
  const of = (name: string): string => process.env[name.toLowerCase()] || process.env[name] || ''
  const named = of(protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY')
  const excepted = of('NO_PROXY')
    .split(/[\s,]+/)
    .filter(Boolean)
  const own = port === '' ? String(defaultPorts[protocol]) : port
  const isExcepted = excepted.some(each => {
    const [name = '', itsPort] = each.split(/:(?=\d+$)/)
    if (itsPort !== undefined && itsPort !== own) return false
    const suffix = name.replace(/^\*?\.?/, '')
    return name === '*' || hostname === suffix || (suffix !== '' && hostname.endsWith(`.${suffix}`))
  })
  return URL.canParse(named) && !isExcepted ? new URL(named) : null
}
