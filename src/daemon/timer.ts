import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../model/context.ts'

/** The time, and waiting for it; tests give their own. */
export interface Timer extends Clock {
  /**
   * Resolves when that time has come, or when so much time has gone by, should the clock have been put back meanwhile; throws the
   * signal's reason when it is aborted before.
   */
  until(date: Date, signal: AbortSignal): Promise<void>
}

/** A timer does not go on while the machine sleeps: so we look at the clock again. */
const lookAgainMs = 10_000

export const realTimer: Timer = {
  now: () => new Date(),
  async until(date, signal) {
    const enough = performance.now() + date.getTime() - Date.now()
    for (;;) {
      signal.throwIfAborted()
      const ms = Math.min(date.getTime() - Date.now(), enough - performance.now())
      if (ms <= 0) return
      await sleep(Math.min(ms, lookAgainMs), undefined, { signal }).catch(() => signal.throwIfAborted())
    }
  },
}
