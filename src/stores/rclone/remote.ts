import { Secret } from '../../model/secret.ts'

/** An rclone remote as it is written: `gdrive:backups`, `:sftp,host=nas:path`, or the path of a local folder. */
export interface Remote {
  /** `gdrive`, `:sftp`; '' for a local path. */
  readonly name: string
  readonly settings: Readonly<Record<string, string>>
  readonly path: string
}

/**
 * Takes a remote apart as rclone does (https://rclone.org/docs/#connection-strings). What rclone would call a
 * syntax error is returned as a local path: rclone then says itself what is wrong.
 */
export function parseRemote(text: string): Remote {
  const local = { name: '', settings: {}, path: text }
  const start = /^(:?[\p{L}\p{N}_. +@-]+)(?=[:,])/u.exec(text)
  if (!start) return local
  const settings: Record<string, string> = {}
  const setting = /,(\w+)(?:=("(?:[^"]|"")*"|'(?:[^']|'')*'|[^:,"'][^:,]*|))?(?=[:,])/uy
  let at = start[0].length
  while (text[at] === ',') {
    setting.lastIndex = at
    const match = setting.exec(text)
    if (!match) return local
    const [whole, key = '', value] = match
    settings[key] = value === undefined ? 'true' : unquoted(value)
    at += whole.length
  }
  return { name: start[1] ?? '', settings, path: text.slice(at + 1) }
}

function unquoted(value: string): string {
  const quote = value[0]
  if (quote !== '"' && quote !== "'") return value
  return value.slice(1, -1).replaceAll(quote + quote, quote)
}

export function writeRemote(remote: Remote): string {
  if (remote.name === '') return remote.path
  const settings = Object.entries(remote.settings).map(
    ([key, value]) => `,${key}="${value.replaceAll('"', '""')}"`,
  )
  return `${remote.name}${settings.join('')}:${remote.path}`
}

/** The first folder of a remote's path as a remote, and the folders below it; null where there are none. */
export function bucketOf(text: string): { remote: string; below: string } | null {
  const remote = parseRemote(text)
  const [bucket = '', ...below] = remote.path.split('/').filter(Boolean)
  if (remote.name === '' || below.length === 0) return null
  return { remote: writeRemote({ ...remote, path: bucket }), below: below.join('/') }
}

/** The settings of a connection string that are nobody's business, so that no message shows them. */
export function secretsOf(remote: Remote): Secret[] {
  return Object.entries(remote.settings)
    .filter(([key]) => isSecretName(key))
    .map(([, value]) => new Secret(value))
}

/** Whether it was to be a connection string, and cannot be read as one: nobody knows which part of it is a password. */
export function isBroken(text: string): boolean {
  return parseRemote(text).name === '' && /^:|^[^/]*,\w+=/.test(text)
}

/** The remote as a person may see it. */
export function withoutSecrets(text: string): string {
  if (isBroken(text)) return '***'
  const remote = parseRemote(text)
  const secret = Object.keys(remote.settings).filter(isSecretName)
  if (secret.length === 0) return text
  const hidden = Object.fromEntries(secret.map(key => [key, '***']))
  return writeRemote({ ...remote, settings: { ...remote.settings, ...hidden } })
}

/** Whether a setting of this name holds a secret rather than tells where one is. */
export function isSecretName(name: string): boolean {
  return (
    /pass|secret|token|key|credential|sas|auth|identity_header/i.test(name) &&
    !/(_file|_path|_command|env_auth)$/i.test(name)
  )
}

/**
 * A key as rclone spells it. Towards its users it writes control characters as the symbols for them (`␊`), and puts
 * `‛` before a symbol that is meant as such (https://rclone.org/overview/#restricted-filenames); what stands in
 * the remote is the backend's affair.
 */
export function nameOf(key: string): string {
  const quoted = key.replaceAll(/[\u2400-\u241f\u2421]/g, symbol => `\u201b${symbol}`)
  return quoted.replaceAll(/\p{Cc}/gu, character => {
    const code = character.charCodeAt(0)
    if (code === 0x7f) return '\u2421'
    return code < 0x20 ? String.fromCharCode(code + 0x2400) : character
  })
}

/** The key that rclone spells so. */
export function keyOf(name: string): string {
  return name.replaceAll(/(\u201b?)([\u2400-\u241f\u2421])/g, (_, quote, symbol) => {
    if (quote) return symbol
    return symbol === '\u2421' ? '\u007f' : String.fromCharCode(symbol.charCodeAt(0) - 0x2400)
  })
}

const MiB = 1024 * 1024

/** Backends that send a stream of unknown size in so many parts at most, each of the same size. */
const multipart: Readonly<Record<string, { readonly parts: number; readonly defaultPart: number }>> = {
  s3: { parts: 10_000, defaultPart: 5 * MiB },
  oracleobjectstorage: { parts: 10_000, defaultPart: 5 * MiB },
  qingstor: { parts: 10_000, defaultPart: 4 * MiB },
  azureblob: { parts: 50_000, defaultPart: 4 * MiB },
  b2: { parts: 10_000, defaultPart: 96 * MiB },
}

/** Remotes that stand for another one, which their setting `remote` names. */
const wrappers = ['alias', 'crypt', 'compress', 'hasher']

/** What is taken for the size of a stream that came without a hint. */
const unknownSize = 128 * 1024 * MiB

/** What is configured for a remote of this name; empty for one that nobody knows. */
export type Settings = (name: string) => Promise<Readonly<Record<string, string>>>

/**
 * The remote with parts large enough for a stream of this size: 10,000 parts of 5 MiB, which is what rclone sends
 * to S3, end at 48 GiB. A part size that the user chose is kept. With large parts fewer are under way at once,
 * for rclone keeps them in memory. Wrapping remotes (crypt, alias) are looked through.
 */
export async function withLargeParts(
  text: string,
  sizeHint: number | undefined,
  settingsOf: Settings,
  depth = 0,
): Promise<string> {
  const remote = parseRemote(text)
  if (remote.name === '' || depth > 8) return text
  const onTheFly = remote.name.startsWith(':')
  const settings = { ...(await settingsOf(remote.name)), ...remote.settings }
  const type = onTheFly ? remote.name.slice(1) : settings.type
  if (type === undefined) return text
  if (wrappers.includes(type) && settings.remote) {
    const inner = await withLargeParts(settings.remote, sizeHint, settingsOf, depth + 1)
    if (inner === settings.remote) return text
    return writeRemote({ ...remote, settings: { ...remote.settings, remote: inner } })
  }
  const part = settings.chunk_size === undefined ? partSize(type, sizeHint) : null
  if (part === null) return text
  const concurrency = part >= 64 * MiB ? '1' : part >= 32 * MiB ? '2' : '4'
  const changed = { chunk_size: `${part / MiB}Mi`, upload_concurrency: concurrency, ...remote.settings }
  return writeRemote({ ...remote, settings: changed })
}

/** A power of two, so that rclone does not open a new connection for every other size; null where the default will do. */
function partSize(type: string, sizeHint: number | undefined): number | null {
  const limits = multipart[type]
  if (!limits) return null
  // A hint is only a hint: room for twice as much.
  const least = ((sizeHint ?? unknownSize) * 2) / limits.parts
  if (least <= limits.defaultPart) return null
  return 2 ** Math.ceil(Math.log2(least))
}
