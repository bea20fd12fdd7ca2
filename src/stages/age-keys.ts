import { createHash } from 'node:crypto'
import { type Failure, usage, wrongKey } from '../model/failure.ts'
import { withoutUnseen } from '../model/typed.ts'

/** Native keys, SSH keys, and those that a plugin opens. */
type RecipientKind = 'x25519' | 'ssh' | 'plugin'

const accepted = 'age1… (from age-keygen), ssh-ed25519 AAAA… and ssh-rsa AAAA… are accepted'

/** The kind of a recipient; null when it is none. Its checksum is not looked at. */
export function recipientKind(recipient: string): RecipientKind | null {
  if (/^age1[02-9ac-hj-np-z]{58}$/.test(recipient)) return 'x25519'
  if (/^ssh-(ed25519|rsa) AAAA[A-Za-z0-9+/]+={0,2}( .*)?$/.test(recipient)) return 'ssh'
  // The name of a plugin ends at the last 1: `age1yubikey1q…`. Its type is the program that would be run.
  return /^age1[a-z0-9-]+1[02-9ac-hj-np-z]{6,}$/.test(recipient) ? 'plugin' : null
}

/**
 * Why nothing can be encrypted for this recipient; null when it can. A secret key in its place is not quoted. A plugin is a
 * program `age-plugin-NAME` that age takes from PATH because a line of the configuration says so: it must be allowed.
 */
export function recipientProblem(recipient: string, plugins: boolean): Failure | null {
  const kind = recipientKind(recipient)
  if (/^\s*AGE-(SECRET-KEY|PLUGIN)-|^-----BEGIN .*PRIVATE KEY/i.test(recipient))
    return usage(
      'cannot encrypt for a key among the recipients',
      'it is a secret key, which belongs to `identity`',
      'put its public key there: `age-keygen -y FILE` prints it, of SSH it is in the file .pub',
    )
  const what = `cannot encrypt for '${beginning(recipient)}'`
  if (kind === null) return usage(what, 'it is not a recipient that age knows', accepted)
  if (kind !== 'plugin' || plugins) return null
  const why = 'age would run a plugin for it'
  return usage(what, why, `${accepted}; set plugins: true to allow age-plugin-* programs`)
}

/** Recipients from the lines of a file, as `age -R` reads it, but nothing is skipped that is not understood. */
export function recipientLines(text: string): string[] {
  const lines = text.split('\n').map(line => line.trim())
  return lines.filter(line => line !== '' && !line.startsWith('#'))
}

/** A recipient as the manifest names it: the same key gives the same name, and the name does not give the key. */
export function recipientName(recipient: string): string {
  // The comment at the end of an SSH key is not part of it.
  const key = recipient.split(' ').slice(0, 2).join(' ')
  return `sha256:${createHash('sha256').update(key).digest('hex').slice(0, 16)}`
}

/** The lines of an identity file that hold keys. */
export function identityLines(text: string): string[] {
  return recipientLines(text)
}

const nativeKey = 'AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}'
const wholeKey = new RegExp(`^${nativeKey}$`)

/**
 * The native keys of a text in which people, mail programs or editors have broken, indented, quoted or labelled them, or that an
 * editor has saved as UTF-16 or with a byte order mark. What age reads as it is, and what has no whole native key in it or other
 * keys too, is returned as it is.
 */
