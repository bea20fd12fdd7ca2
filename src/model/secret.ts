import { inspect } from 'node:util'

/**
 * A value that must never be seen: a password, a key, a passphrase. It prints as `***` wherever a value is
 * turned into text (string, JSON, inspect); only `reveal()` gives it away, and only the place that hands it to
 * a program or a library may call that.
 */
export class Secret {
  readonly #value: string

  constructor(value: string) {
    this.#value = value
  }

  reveal(): string {
    return this.#value
  }

  toString(): string {
    return '***'
  }

  toJSON(): string {
    return '***'
  }

  [inspect.custom](): string {
    return '***'
  }
}

/** The text with every one of the secrets replaced by `***`. Secrets shorter than four characters are left: masking them would shred the text and protect nothing. */
export function mask(text: string, secrets: Iterable<Secret>): string {
  let masked = text
  for (const secret of secrets) {
    const value = secret.reveal()
    if (value.length < 4) continue
    masked = masked.replaceAll(value, '***')
    const encoded = encodeURIComponent(value)
    if (encoded !== value) masked = masked.replaceAll(encoded, '***')
  }
  return masked
}
