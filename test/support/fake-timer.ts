import type { Timer } from '../../src/daemon/timer.ts'

/** A clock that stands still until somebody waits; then it is the time that was waited for. */
export interface FakeTimer extends Timer {
  /** Sets the clock: the machine slept, or somebody put it right. */
  set(date: Date | string): void
  /** Lets time go by while something is done. */
  pass(ms: number): void
  /** Called before each wait, with the time that is waited for. */
  onWait: (date: Date) => void
}

export function fakeTimer(start: string): FakeTimer {
  let now = new Date(start)
  const timer: FakeTimer = {
    now: () => now,
    set: date => {
      now = new Date(date)
    },
    pass: ms => {
      now = new Date(now.getTime() + ms)
    },
    onWait: () => {},
    async until(date, signal) {
      await new Promise(resolve => setImmediate(resolve))
      const before = now
      timer.onWait(date)
      signal.throwIfAborted()
      if (now < before) timer.pass(date.getTime() - before.getTime())
      else if (date > now) now = date
    },
  }
  return timer
}
