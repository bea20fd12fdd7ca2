/** Room for so many at once, given in the order in which they came. */
export interface Slots {
  /** Waits for room. Disposing what was taken lets the next one in. */
  take(signal: AbortSignal): Promise<Disposable>
  /** From now on so many: more come in at once, and where it is fewer nobody is thrown out. */
  resize(count: number): void
}

export function slots(count: number): Slots {
  let room = count
  let taken = 0
  const waiting: (() => void)[] = []
  const letIn = (): void => {
    while (taken < room) {
      const next = waiting.shift()
      if (!next) return
      taken++
      next()
    }
  }
  const take = async (signal: AbortSignal): Promise<Disposable> => {
    signal.throwIfAborted()
    if (waiting.length === 0 && taken < room) taken++
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
  return {
    take,
    resize(to) {
      room = to
      letIn()
    },
  }
}