export function legibleIdentity(text: string): string {
  const isPlain = text.split(/\r?\n/).every(line => /^(#.*|AGE-[!-~]+|)$/.test(line))
  if ((isPlain && !identityLines(text).some(isMistyped)) || /AGE-(PLUGIN|SECRET-KEY-PQ)-/i.test(text))
    return text
  const lines = withoutUnseen(text).split(/[\r\n]+/)
  // A key may be broken into lines and groups: what is no comment is taken together.
  const rest = lines.filter(line => !/^[\s>*"'`]*#/.test(line)).join('')
  const keys = rest.replaceAll(/[\s>*"'`]/g, '').match(new RegExp(nativeKey, 'gi'))
  return keys ? keys.map(key => `${key.toUpperCase()}\n`).join('') : text
}

function isMistyped(line: string): boolean {
  return /^AGE-SECRET-KEY-(?!PQ-)/.test(line) && !wholeKey.test(line)
}

/** What is wrong with a key that somebody has typed; nothing of it is told that could be right. */
function whyMistyped(text: string): string {
  const rest =
    withoutUnseen(text)
      .replaceAll(/\s/g, '')
      .split(/AGE-SECRET-KEY-1?/i)[1] ?? ''
  const [typed = ''] = /^[0-9A-Za-z]*/.exec(rest) ?? []
  const strange = [...new Set(typed.toUpperCase().match(/[1BIO]/g) ?? [])]
  if (strange.length > 0)
    return `its key is mistyped: after AGE-SECRET-KEY-1 there is never ${strange.join(', ')} (for B read 8, for O read 0, for I and 1 another letter)`
  return `its key is mistyped: ${typed.length} characters stand after AGE-SECRET-KEY-1, and not 58`
}

/** Whether a text is meant as an identity, or as a recipient put in its place: then what is wrong with it is worth telling. */
export function looksLikeIdentity(text: string): boolean {
  if (/AGE-SECRET-KEY-/i.test(withoutUnseen(text))) return true
  const [first = ''] = identityLines(text)
  return /^(AGE-(SECRET-KEY|PLUGIN)-|age1|ssh-|age-encryption\.org|-----BEGIN )/.test(first)
}

/** True for identities that age-encryption can use: native keys only. */
export function isNativeIdentity(text: string): boolean {
  return identityLines(text).every(line => line.startsWith('AGE-SECRET-KEY-1'))
}

/**
 * Why these bytes cannot be used as an identity; null when they look as if they could. `where` is said, never what was
 * found there. Identities behind a passphrase are refused: age would ask for it on a terminal that nobody sits at.
 */
export function identityProblem(text: string, where: string, plugins: boolean): Failure | null {
  const refuse = (why: string, remedy: string): Failure =>
    wrongKey(`cannot use the identity from ${where}`, why, remedy)
  const lines = identityLines(text)
  const [first = ''] = lines
  if (first === '') return refuse('it is empty', 'put the output of age-keygen there')
  if (first.startsWith('age-encryption.org/v1') || first.includes('BEGIN AGE ENCRYPTED FILE'))
    return refuse(locked, 'keep a decrypted copy where only this program can read it: age -d')
  if (/-----BEGIN .*PRIVATE KEY-----/.test(first))
    return isLockedPem(text) ? refuse(locked, 'take the passphrase off a copy: ssh-keygen -p') : null
  if (recipientKind(first)) return refuse('it is a public key', 'the secret one is needed to decrypt')
  if (lines.some(line => line.startsWith('AGE-PLUGIN-')) && !plugins)
    return refuse('age would run a plugin for it', 'set plugins: true to allow age-plugin-* programs')
  if (lines.every(line => /^AGE-(SECRET-KEY|PLUGIN)-/.test(line)) && !lines.some(isMistyped)) return null
  if (/AGE-SECRET-KEY-/i.test(text)) return refuse(whyMistyped(text), 'compare it with the original')
  return refuse(
    'it holds something else than keys',
    'an age identity (AGE-SECRET-KEY-1…) or an SSH key is needed',
  )
}

const locked = 'it is protected by a passphrase, which nobody can type here'

function isLockedPem(text: string): boolean {
  if (/Proc-Type: 4,ENCRYPTED|BEGIN ENCRYPTED PRIVATE KEY/.test(text)) return true
  const body = /BEGIN OPENSSH PRIVATE KEY-----([^-]+)/.exec(text)?.[1]
  if (body === undefined) return false
  // PROTOCOL.key of OpenSSH: a magic string ending in NUL, then the cipher's name after its length.
  const key = Buffer.from(body, 'base64')
  const cipher = 'openssh-key-v1\0'.length
  return key.toString('latin1', cipher + 4, cipher + 8) !== 'none'
}

function beginning(text: string): string {
  return text.length > 24 ? `${text.slice(0, 24)}…` : text
}
