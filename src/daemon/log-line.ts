import type { RunEvent } from '../model/event.ts'
import { showBytes, showDuration } from '../model/quantity.ts'
import type { Secret } from '../model/secret.ts'
import { mask } from '../model/secret.ts'

/** An event as lines of a log for a person; null for what is only of the moment. */
export function logLine(event: RunEvent, at: Date): string | null {
  const text = wordsOf(event)
  return text === null ? null : `${at.toISOString().slice(0, 19)}Z ${text}`
}

function wordsOf(event: RunEvent): string | null {
  if (event.type === 'progress') return null
  if (event.type === 'phase') return [event.phase, event.unit ?? ''].filter(Boolean).join(' ')
  if (event.type === 'notice') return event.text
  if (event.type === 'backup') {
    const size = `${showBytes(event.bytes)} in ${showDuration(event.seconds * 1000)}`
    return `backed up ${event.unit}: ${event.id}, ${size}, to ${event.stores.join(', ')}`
  }
  const hint = event.remedy ? `\n  hint: ${event.remedy}` : ''
  return `${event.type === 'failure' ? 'error' : 'warning'}: ${event.what}: ${event.why}${hint}`
}

/** A password inside a URL that nobody named as a secret: in a message of a server, in an argument. */
const urlPassword = /([a-z][a-z0-9+.-]*:\/\/[^\s/:@]*):[^\s/@]+@/gi

/** The event without the secrets: those that were read, and passwords in URLs. */
export function withoutSecrets<T>(value: T, secrets: readonly Secret[]): T {
  if (typeof value === 'string') return mask(value, secrets).replace(urlPassword, '$1:***@') as T
  if (Array.isArray(value)) return value.map(each => withoutSecrets(each, secrets)) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => [key, withoutSecrets(each, secrets)]),
  ) as T
}
