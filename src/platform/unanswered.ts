// What was asked of the system, and is waited for by nobody any more.

import { settlesWithin } from './abort.ts'

/** How long a question of which the answer would merely be good to have is waited for. */
const answerMs = 5_000

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

/** What was asked there; null when no answer comes within seconds. */
export async function answerOf<T>(where: string, asked: Promise<T>): Promise<T | null> {
  if (await settlesWithin(asked, answerMs)) return await asked
  waitNoMore(where, asked)
  return null
}
