/**
 * Lets so many in at once, in the order in which they came. Disposing what was taken lets the next one in. How many is
 * asked every time: a number that falls throws nobody out.
 */
export function slots(count: () => number): (signal: AbortSignal) => Promise<Disposable> {
  let taken = 0
  const waiting: (() => void)[] = []
  const letIn = (): void => {
    while (taken < count()) {
      const next = waiting.shift()
      if (!next) return
      taken++
      next()
    }
  }
  return async signal => {
    signal.throwIfAborted()
    if (waiting.length === 0 && taken < count()) taken++
    else
      await new Promise<void>((resolve, reject) => {
        const enter = (): void => {
          signal.removeEventListener('abort', abort)
          resolve()
        }
        const abort = (): void => {
          waiting.splice(waiting.indexOf(enter), 1)
          reject(signal.reason)
        }
        waiting.push(enter)
        signal.addEventListener('abort', abort, { once: true })
      })
    let isTaken = true
    return {
      [Symbol.dispose]() {
        if (isTaken) taken--
        isTaken = false
        letIn()
      },
    }
  }
}
