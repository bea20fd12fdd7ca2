// What a run says: a line for each file, and everything about what failed.

import { relative } from 'node:path'
import type { FileResult } from './run-file.ts'

const outputLines = 80

/** The line of a file, its skipped tests with their reasons, and its failures in full. */
export function describeFile(result: FileResult, root: string): string {
  const file = relative(root, result.file)
  const state = result.failures.length > 0 ? 'FAIL' : 'ok  '
  const counts = [
    `${result.passed} passed`,
    ...(result.failures.length > 0 ? [`${result.failures.length} failed`] : []),
    ...(result.skipped.length > 0 ? [`${result.skipped.length} skipped`] : []),
  ].join(', ')
  const late = result.seconds > result.budget ? ` (its budget is ${result.budget} s)` : ''
  const lines = [`${state} ${file.padEnd(60)} ${counts}, ${result.seconds.toFixed(1)} s${late}`]
  for (const { title, reason } of result.skipped) lines.push(`     skipped: ${title} (${reason})`)
  for (const { title, line, error } of result.failures) {
    lines.push('', `     failed: ${title}${line === undefined ? '' : ` (${file}:${line})`}`)
    lines.push(indent(explain(error)))
  }
  if (result.failures.length > 0 && result.output.trim() !== '') {
    const printed = result.output.trimEnd().split('\n')
    const last = printed.length > outputLines ? `the last ${outputLines} lines of what` : 'what'
    lines.push('', `     ${last} the file printed:`, indent(printed.slice(-outputLines).join('\n')))
  }
  if (result.failures.length > 0) lines.push('')
  return lines.join('\n')
}

/** The files that took longest, of those that took noticeable time; undefined if there are none. */
export function describeSlowest(results: FileResult[], root: string): string | undefined {
  const slowest = results
    .filter(({ seconds }) => seconds >= 2)
    .sort((a, b) => b.seconds - a.seconds)
    .slice(0, 10)
  if (slowest.length === 0) return undefined
  const lines = slowest.map(
    ({ file, seconds }) => `${seconds.toFixed(1).padStart(8)} s  ${relative(root, file)}`,
  )
  return ['slowest files:', ...lines].join('\n')
}

/** Message, difference and stack, without the frames of the test runner; then the causes. */
function explain(error: unknown): string {
  if (!(error instanceof Error)) return typeof error === 'string' ? error : JSON.stringify(error)
  const frames = (error.stack ?? String(error))
    .split('\n')
    .filter(line => !/^\s+at .*(\(|\b)(node:|<anonymous>)/.test(line))
  const text = frames.join('\n')
  return error.cause === undefined ? text : `${text}\ncaused by: ${explain(error.cause)}`
}

function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gm, '       ')
}
