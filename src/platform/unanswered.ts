// What was asked of the system, and is waited for by nobody any more.

/** How much of it there is, by where it was asked. */
const unanswered = new Map<string, number>()

/** Whether something that was asked there, or anywhere, has not been answered yet. */
export function isUnanswered(where?: string): boolean {
  return where === undefined ? unanswered.size > 0 : unanswered.has(where)
}

/** From now on nobody waits for this; until it is answered, `isUnanswered` says so. */
export function waitNoMore(where: string, asked: Promise<unknown>): void {
  unanswered.set(where, (unanswered.get(where) ?? 0) + 1)
  const forget = (): void => {
    const left = (unanswered.get(where) ?? 0) - 1
    if (left > 0) unanswered.set(where, left)
    else unanswered.delete(where)
  }
  asked.then(forget, forget)
}
