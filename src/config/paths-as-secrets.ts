import { existsSync } from 'node:fs'
import { type Text, textsIn } from './texts.ts'

/** Options that are secrets, and never paths. */
const secrets = new Set<PropertyKey>([
  ...['password', 'passphrase', 'identity', 'identityPassphrase'],
  ...['accessKeyId', 'secretAccessKey', 'sessionToken', 'customerKey'],
])

/** Where the path of a file that is there stands as the secret itself, which would be a password that is wrong. */
export function pathsAsSecrets(config: unknown): Text[] {
  return [...textsIn(config)].flatMap(({ path, text }) => {
    const option = path.findLast(key => typeof key === 'string') ?? ''
    if (!secrets.has(option) || !text.startsWith('/') || !existsSync(text)) return []
    const fault = `it is the path of a file: write { file: ${text} } for what is in it`
    return [{ path, text: `${path.join('.')}: ${fault}` }]
  })
}
