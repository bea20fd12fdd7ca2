import { existsSync } from 'node:fs'

/** Options that are secrets, and never paths. */
const secrets = new Set([
  ...['password', 'passphrase', 'identity', 'identityPassphrase'],
  ...['accessKeyId', 'secretAccessKey', 'sessionToken', 'customerKey'],
])

/** Where the path of a file that is there stands as the secret itself, which would be a password that is wrong. */
export function pathsAsSecrets(
  value: unknown,
  path: readonly PropertyKey[] = [],
): { path: readonly PropertyKey[]; text: string }[] {
  if (typeof value === 'string') {
    const option = path.findLast(key => typeof key === 'string') ?? ''
    if (!secrets.has(String(option)) || !value.startsWith('/') || !existsSync(value)) return []
    const text = `${path.join('.')}: it is the path of a file: write { file: ${value} } for what is in it`
    return [{ path, text }]
  }
  if (typeof value !== 'object' || value === null) return []
  const entries: [PropertyKey, unknown][] = Array.isArray(value)
    ? [...value.entries()]
    : Object.entries(value)
  return entries.flatMap(([key, inner]) => pathsAsSecrets(inner, [...path, key]))
}
