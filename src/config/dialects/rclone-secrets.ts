import type { SecretPlace, Variables } from './variables.ts'

/**
 * Options of rclone's backends that are secrets, and to whose names no backend has one with `_file` behind it: that would be
 * rclone's own (`rclone config providers` lists them all).
 */
export const secretOptions = [
  ...['pass', 'password', 'password2', 'secret', 'client_secret', 'private_key', 'session_token'],
  ...['access_key_id', 'secret_access_key', 'sse_customer_key_base64', 'sas_url', 'connection_string'],
  ...['token', 'access_token', 'refresh_token', 'auth_token', 'bearer_token', 'permanent_token', 'app_token'],
  ...['api_key', 'api_password', 'library_key', 'master_key', 'otp_secret_key', 'mailbox_password'],
  ...['file_password', 'folder_password', 'link_password', 'key_pem', 'key_file_pass'],
  ...['client_certificate_password', 'service_account_credentials', 'application_credential_secret'],
] as const

/** Those to which one backend has such an option (sftp's `key_file`), and the types that have none. */
export const ofTypes: Readonly<Record<string, readonly string[]>> = {
  sse_customer_key: ['s3', 'b2'],
  key: ['azureblob', 'azurefiles', 'b2', 'swift'],
}

/** What the libraries of the clouds read. */
const ofClouds = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AZURE_CLIENT_SECRET']

/** Variables that rclone is to have, and the files that hold them: of each `NAME_FILE` where NAME is a secret and is not set itself. */
export function filesForRclone(env: Variables): Record<string, SecretPlace> {
  const names = env.names.filter(file => !env.known.has(file) && isSecretFile(env, file))
  const found = names.map(file => {
    const name = file.replace(/_FILE$/, '')
    return [name, ofClouds.includes(name) ? env.secretIfThere(name) : env.secret(name)] as const
  })
  return Object.fromEntries(
    found.flatMap(([name, place]) => (place && 'file' in place ? [[name, place]] : [])),
  )
}

function isSecretFile(env: Variables, file: string): boolean {
  const name = /^(.*)_FILE$/.exec(file)?.[1] ?? ''
  if (ofClouds.includes(name)) return true
  if (!/^RCLONE_(CONFIG|S3)_/.test(name)) return false
  const ends = (option: string): boolean => name.endsWith(`_${option.toUpperCase()}`)
  if (secretOptions.some(ends)) return true
  const option = Object.keys(ofTypes).find(ends)
  if (option === undefined) return false
  const remote = name.slice(0, -option.length - 1)
  const type = remote === 'RCLONE_S3' ? 's3' : env.text(`${remote}_TYPE`)
  return ofTypes[option]?.includes(type ?? '') ?? false
}
