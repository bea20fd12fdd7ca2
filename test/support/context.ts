import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Context } from '../../src/model/context.ts'
import type { RunEvent } from '../../src/model/event.ts'
import { memoryBudget } from '../../src/platform/budget.ts'

/** A context for tests, with a private folder of its own that goes when the process ends, and the events it saw. */
export function testContext(overrides: Partial<Context> = {}): Context & { readonly events: RunEvent[] } {
  const dir = overrides.dir ?? freshDir()
  const events: RunEvent[] = []
  let alive = Number.NEGATIVE_INFINITY
  return {
    signal: new AbortController().signal,
    clock: { now: () => new Date() },
    emit: event => events.push(event),
    alive: () => {
      alive = performance.now()
    },
    lastAlive: () => alive,
    stallMs: 60_000,
    dir,
    spool: dir,
    budget: memoryBudget(64 * 1024 * 1024),
    ...overrides,
    events,
  }
}

const made: string[] = []
process.on('exit', () => {
  for (const dir of made) rmSync(dir, { recursive: true, force: true })
})

function freshDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'cairn-test-'))
  made.push(dir)
  return dir
}
