import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { appendToLog } from './log-file.ts'

test('what is said goes to each file of CAIRN_LOG, and is waited for in none', t => {
  const folder = mkdtempSync(join(tmpdir(), 'log-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const paths = ['absent/log', 'unread', 'full', 'log'].map(name => join(folder, name))
  const [, unread = '', full = '', log = ''] = paths
  execFileSync('mkfifo', [unread, full])
  const reader = openSync(full, constants.O_RDWR)
  t.after(() => closeSync(reader))
  // More than a pipe holds.
  for (let n = 0; n < 3000; n++) appendToLog('x'.repeat(50), { CAIRN_LOG: full })
  const env = { CAIRN_LOG: paths.join(':') }
  appendToLog('one', env)
  appendToLog('\x1b[31mtwo\x1b[0m', env)
  assert.match(readFileSync(log, 'utf8'), /^\d{4}-\S+Z one\n\d{4}-\S+Z two\n$/)
  appendToLog('nobody wants it', { CAIRN_LOG: '' })
})
