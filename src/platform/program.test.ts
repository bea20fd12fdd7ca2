import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { testContext } from '../../test/support/context.ts'
import {
  assertNothingRuns,
  collect,
  processesOf,
  processWith,
  sh,
  until,
} from '../../test/support/processes.ts'
import { exitCode, Failure } from '../model/failure.ts'
import { Secret } from '../model/secret.ts'
import type { Exit } from '../model/step.ts'
import { flow } from './flow.ts'
import { findProgram, isBrokenPipe, needProgram, start } from './program.ts'

test('a program gets PATH, a UTF-8 locale, a private HOME and TMPDIR, what it was given, and nothing else', async () => {
  const ctx = testContext()
  const output = await collect(flow({ program: 'env', args: ['-0'], env: { GIVEN: 'a b' } }, [], ctx))
  assert.deepEqual(output.toString().split('\0').sort(), [
    '',
    'GIVEN=a b',
    `HOME=${ctx.dir}`,
    'LC_ALL=C.UTF-8',
    `PATH=${process.env.PATH}`,
    `TMPDIR=${ctx.dir}`,
  ])
})

test('secrets are read from /dev/fd/3 and by number, as often as one likes, and leave nothing in the folder', async () => {
  const ctx = testContext()
  const secretFds = [new Secret('first secret'), new Secret('x'.repeat(300_000))]
  const script = 'cat /dev/fd/3; echo; cat /dev/fd/3; echo; cat <&3; echo; cat /dev/fd/4 | wc -c'
  const output = await collect(flow(sh(script, { secretFds }), [], ctx))
  assert.equal(output.toString(), 'first secret\nfirst secret\nfirst secret\n300000\n')
  assert.deepEqual(readdirSync(ctx.dir), [])
})

test('secrets appear in no command line, error or line of stderr, also when they fall apart between two writes', async () => {
  const ctx = testContext()
  const lines: string[] = []
  const key = `${'k'.repeat(40)}\n${'l'.repeat(40)}`
  const program = sh(
    'printf "password hunt" >&2; sleep 0.05; echo "er22 is wrong" >&2; cat /dev/fd/3 >&2; echo "hunter%2F22" >&2; read x; exit 1',
    {
      env: { PASSWORD: new Secret('hunter22'), SLASHED: new Secret('hunter/22') },
      secretFds: [new Secret(key)],
      onStderr: line => lines.push(line),
    },
  )
  const running = start(program, { stdin: 'pipe', stdout: 'ignore' }, ctx)
  await until(() => lines.length > 1, 'it says nothing')
  const commands = [...processesOf(ctx).values()].join('\n')
  assert.match(commands, /hunt/)
  assert.doesNotMatch(commands, /hunter22|kkkk/)
  running.stdin?.end()
  const verdict = await running.verdict
  await running.stop()
  const seen = inspect({ verdict, lines, env: program.env, fds: program.secretFds }, { depth: 9 })
  assert.match(seen, /password \*\*\* is wrong/)
  assert.doesNotMatch(seen, /er22|kkkk|llll|hunter%2F22/)
  assert.deepEqual(readdirSync(ctx.dir), [])
})

test('onStderr gets whole lines, and the last one also without a newline', async () => {
  const lines: string[] = []
  const program = sh('printf "on" >&2; sleep 0.05; printf "e\\n\\ntwo\\nthree" >&2', {
    onStderr: line => lines.push(line),
  })
  await collect(flow(program, [], testContext()))
  assert.deepEqual(lines, ['one', '', 'two', 'three'])
})

test('a program that writes 80 MB to stderr, with newlines or without, is followed in little memory', async () => {
  for (const what of ['/dev/zero', "/dev/zero | tr '\\0' '\\n'"]) {
    let length = 0
    const before = process.memoryUsage().rss
    const program = sh(`head -c 40000000 ${what} >&2; echo the end >&2; exit 1`, {
      env: { SECRET: new Secret('some secret') },
      onStderr: line => {
        length = Math.max(length, line.length)
      },
    })
    await assert.rejects(collect(flow(program, [], testContext())), /the end/)
    assert.ok(length <= 200_000, `a line of ${length}`)
    const grown = process.memoryUsage().rss - before
    // Kept whole, two copies of it would be more; what is thrown away waits for the collector for a while.
    assert.ok(grown < 150e6, `grew by ${grown}`)
  }
})

test('judge decides what an end means, and is told the exit code, the signal and the end of stderr', async () => {
  const ctx = testContext()
  const seen: [Exit, string][] = []
  const judge = (exit: Exit, tail: string) => {
    seen.push([exit, tail])
    return exit.code === 1 ? null : new Error('as judged')
  }
  await collect(flow(sh('echo a warning >&2; exit 1', { judge }), [], ctx))
  await assert.rejects(collect(flow(sh('exit 0', { judge }), [], ctx)), /as judged/)
  await assert.rejects(collect(flow(sh('kill -KILL $$', { judge }), [], ctx)), /as judged/)
  assert.deepEqual(seen, [
    [{ code: 1, signal: null }, 'a warning\n'],
    [{ code: 0, signal: null }, ''],
    [{ code: null, signal: 'SIGKILL' }, ''],
  ])
})

test('a judge or an onStderr that throws fails the program, and nothing else', async () => {
  const fault = (): never => {
    throw new Error('a fault of ours')
  }
  for (const program of [sh('exit 0', { judge: fault }), sh('echo x >&2', { onStderr: fault })]) {
    await assert.rejects(collect(flow(program, [], testContext())), /a fault of ours/)
  }
})

