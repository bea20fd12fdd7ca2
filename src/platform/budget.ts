import type { MemoryBudget } from '../model/context.ts'

/** A budget of so many bytes. Nobody waits for memory: who finds it spent works with the least it can. */
export function memoryBudget(total: number): MemoryBudget {
  let taken = 0
  return {
    claim(want, least) {
      const bytes = Math.max(least, Math.min(want, total - taken))
      taken += bytes
      let held = true
      return {
        bytes,
        [Symbol.dispose]() {
          if (held) taken -= bytes
          held = false
        },
      }
    },
  }
}
