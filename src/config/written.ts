import * as z from 'zod'
import { writeWords } from '../model/duration-words.ts'
import { writeDuration } from '../model/quantity.ts'
import { remoteWithoutSecrets } from '../stores/index.ts'

/** The durations of the configuration, which are milliseconds inside the program. */
const durations = new Set(['stall', 'undelete', 'timeout', 'jitter', 'after', 'expect'])

/** A value of the effective configuration as a person would write it, for `JSON.stringify`. What is secret in the string of a remote is not shown. */
export function asWritten(key: string, value: unknown): unknown {
  if (key === 'remote' && typeof value === 'string') return remoteWithoutSecrets(value)
  if (durations.has(key) && typeof value === 'number') return writeDuration(value)
  const span = Span.safeParse(value).data
  return span ? writeWords(span) || '0 s' : value
}

const Span = z.strictObject({ months: z.number(), ms: z.number() })