test('a program that does not exist is a usage failure with a remedy, before anything was started', () => {
  const ctx = testContext()
  const program = { program: 'no-such-program', args: [], secretFds: [new Secret('secret')] }
  assert.throws(
    () => start(program, { stdin: 'ignore', stdout: 'ignore' }, ctx),
    (error: unknown) =>
      error instanceof Failure &&
      error.exit === exitCode.usage &&
      /install no-such-program/.test(error.remedy),
  )
  assert.deepEqual(readdirSync(ctx.dir), [])
})

test('a working folder that is not there is named, not the program', async () => {
  await assert.rejects(
    collect(flow(sh('pwd', { cwd: '/no/such' }), [], testContext())),
    /cannot run sh: there is no folder \/no\/such/,
  )
})

test('programs are found on PATH as absolute paths; folders and files that cannot be run are not programs', t => {
  const { dir } = testContext()
  mkdirSync(join(dir, 'empty/tool'), { recursive: true })
  mkdirSync(join(dir, 'data'))
  writeFileSync(join(dir, 'data/tool'), 'no program')
  mkdirSync(join(dir, 'bin'))
  writeFileSync(join(dir, 'bin/tool'), '#!/bin/sh\n')
  chmodSync(join(dir, 'bin/tool'), 0o755)
  const before = process.env.PATH
  t.after(() => {
    process.env.PATH = before
  })
  process.env.PATH = ['', join(dir, 'empty'), join(dir, 'data'), relative('.', join(dir, 'bin'))].join(':')
  assert.equal(findProgram('tool'), join(dir, 'bin/tool'))
  assert.equal(findProgram(relative('.', join(dir, 'bin/tool'))), join(dir, 'bin/tool'))
  assert.equal(findProgram('no-such-tool'), null)
  assert.equal(findProgram(join(dir, 'data/tool')), null)
  assert.throws(() => needProgram('no-such-tool', 'get it'), /cannot run no-such-tool/)
})

test('a grandchild that ignores SIGTERM is killed after five seconds, and a frozen program at once', async () => {
  const ctx = testContext()
  const stubborn = sh("trap '' TERM; (while :; do sleep 0.2; done) & exec sleep 1000")
  const running = start(stubborn, { stdin: 'ignore', stdout: 'ignore' }, ctx)
  const frozen = start(sh('sleep 500; true'), { stdin: 'ignore', stdout: 'ignore' }, testContext())
  process.kill(frozen.pid, 'SIGSTOP')
  await processWith('sleep 1000', ctx)
  const started = performance.now()
  await frozen.stop()
  assert.match((await frozen.verdict)?.message ?? '', /killed by SIGTERM/)
  await running.stop()
  assertNothingRuns(ctx)
  const took = performance.now() - started
  assert.ok(took > 4_500 && took < 30_000, `${took} ms`)
})

test('what a program leaves behind in its group is ended with it, although it has ended well itself', async () => {
  const ctx = testContext()
  const output = await collect(flow(sh('sleep 1000 >/dev/null 2>&1 & echo done'), [], ctx))
  assert.equal(output.toString(), 'done\n')
  assertNothingRuns(ctx)
})

test('a grandchild that holds stderr open does not hold up the verdict', async () => {
  const ctx = testContext()
  const started = performance.now()
  await assert.rejects(collect(flow(sh('sleep 1000 >/dev/null & echo oh no >&2; exit 3'), [], ctx)), /oh no/)
  assert.ok(performance.now() - started < 30_000)
  assertNothingRuns(ctx)
})

test('a broken pipe is told from a broken connection', () => {
  const echoes = [
    'pg_dump failed: could not write to output file: Broken pipe (exit code 1)',
    'cat failed: killed by SIGPIPE',
    "head failed: head: error writing 'standard output': Connection reset by peer (exit code 1)",
    'zstd failed: zstd: error 70 : Write error : cannot write block : Connection reset by peer (exit code 70)',
    'mysqldump failed: mysqldump: Got errno 32 on write (exit code 5)',
  ]
  const causes = [
    'pg_dump failed: could not receive data from server: Connection reset by peer (exit code 1)',
    'tar failed: tar: /data: Cannot open: Permission denied (exit code 2)',
  ]
  for (const message of echoes) assert.ok(isBrokenPipe(new Error(message)), message)
  for (const message of causes) assert.ok(!isBrokenPipe(new Error(message)), message)
})

test('setpriv has the kernel end the programs when this process is killed', async () => {
  const ctx = testContext()
  const script = `
    import { flow } from ${JSON.stringify(join(import.meta.dirname, 'flow.ts'))}
    import { testContext } from ${JSON.stringify(join(import.meta.dirname, '../../test/support/context.ts'))}
    const ctx = testContext({ dir: process.env.HOME })
    const sleeper = seconds => ({ program: 'sleep', args: [seconds] })
    for await (const _ of flow(sleeper('1001'), [sleeper('1002'), { name: 'x', run: i => i }, sleeper('1003')], ctx));`
  const child = { program: process.execPath, args: ['--input-type=module', '-e', script] }
  const running = start(child, { stdin: 'ignore', stdout: 'ignore' }, ctx)
  for (const seconds of ['sleep 1001', 'sleep 1002', 'sleep 1003']) await processWith(seconds, ctx)
  process.kill(running.pid, 'SIGKILL')
  await until(() => processesOf(ctx).size === 0, 'programs outlive the process that started them')
  await running.stop()
})
