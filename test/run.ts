// Runs the tests: node test/run.ts [pattern...]
//
// A pattern is a part of a path or a glob; without one, every *.test.ts of src, test and bench runs. Gets the programs
// that tests need, starts services when a test asks for them, and leaves nothing behind: no service, no temporary file,
// and no process of a test, for one that is still there at the end is a failure.
//
// CAIRN_ROUNDS: how often a test of random actions repeats them. CAIRN_TEST_CACHE: see services/places.ts.

import { randomBytes } from 'node:crypto'
import { chmodSync, globSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, matchesGlob, resolve } from 'node:path'
import { startBroker } from './services/broker.ts'
import { install } from './services/install.ts'
import { postgresClients } from './services/places.ts'
import { describeFile, describeSlowest } from './services/report.ts'
import { budgetOf, type FileResult, runFile } from './services/run-file.ts'
import { findSurvivors, killSurvivors, type Survivor } from './services/survivors.ts'

const root = resolve(import.meta.dirname, '..')
const concurrency = 2

/** The slowest first, as far as their budgets tell, so that the last one does not run alone; and useless patterns. */
function testFiles(patterns: string[]): { files: string[]; unmatched: string[] } {
  const all = globSync('{src,test,bench}/**/*.test.ts', { cwd: root }).sort()
  const files = all
    .filter(file => patterns.length === 0 || patterns.some(pattern => matches(file, pattern)))
    .map(file => join(root, file))
    .sort((a, b) => budgetOf(b) - budgetOf(a))
  return { files, unmatched: patterns.filter(pattern => !all.some(file => matches(file, pattern))) }
}

function matches(file: string, pattern: string): boolean {
  const path = pattern.replace(/^\.\//, '')
  return file.includes(path) || matchesGlob(file, path) || join(root, file) === resolve(pattern)
}

interface Surroundings {
  /** Aborted when the run is to end now. */
  abort: AbortSignal
  /** Stops and removes everything; returns which processes of tests had to be killed. May be repeated. */
  clear(): Survivor[]
}

/** Sets the environment that all test processes inherit. Cleared at the latest when this process exits. */
async function surround(): Promise<Surroundings> {
  const dir = mkdtempSync(join(tmpdir(), 'cairn-'))
  const temporary = join(dir, 'tmp')
  const services = join(dir, 'srv')
  const mark = `CAIRN_TEST_RUN=${randomBytes(8).toString('hex')}`
  const controller = new AbortController()
  // Servers run as another user, and have to get to their folders.
  chmodSync(dir, 0o711)
  mkdirSync(services)
  mkdirSync(temporary)
  chmodSync(temporary, 0o1777)
  process.env.CAIRN_TEST_RUN = mark.split('=')[1]
  process.env.TMPDIR = temporary
  process.env.CAIRN_POSTGRES_CLIENTS = postgresClients
  process.env.CAIRN_ROUNDS ??= '20'
  const broker = await startBroker(services)
  process.env.CAIRN_TEST_BROKER = broker.socket

  let cleared = false
  function clear(): Survivor[] {
    if (cleared) return []
    cleared = true
    controller.abort()
    broker.stop()
    const marks = [mark, dir]
    const survivors = findSurvivors(marks, 10_000)
    killSurvivors(marks)
    rmSync(dir, { recursive: true, force: true, maxRetries: 3 })
    return survivors
  }
  process.once('exit', clear)
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.once(signal, () => process.exit(code))
  }
  return { abort: controller.signal, clear }
}

/** Prints each file as it ends; the order of the results is that of their ends. */
async function runFiles(files: string[], abort: AbortSignal): Promise<FileResult[]> {
  const waiting = [...files]
  const results: FileResult[] = []
  async function work(): Promise<void> {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const result = await runFile(file, abort)
      results.push(result)
      console.log(describeFile(result, root))
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work))
  return results
}

async function main(): Promise<void> {
  const { files, unmatched } = testFiles(process.argv.slice(2))
  const problems = files.length === 0 ? [] : await install()
  for (const problem of problems) console.log(`not installed: ${problem}`)
  const { abort, clear } = await surround()
  const results = await runFiles(files, abort)
  const survivors = clear()

  const slowest = describeSlowest(results, root)
  if (slowest) console.log(slowest)
  for (const { pid, command } of survivors) console.log(`left running, and now killed: ${pid} ${command}`)
  for (const problem of problems) console.log(`not installed: ${problem}`)
  for (const pattern of unmatched) console.log(`no test file matches ${pattern}`)
  const sum = (count: (result: FileResult) => number) => results.reduce((total, one) => total + count(one), 0)
  const passed = sum(one => one.passed)
  const failed = sum(one => one.failures.length) + survivors.length + unmatched.length
  const skipped = sum(one => one.skipped.length)
  if (passed + failed === 0) console.log('no test ran')
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
}

await main()
