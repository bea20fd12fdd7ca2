import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import { NotFound } from '../../model/store.ts'
import { beforeStall } from '../../platform/stall.ts'
import { type Daemon, responseTo } from './daemon.ts'
import { isAbsent } from './failure.ts'

/**
 * Streams an object, or its bytes from the first to the last of the range, through rclone's own serving of objects.
 * Throws NotFound; a stream that ends early throws.
 */
export async function* download(
  daemon: Daemon,
  from: { readonly fs: string; readonly remote: string; readonly what: string },
  range: readonly [number, number] | undefined,
  ctx: Context,
): AsyncGenerator<Uint8Array, void, undefined> {
  const path = [`[${from.fs}]`, ...from.remote.split('/')].map(encodeURIComponent).join('/')
  const sent = daemon.send('GET', `/${path}`, range ? { range: `bytes=${range[0]}-${range[1]}` } : {})
  const stop = (): void => void sent.destroy(new Error('stopped'))
  ctx.signal.addEventListener('abort', stop, { once: true })
  try {
    ctx.signal.throwIfAborted()
    const response = responseTo(sent)
    sent.end()
    const begun = await beforeStall(response, ctx, () => from.what)
    const status = begun.statusCode ?? 0
    if (status !== 200 && status !== 206) throw await missing(daemon, begun)
    const size = Number(begun.headers['content-length'])
    if (!Number.isSafeInteger(size)) {
      throw new Failure({ what: `cannot read ${from.what}`, why: 'the remote does not tell how large it is' })
    }
    let bytes = 0
    const chunks = begun[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>
    for (;;) {
      const next = await beforeStall(chunks.next(), ctx, () => from.what)
      if (next.done) break
      bytes += next.value.byteLength
      yield next.value
    }
    if (bytes !== size) throw new Error(`${bytes} of ${size} bytes came`)
  } catch (error) {
    ctx.signal.throwIfAborted()
    throw await cutShort(daemon, error, from.what)
  } finally {
    ctx.signal.removeEventListener('abort', stop)
    sent.destroy()
  }
}

async function missing(daemon: Daemon, response: AsyncIterable<Uint8Array>): Promise<unknown> {
  const chunks = await Array.fromAsync(response)
  const error = daemon.said(Buffer.concat(chunks).toString())
  return isAbsent(error) ? new NotFound(error.message) : error
}

async function cutShort(daemon: Daemon, error: unknown, what: string): Promise<unknown> {
  if (error instanceof NotFound || error instanceof Failure) return error
  const reason = await daemon.reason(error)
  if (reason !== error) return reason
  if (!(error instanceof Error) || error.name === 'RcloneError') return error
  return new Failure({
    what: `cannot read ${what}`,
    why: `it was cut short (${error.message})`,
    remedy: 'check the connection to the remote, and try again',
    cause: error,
  })
}
