import { randomUUID } from 'node:crypto'
import type { ClientRequest } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Context } from '../../model/context.ts'
import type { Bytes } from '../../model/step.ts'
import { abortable, answerOf, type Daemon } from './daemon.ts'
import { isUnseen } from './failure.ts'

/** How long rclone may take to clean up after an upload that we break off, before and after it is told firmly. */
const graceMs = 5_000

/** How often rclone is asked whether it has given up. */
const askMs = 2_000

/** Chunks are gathered to this size: each is a message to rclone. */
const messageBytes = 256 * 1024

/**
 * Streams an object of unknown size through `operations/uploadfile` and returns its size; on return rclone has it
 * whole in the remote. A body that throws, an abort, or a refusal of rclone's is thrown as it is, after rclone has
 * cleaned up as far as its backend can.
 */
export async function upload(
  daemon: Daemon,
  to: { readonly fs: string; readonly folder: string; readonly name: string },
  body: Bytes,
  ctx: Context,
): Promise<number> {
  const boundary = `cairn-${randomUUID()}`
  const group = boundary
  const query = new URLSearchParams({ fs: to.fs, remote: to.folder, _group: group })
  const type = `multipart/form-data; boundary=${boundary}`
  const sent = daemon.send('POST', `/operations/uploadfile?${query}`, { 'content-type': type })
  const answer = answerOf(sent)
  const breaks = breaksOn(answer, daemon, group, ctx.signal)
  let bytes = 0
  try {
    // Written as RFC 5987 has it: in quotes, a name with a line end would be refused.
    const name = `filename*=utf-8''${encodeURIComponent(to.name).replaceAll(/['()*]/g, percent)}`
    sent.write(`--${boundary}\r\nContent-Disposition: form-data; name="file"; ${name}\r\n\r\n`)
    for await (const chunk of interruptible(gathered(body), breaks)) {
      bytes += chunk.byteLength
      if (!sent.write(chunk))
        await breaks.wait(new Promise<void>(resolve => void sent.once('drain', resolve)))
    }
    breaks.leave()
    sent.end(`\r\n--${boundary}--\r\n`)
    const { status, text } = await abortable(answer, ctx.signal)
    const refusal = status === 200 ? null : daemon.said(text)
    if (refusal && !isUnseen(refusal)) throw refusal
    return bytes
  } catch (error) {
    breaks.leave()
    await breakOff(daemon, sent, answer, group)
    ctx.signal.throwIfAborted()
    throw await daemon.reason(error)
  }
}

function percent(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`
}

/** What ends an upload from outside while it waits: for its body, or for rclone to take more. */
interface Breaks {
  wait<T>(promise: Promise<T>): Promise<T>
  leave(): void
}

/**
 * Breaks on an abort, and when rclone has failed or answered before it has everything. It has to be asked: after a
 * failure it reads the whole rest of the body before it says so, which may take hours.
 *
 * Not a `Promise.race` with the answer: a promise that is long in coming keeps every value that was raced against
 * it, here the whole object.
 */
function breaksOn(
  answer: Promise<{ text: string }>,
  daemon: Daemon,
  group: string,
  signal: AbortSignal,
): Breaks {
  let broken: { reason: unknown } | null = null
  let waiting: ((reason: unknown) => void) | null = null
  const end = (reason: unknown): void => {
    broken ??= { reason }
    waiting?.(broken.reason)
  }
  const abort = (): void => end(signal.reason)
  if (signal.aborted) abort()
  signal.addEventListener('abort', abort, { once: true })
  answer.then(({ text }) => end(daemon.said(text)), end)
  const asking = setInterval(async () => {
    const error = await lastError(daemon, group)
    if (error !== null) end(daemon.said(error))
  }, askMs)
  return {
    wait: promise =>
      new Promise((resolve, reject) => {
        promise.then(resolve, reject)
        if (broken) reject(broken.reason)
        waiting = reject
      }),
    leave() {
      signal.removeEventListener('abort', abort)
      clearInterval(asking)
    },
  }
}

/** Why the transfers of a group have failed; null while they have not. */
async function lastError(daemon: Daemon, group: string): Promise<string | null> {
  const stats = await daemon.call('core/stats', { group }, AbortSignal.timeout(askMs)).catch(() => null)
  return Number(stats?.errors ?? 0) > 0 ? String(stats?.lastError ?? 'the upload has failed') : null
}

async function* gathered(body: Bytes): AsyncGenerator<Uint8Array, void, undefined> {
  let pending: Uint8Array[] = []
  let size = 0
  for await (const chunk of body) {
    pending.push(chunk)
    size += chunk.byteLength
    if (size < messageBytes) continue
    yield pending.length === 1 ? chunk : Buffer.concat(pending)
    pending = []
    size = 0
  }
  if (size > 0) yield Buffer.concat(pending)
}

/** The bytes, until something breaks, even while the body keeps us waiting. */
async function* interruptible(bytes: Bytes, breaks: Breaks): Bytes {
  const iterator = bytes[Symbol.asyncIterator]()
  let waiting = false
  try {
    for (;;) {
      waiting = true
      const next = await breaks.wait(iterator.next())
      waiting = false
      if (next.done) return
      yield next.value
    }
  } finally {
    const left = Promise.resolve(iterator.return?.()).catch(() => {})
    // Who is waited for in vain would not notice that nobody waits any more.
    if (!waiting) await left
  }
}

/**
 * Ends an upload that must not become an object, and waits until rclone has cleaned up. A request that just ends
 * early is not enough: some backends take what came so far for the whole. So we send what is no chunk of HTTP;
 * rclone's reader then fails with an error that nobody takes for an end.
 */
async function breakOff(
  daemon: Daemon,
  sent: ClientRequest,
  answer: Promise<unknown>,
  group: string,
): Promise<void> {
  const answered = answer.then(
    () => true,
    () => true,
  )
  const gone = async (): Promise<boolean> => Promise.race([answered, sleep(graceMs, false, { ref: false })])
  if (sent.socket && !sent.destroyed) sent.socket.write('no chunk\r\n')
  else sent.destroy()
  if (!(await gone())) {
    // rclone is busy writing to a remote that does not take it.
    await daemon.call('job/stopgroup', { group }, AbortSignal.timeout(graceMs)).catch(() => {})
    await gone()
  }
  sent.destroy()
}
