import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { testContext } from '../../test/support/context.ts'
import { exitCode, Failure } from '../model/failure.ts'
import { secretOption, secretSource } from './secret-source.ts'

const { dir } = testContext()

async function failureOf(from: Parameters<typeof secretSource>[0]): Promise<Failure> {
  const error = await secretSource(from)
    .read()
    .catch((thrown: unknown) => thrown)
  assert.ok(error instanceof Failure, `${error}`)
  assert.equal(error.exit, exitCode.usage)
  assert.doesNotMatch(inspect(error, { depth: 9 }), /hunter2/)
  return error
}

test('a secret comes from the configuration, the environment, a file or a command', async () => {
  process.env.CAIRN_TEST_SECRET = 'hunter2\n'
  const file = join(dir, 'secret')
  for (const content of ['hunter2', 'hunter2\n', 'hunter2\r\n']) {
    writeFileSync(file, content)
    assert.equal((await secretSource({ file }).read()).reveal(), 'hunter2')
  }
  writeFileSync(file, ' two\nlines \n\n')
  assert.equal((await secretSource({ file }).read()).reveal(), ' two\nlines \n')
  assert.equal((await secretSource('hunter2').read()).reveal(), 'hunter2')
  assert.equal((await secretSource({ value: 'hunter2' }).read()).reveal(), 'hunter2')
  assert.equal((await secretSource({ env: 'CAIRN_TEST_SECRET' }).read()).reveal(), 'hunter2\n')
  const command = ['sh', '-c', 'echo "$0-$CAIRN_TEST_SECRET"', 'with']
  assert.equal((await secretSource({ command }).read()).reveal(), 'with-hunter2\n')
})

test('it is read when it is needed, not before, and anew each time', async () => {
  const file = join(dir, 'later')
  const source = secretSource({ file })
  writeFileSync(file, 'first')
  assert.equal((await source.read()).reveal(), 'first')
  writeFileSync(file, 'second')
  assert.equal((await source.read()).reveal(), 'second')
})

test('a secret that cannot be read is a usage failure that names the place', async () => {
  const empty = join(dir, 'empty')
  writeFileSync(empty, '\n')
  process.env.CAIRN_TEST_EMPTY = ''
  const cases: [Parameters<typeof secretSource>[0], RegExp][] = [
    [{ env: 'CAIRN_NOT_SET' }, /the environment variable CAIRN_NOT_SET: it is not set/],
    [{ env: 'CAIRN_TEST_EMPTY' }, /CAIRN_TEST_EMPTY: it is empty/],
    [{ file: join(dir, 'none') }, /none: there is no such file/],
    [{ file: dir }, /EISDIR/],
    [{ file: empty }, /it is empty/],
    [{ command: ['true'] }, /it is empty/],
    [{ command: ['no-such-program'] }, /the command no-such-program: there is no such program/],
    [{ command: ['sh', '-c', 'kill -9 $$'] }, /killed by SIGKILL/],
  ]
  for (const [from, message] of cases) assert.match((await failureOf(from)).message, message)
})

test('what a failing command printed is not told: it may be the secret', async () => {
  const error = await failureOf({ command: ['sh', '-c', 'echo hunter2; echo hunter2 >&2; exit 3'] })
  assert.match(error.message, /it failed \(3\)/)
})

test('a command that asks a question gets no answer, and one that leaves a helper is not waited for', async () => {
  const started = performance.now()
  assert.match(
    (await failureOf({ command: ['sh', '-c', 'read answer || exit 4'] })).message,
    /it failed \(4\)/,
  )
  const helper = secretSource({ command: ['sh', '-c', `echo hunter2; sleep 300 & echo $! > ${dir}/helper`] })
  assert.equal((await helper.read()).reveal(), 'hunter2')
  process.kill(Number(readFileSync(join(dir, 'helper'), 'utf8')), 'SIGKILL')
  assert.ok(performance.now() - started < 30_000)
})

test('the configuration shows the place, never the secret', () => {
  const shown = (from: unknown): string => JSON.stringify(secretOption.parse(from))
  assert.equal(shown('hunter2'), '"***"')
  assert.equal(shown({ value: 'hunter2' }), '"***"')
  assert.equal(shown({ env: 'NAME' }), '{"env":"NAME"}')
  assert.equal(shown({ file: '/path' }), '{"file":"/path"}')
  assert.equal(shown({ command: ['pass', 'shop'] }), '{"command":["pass","shop"]}')
  assert.doesNotMatch(inspect(secretOption.parse('hunter2'), { depth: 9, showHidden: true }), /hunter2/)
})

test('what names no place, or two, is refused', () => {
  for (const from of [{}, { env: '' }, { env: 'A', file: 'b' }, { command: [] }, 7, null])
    assert.ok(!secretOption.safeParse(from).success, JSON.stringify(from))
})

test('of a file that is named by a part of its path, it is said where it was looked for', async () => {
  const { remedy } = await failureOf({ file: 'no-such-secret' })
  assert.equal(remedy, `write its whole path: it is looked for in ${process.cwd()}`)
})
