import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { freshFolder } from './index.ts'
import { run } from './process.ts'
import type { FileResult } from './run-file.ts'
import { findSurvivors, killSurvivors } from './survivors.ts'

const here = import.meta.dirname

/** Runs a test file of that text and returns the result, and what would be printed of it. */
async function resultOf(text: string): Promise<FileResult & { printed: string }> {
  const folder = await freshFolder()
  const file = join(folder, 'sample.test.ts')
  const program = join(folder, 'program.ts')
  await writeFile(file, text)
  await writeFile(
    program,
    `import { runFile } from '${here}/run-file.ts'
    import { describeFile } from '${here}/report.ts'
    const result = await runFile('${file}', new AbortController().signal)
    console.log(JSON.stringify({ ...result, printed: describeFile(result, '/') }))`,
  )
  // A test process does not run others: the mark that says it is one has to go.
  return JSON.parse(await run('env', ['-u', 'NODE_TEST_CONTEXT', process.execPath, program]))
}

const heading = `import { suite, test } from 'node:test'\nimport assert from 'node:assert/strict'\n`

test('a file reports what passed, failed and was skipped, and why', async () => {
  const result = await resultOf(`${heading}
    console.log('said by the file')
    test('passes', () => {})
    test('is skipped', t => t.skip('not today'))
    suite('outer', () => {
      test('differs', () => assert.deepEqual({ a: 1 }, { a: 2 }))
      test('throws', () => { throw new Error('shallow', { cause: new Error('deep') }) })
    })`)
  assert.equal(result.passed, 1)
  assert.deepEqual(
    result.failures.map(({ title }) => title),
    ['outer > differs', 'outer > throws'],
  )
  for (const words of ['+   a: 1', '-   a: 2', 'not today', 'caused by: Error: deep', 'said by the file']) {
    assert.ok(result.printed.includes(words), `${words} is missing in\n${result.printed}`)
  }
})

test('a file that does not load fails, and its error is shown', async () => {
  const { failures, printed } = await resultOf(`throw new Error('broken from the start')`)
  assert.equal(failures.length, 1)
  assert.match(printed, /broken from the start/)
})

test('a file without tests fails', async () => {
  const { passed, failures } = await resultOf('export {}')
  assert.deepEqual([passed, failures.length, failures[0]?.error], [0, 1, 'holds no tests'])
})

test('of a file beyond its budget it is said, and no failure: the machine may be slow', async () => {
  // How long its process takes to start is a part of it.
  const { passed, failures, printed } = await resultOf(`// budget: 5 s
    ${heading}test('takes its time', () => new Promise(resolve => setTimeout(resolve, 5_100 - 1000 * process.uptime())))`)
  assert.deepEqual([passed, failures], [1, []])
  assert.match(printed, /^ok .* 1 passed, \d+\.\d s \(its budget is 5 s\)$/)
})

test('a file that never ends is ended when its budget has long been over', async () => {
  const { passed, failures, seconds } = await resultOf(`// budget: 4 s
    ${heading}test('is done', () => {}); setInterval(() => {}, 1000)`)
  assert.deepEqual([passed, failures.length], [1, 1])
  assert.match(String(failures[0]?.error), /was ended/)
  assert.ok(seconds < 40, `${seconds} s`)
})

test('a process left behind is found by its environment or its working folder, and killed', async () => {
  const cwd = await freshFolder()
  // Of its own: another run on this machine must not find it, nor we those of another.
  const own = randomBytes(8).toString('hex')
  const mark = `CAIRN_TEST_SAMPLE=${own}`
  const marked = spawn('sleep', ['60'], { env: { CAIRN_TEST_SAMPLE: own } })
  const inFolder = spawn('/bin/sleep', ['61'], { env: {}, cwd })
  const ended = Promise.all([once(marked, 'exit'), once(inFolder, 'exit')])
  await Promise.all([once(marked, 'spawn'), once(inFolder, 'spawn')])
  const found = findSurvivors([mark, cwd], 0)
  assert.deepEqual(
    found.map(({ pid }) => pid).sort(),
    [marked.pid, inFolder.pid].sort(),
    JSON.stringify(found),
  )
  killSurvivors([mark, cwd])
  await ended
  assert.deepEqual(findSurvivors([mark, cwd], 0), [])
})
