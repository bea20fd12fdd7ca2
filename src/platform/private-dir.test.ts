import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { silent } from '../../test/support/processes.ts'
import { privateDir, startTime, sweepPrivateDirs } from './private-dir.ts'
import { start } from './program.ts'

test('a private folder can be entered by us only, whatever the umask, and goes with all it holds', () => {
  const parent = join(testContext().dir, 'made', 'too')
  const before = process.umask(0)
  const dir = privateDir(parent)
  process.umask(before)
  assert.equal(statSync(dir.path).mode & 0o777, 0o700)
  assert.equal(statSync(parent).mode & 0o777, 0o700)
  mkdirSync(join(dir.path, 'a/b'), { recursive: true })
  writeFileSync(join(dir.path, 'a/b/c'), 'x')
  dir[Symbol.dispose]()
  dir[Symbol.dispose]()
  assert.deepEqual(readdirSync(parent), [])
})

test('a parent that is no folder is an error', () => {
  const file = join(testContext().dir, 'file')
  writeFileSync(file, '')
  assert.throws(() => privateDir(file))
})

test('sweeping removes what dead processes left, and nothing of the living', async () => {
  const ctx = testContext()
  const parent = join(ctx.dir, 'tmp')
  using ours = privateDir(parent)
  const running = start(silent, { stdin: 'ignore', stdout: 'ignore' }, ctx)
  const name = `${hostname()}-${running.pid}-${startTime(running.pid)}-0123abcd`
  const reused = `${hostname()}-${process.pid}-1-0123abcd`
  for (const each of [name, reused, 'something else']) mkdirSync(join(parent, each))
  writeFileSync(join(parent, name, 'secret'), 'x')
  sweepPrivateDirs(parent)
  assert.ok(existsSync(ours.path))
  assert.ok(existsSync(join(parent, name)))
  assert.ok(!existsSync(join(parent, reused)))
  await running.stop()
  sweepPrivateDirs(parent)
  assert.ok(!existsSync(join(parent, name)))
  assert.ok(existsSync(join(parent, 'something else')))
})

test('the folder of another host, such as the container before this one, goes when nothing in it changed for a week', () => {
  const parent = testContext().dir
  const [young, old, written] = ['1', '2', '3'].map(pid => join(parent, `other-host-${pid}-77-0123abcd`))
  const eightDaysAgo = new Date(Date.now() - 8 * 24 * 60 * 60 * 1000)
  for (const path of [young, old, written]) mkdirSync(path ?? '')
  writeFileSync(join(written ?? '', 'spooled'), 'x')
  for (const path of [old, written]) utimesSync(path ?? '', eightDaysAgo, eightDaysAgo)
  sweepPrivateDirs(parent)
  assert.deepEqual(
    [young, old, written].map(path => existsSync(path ?? '')),
    [true, false, true],
  )
})

test('sweeping a folder that is not there does nothing', () => {
  sweepPrivateDirs('/no/such/folder')
})

test('the start time tells a process from a later one with the same id', () => {
  assert.match(startTime(process.pid), /^\d+$/)
  assert.equal(startTime(process.pid), startTime(process.pid))
  assert.equal(startTime(2 ** 30), '')
})
