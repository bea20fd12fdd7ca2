/** Lets so many in at once, in the order in which they came. Disposing what was taken lets the next one in. */
export function slots(count: number): (signal: AbortSignal) => Promise<Disposable> {
  let free = count
  const waiting: (() => void)[] = []
  const leave = (): void => {
    const next = waiting.shift()
    if (next) next()
    else free++
  }
  return async signal => {
    signal.throwIfAborted()
    if (free > 0) free--
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
        if (isTaken) leave()
        isTaken = false
      },
    }
  }
}
