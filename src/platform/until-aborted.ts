import type { Bytes } from '../model/step.ts'

/** The chunks; when the signal is aborted its reason is thrown, even while the next chunk does not come. */
export async function* untilAborted(body: Bytes, signal: AbortSignal): Bytes {
  const chunks = body[Symbol.asyncIterator]()
  let stop: (reason: unknown) => void = () => {}
  const onAbort = (): void => stop(signal.reason)
  signal.addEventListener('abort', onAbort)
  let ended = false
  try {
    for (;;) {
      signal.throwIfAborted()
      // Not Promise.race with one promise for the abort: that would keep a reaction for every chunk.
      const next = await new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
        stop = reject
        chunks.next().then(resolve, reject)
      })
      ended = next.done === true
      if (next.done) return
      yield next.value
    }
  } finally {
    signal.removeEventListener('abort', onAbort)
    const gone = ended ? undefined : chunks.return?.()
    // A body that hangs would never answer.
    if (signal.aborted) gone?.catch(() => {})
    else await gone
  }
}
