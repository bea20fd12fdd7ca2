import { setTimeout as sleep } from 'node:timers/promises'

/** Waits until a condition holds, which is asked for again and again; throws what it is about when that takes too long. */
export async function eventually(
  what: string,
  holds: () => Promise<boolean> | boolean,
  ms = 60_000,
): Promise<void> {
  const deadline = performance.now() + ms
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${ms / 1000} s: ${what}`)
    await sleep(50)
  }
}
