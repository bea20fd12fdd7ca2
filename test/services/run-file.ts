// Runs one test file in a process of its own and notes what its tests said.

import { readFileSync } from 'node:fs'
import { run } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

/** For a single test, on the slowest machine; a test may set its own. */
const testTimeout = 300_000
const defaultBudget = 90
/** A machine may be as many times slower before a file counts as one that hangs. */
const slowest = 4
/** Stands for a title where no test of the file is to blame. */
const theFile = 'the file'

interface Failure {
  /** Titles from the outermost suite to the test. */
  title: string
  line: number | undefined
  error: unknown
}

export interface FileResult {
  file: string
  passed: number
  failures: Failure[]
  skipped: { title: string; reason: string }[]
  seconds: number
  budget: number
  /** What the file printed. */
  output: string
}

/** Seconds a file may take: a comment `// budget: 180 s` in its first lines, or the default. */
export function budgetOf(file: string): number {
  const head = readFileSync(file, 'utf8').split('\n', 10).join('\n')
  return Number(/^\/\/ budget: (\d+) s$/m.exec(head)?.[1] ?? defaultBudget)
}

/** Never rejects for what a test does. A file far beyond its budget is ended, and fails. */
export async function runFile(file: string, abort: AbortSignal): Promise<FileResult> {
  const budget = budgetOf(file)
  const result: FileResult = { file, passed: 0, failures: [], skipped: [], seconds: 0, budget, output: '' }
  const started = performance.now()
  const signal = AbortSignal.any([abort, AbortSignal.timeout(budget * slowest * 1000)])
  const stream = run({ files: [file], isolation: 'process', timeout: testTimeout, signal })
  const finished = listen(stream, result)
  // A file that does not even mind being ended must not hold us up; the search for survivors finds it.
  await Promise.race([finished, givenUp(signal, finished)])
  result.seconds = (performance.now() - started) / 1000
  const fail = (error: string) => result.failures.push({ title: theFile, line: undefined, error })
  const ended = `was ended after ${result.seconds.toFixed(0)} s; its budget is ${budget} s`
  if (signal.aborted) fail(abort.aborted ? 'did not end before the run was ended' : ended)
  if (result.passed + result.failures.length + result.skipped.length === 0) fail('holds no tests')
  return result
}

async function givenUp(signal: AbortSignal, finished: Promise<void>): Promise<void> {
  await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
  await Promise.race([finished, sleep(10_000, undefined, { ref: false })])
}

function listen(stream: ReturnType<typeof run>, result: FileResult): Promise<void> {
  const titles: string[] = []
  stream.on('test:start', ({ name, nesting }) => {
    titles.splice(nesting, titles.length, name)
  })
  stream.on('test:stdout', ({ message }) => {
    result.output += message
  })
  stream.on('test:stderr', ({ message }) => {
    result.output += message
  })
  const titleOf = (nesting: number, name: string) => [...titles.slice(0, nesting), name].join(' > ')
  stream.on('test:pass', ({ name, nesting, skip, todo, details }) => {
    // The file itself passes as a test when it has none; a suite is only as good as its tests.
    if (name === result.file || details.type === 'suite') return
    if (skip !== undefined || todo !== undefined) skipped(titleOf(nesting, name), skip, todo)
    else result.passed += 1
  })
  stream.on('test:fail', ({ name, nesting, line, skip, todo, details }) => {
    const { error, type } = details
    const cause = (error as { failureType?: string }).failureType
    const ofItsTests = cause === 'subtestsFailed'
    // Said by others: by the tests of a suite, by whoever ended the file.
    if (ofItsTests ? type === 'suite' : cause === 'testAborted' && name === result.file) return
    const title = name === result.file ? theFile : titleOf(nesting, name)
    if (skip !== undefined || todo !== undefined) skipped(title, skip, todo)
    else result.failures.push({ title, line, error: ofItsTests ? error.message : (error.cause ?? error) })
  })
  function skipped(title: string, skip?: string | boolean, todo?: string | boolean): void {
    const reason = todo === undefined ? skip : `to do${typeof todo === 'string' ? `: ${todo}` : ''}`
    result.skipped.push({ title, reason: typeof reason === 'string' ? reason : 'no reason given' })
  }
  return new Promise((resolve, reject) => {
    stream.on('end', resolve).on('error', reject).resume()
  })
}
