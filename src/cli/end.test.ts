import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

test('a process ends with its code though one of its threads waits for a file that does not answer', t => {
  const folder = mkdtempSync(join(tmpdir(), 'cairn-unanswered-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const pipe = join(folder, 'pipe')
  execFileSync('mkfifo', [pipe])
  const script = `
    import { open, readFile } from 'node:fs/promises'
    import { endProcess } from '${join(import.meta.dirname, 'end.ts')}'
    import { waitNoMore } from '${join(import.meta.dirname, '../platform/unanswered.ts')}'
    waitNoMore('here', open('${pipe}'))
    await readFile('/dev/null')
    endProcess(143)`
  const ended = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    timeout: 60_000,
    killSignal: 'SIGKILL',
    encoding: 'utf8',
  })
  assert.deepEqual([ended.status, ended.signal], [143, null], ended.stderr)
})
