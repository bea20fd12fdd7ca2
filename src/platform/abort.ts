/** A controller that is aborted with its parent. To be disposed, else the parent keeps it for as long as it lives. */
export function childOf(parent: AbortSignal): AbortController & Disposable {
  const child = new AbortController()
  const abort = (): void => child.abort(parent.reason)
  if (parent.aborted) abort()
  else parent.addEventListener('abort', abort, { once: true })
  return Object.assign(child, {
    [Symbol.dispose]: () => parent.removeEventListener('abort', abort),
  })
}

/** Waits for a promise; throws the signal's reason as soon as it is aborted. Leaves no listener behind. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason)
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

/** Waits for a promise, however it settles, but no longer than this. True if it did. */
export async function settlesWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>(resolve => {
    timer = setTimeout(resolve, ms, false)
  })
  const settled = promise.then(
    () => true,
    () => true,
  )
  try {
    return await Promise.race([settled, late])
  } finally {
    clearTimeout(timer)
  }
}
