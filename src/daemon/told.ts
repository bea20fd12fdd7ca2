import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as z from 'zod'
import { replaceFile } from '../platform/atomic-file.ts'
import type { State } from '../platform/state.ts'

/** What recurs at every start is told so often. */
const againMs = 3_600_000

const Told = z.object({ digest: z.string(), at: z.iso.datetime() })

/** Whether this was the last message that was told, and less than an hour ago, by this process or one before. */
export function wasJustTold(message: string, state: State, now: Date): boolean {
  try {
    const { digest, at } = Told.parse(JSON.parse(readFileSync(fileOf(state), 'utf8')))
    const ago = now.getTime() - new Date(at).getTime()
    return digest === digestOf(message) && ago >= 0 && ago < againMs
  } catch {
    return false
  }
}

/** Where it cannot be written down, it will be told again. */
export function noteTold(message: string, state: State, now: Date): void {
  try {
    replaceFile(fileOf(state), `${JSON.stringify({ digest: digestOf(message), at: now.toISOString() })}\n`)
  } catch {
    // See above.
  }
}

function fileOf(state: State): string {
  return join(state.path, 'told.json')
}

function digestOf(message: string): string {
  return createHash('sha256').update(message).digest('hex')
}
