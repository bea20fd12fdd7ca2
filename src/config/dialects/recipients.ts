import type { Variables } from './variables.ts'

const keys = 'public keys: age1..., or ssh-ed25519 ... and ssh-rsa ...'

/**
 * The public keys of a variable, split at white space, but that the key of an SSH line follows its kind, and its comment
 * is dropped. Faults for anything else: a key that is not understood could read no backup. Never shows a secret key.
 */
export function recipientsIn(env: Variables, name: string, text: string): string[] {
  const left = text.split(/\s+/).filter(word => word !== '')
  const recipients: string[] = []
  for (let word = left.shift(); word !== undefined; word = left.shift()) {
    const isSsh = word.startsWith('ssh-')
    const key = isSsh ? left.shift() : undefined
    const isWhole = isSsh ? key !== undefined && isBody(key) : word.startsWith('age1')
    if (!isWhole) env.fault(name, keys, shown(isSsh ? `${word} ${key ?? ''}`.trim() : word))
    recipients.push(isSsh ? `${word} ${key ?? ''}` : word)
    while (isSsh && left[0] !== undefined && isComment(left[0])) left.shift()
  }
  if (recipients.length === 0) env.fault(name, keys, 'none')
  return recipients
}

/** The base64 of an SSH key: its first bytes are the length of the name of its kind. */
function isBody(word: string): boolean {
  return /^AAAA[A-Za-z0-9+/]+=*$/.test(word)
}

/** A comment may be of several words. What may have been meant as a key, or as the kind of one, is none. */
function isComment(word: string): boolean {
  return !/^(age[-1lI]|ssh-|sk-|ecdsa-|AAAA)/i.test(word) && word.length < 50
}

function shown(word: string): string {
  return /secret|private/i.test(word) || word.length > 100 ? 'something else' : word
}
