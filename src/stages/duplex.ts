import type { Duplex } from 'node:stream'
import type { Bytes } from '../model/step.ts'

/**
 * Bytes through a duplex stream of Node's, such as those of node:zlib. Ends when both the input and the stream have
 * ended well; throws what the input throws, unchanged, the reason of an abort, or what the stream says. Whatever
 * happens, the stream is destroyed and the input returned. At most the stream's own buffers are held in memory.
 */
export async function* through(
  duplex: Duplex,
  input: Bytes,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  const abort = (): unknown => duplex.destroy(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  const fed = feed(input, duplex)
  fed.catch(error => duplex.destroy(error))
  try {
    yield* duplex
    await fed
  } finally {
    signal.removeEventListener('abort', abort)
    duplex.destroy()
    await fed.catch(() => {})
  }
}

async function feed(input: Bytes, duplex: Duplex): Promise<void> {
  for await (const chunk of input) {
    if (duplex.destroyed) return
    if (!duplex.write(chunk)) await drained(duplex)
  }
  duplex.end()
}

/**
 * Resolves when the stream takes more, or is gone. Not `once`: a race of two would leave a listener behind for
 * every chunk. Not the callback of `write`: zlib never calls it when destroyed while its output was full.
 */
function drained(duplex: Duplex): Promise<void> {
  if (duplex.destroyed) return Promise.resolve()
  return new Promise(resolve => {
    const done = (): void => {
      duplex.off('drain', done).off('close', done)
      resolve()
    }
    duplex.on('drain', done).on('close', done)
  })
}
