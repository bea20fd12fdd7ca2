import { spawnSync } from 'node:child_process'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = new URL('../../', import.meta.url)
const isRoot = process.getuid?.() === 0

/** What stands in front of a command line to run it as a user who is not root and owns nothing. */
export const asNobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'] as const

/**
 * Whether a test can run this checkout as somebody who is not root; skips it otherwise, saying why: it takes root to
 * become another user, and a checkout below a private folder is one that nobody else may read.
 */
export function canBeNobody(t: TestContext): boolean {
  if (!isRoot) {
    t.skip('only root can become another user')
    return false
  }
  const [program, ...user] = asNobody
  const look = ['test', '-x', process.execPath, '-a', '-r', fileURLToPath(import.meta.url)]
  if (spawnSync(program, [...user, ...look]).status === 0) return true
  t.skip(`another user may not read this checkout, ${fileURLToPath(root)}`)
  return false
}

/**
 * Runs a module as somebody who is not root; `from` imports a file of this checkout. Returns what it printed; null,
 * and the test skipped, where that cannot be done.
 */
export function runAsNobody(t: TestContext, code: string, ...args: string[]): string | null {
  if (isRoot && !canBeNobody(t)) return null
  const whole = `const from = path => import(new URL(path, '${root.href}').href)\n${code}`
  const run = [process.execPath, '--no-warnings', '--input-type=module', '-e', whole, '--', ...args]
  const [program = '', ...rest] = isRoot ? [...asNobody, ...run] : run
  const env = { PATH: process.env.PATH, TMPDIR: '/tmp' }
  const ran = spawnSync(program, rest, { env, cwd: '/', encoding: 'utf8', timeout: 30_000 })
  if (ran.status !== 0) throw new Error(ran.stderr || String(ran.error))
  return ran.stdout
}
