import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { Context } from '../../src/model/context.ts'
import { placeFor } from './source-contract.ts'

// Where a test works; all of it goes with the test.

export const isRoot = process.getuid?.() === 0

/** A context whose folders go with the test. */
export function contextOf(t: TestContext): Context {
  return placeFor(t).ctx
}

export function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'cairn-folder-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** A mount of its own, gone after the test. Null, and the test skipped, for who may not mount. */
export function mounted(t: TestContext, ...args: string[]): string | null {
  if (!isRoot) {
    t.skip('only root can mount')
    return null
  }
  const dir = mkdtempSync(join(tmpdir(), 'cairn-mount-'))
  execFileSync('mount', [...args, dir])
  // Never removed recursively: that would reach through the mount. What is mounted inside goes with it.
  t.after(() => {
    execFileSync('umount', ['--lazy', dir])
    rmdirSync(dir)
  })
  return dir
}

export function smallDisk(t: TestContext, megabytes: number): string | null {
  return mounted(t, '-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs')
}
