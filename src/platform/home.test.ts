import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { homeFolder } from './home.ts'

test('who has neither HOME nor an entry in /etc/passwd has a home all the same', t => {
  assert.equal(homeFolder(), homedir())
  if (process.getuid?.() !== 0) return t.skip('only root can become a user that does not exist')
  const script = `import { homeFolder } from '${join(import.meta.dirname, 'home.ts')}'; console.log(homeFolder())`
  const node = [process.execPath, '--input-type=module', '-e', script]
  const nobody = ['--reuid=54321', '--regid=54321', '--clear-groups', 'env', '-u', 'HOME']
  assert.equal(execFileSync('setpriv', [...nobody, ...node], { cwd: '/' }).toString(), '/\n')
})
