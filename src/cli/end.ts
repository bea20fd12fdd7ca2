import { isUnanswered } from '../platform/unanswered.ts'

/**
 * Ends this process. A thread of it that still waits for an answer would keep it for ever: where there is one, another program
 * takes the place of this one, which ends all its threads.
 */
export function endProcess(code: number): never {
  if (isUnanswered()) process.execve?.('/bin/sh', ['sh', '-c', 'exit "$0"', String(code)], {})
  process.exit(code)
}
