/** A secret whose value the configuration holds itself. */
export type InlineSecret = { readonly value: string }

const origins = new WeakMap<object, string>()

/**
 * A secret that is a part of a variable, or an argument: no place can be named that holds it and nothing else. `from` tells a
 * person where it stands, never what it is.
 */
export function inlineSecret(value: string, from: string): InlineSecret {
  const secret = { value }
  origins.set(secret, from)
  return secret
}

/** Where it stands. */
export function originOf(secret: object): string {
  return origins.get(secret) ?? 'a secret of the environment'
}
