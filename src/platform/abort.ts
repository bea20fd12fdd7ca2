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

/** Waits for promises, but not beyond the abort of a signal: with one listener for all of them, until it is disposed. */
export class Waiter implements Disposable {
  readonly #signal: AbortSignal
  readonly #waiting = new Set<(reason: unknown) => void>()
  readonly #abort = (): void => {
    for (const reject of this.#waiting) reject(this.#signal.reason)
  }

  constructor(signal: AbortSignal) {
    this.#signal = signal
    signal.addEventListener('abort', this.#abort, { once: true })
  }

  /** Settles as the promise does; throws the signal's reason as soon as it is aborted. */
  for<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#signal.aborted) reject(this.#signal.reason)
      this.#waiting.add(reject)
      promise.then(
        value => {
          this.#waiting.delete(reject)
          resolve(value)
        },
        error => {
          this.#waiting.delete(reject)
          reject(error)
        },
      )
    })
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener('abort', this.#abort)
  }
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
