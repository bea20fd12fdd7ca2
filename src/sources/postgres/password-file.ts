import { readFileSync, statSync } from 'node:fs'
import { usage } from '../../model/failure.ts'
import { Secret } from '../../model/secret.ts'

/** Folders of Unix sockets that a password file knows as `localhost`: the default of libpq, as it is built here and there. */
const defaultFolders = new Set(['/var/run/postgresql', '/run/postgresql', '/tmp'])

export interface Login {
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
}

/** The password, and why the file was not used, where it was not. */
export interface Found {
  readonly password?: Secret
  readonly ignored?: string
}

/**
 * Looks into a password file as libpq does (PostgreSQL docs, "The Password File"): the first line that fits wins, and
 * a file that others may read is not used at all. A file that is not there holds nothing.
 */
export function passwordIn(path: string, login: Login): Found {
  let text: string
  try {
    const stat = statSync(path)
    if (!stat.isFile()) return { ignored: `${path} is not a plain file` }
    if ((stat.mode & 0o077) !== 0)
      return { ignored: `${path} is not used, because its group or others may read or write it` }
    text = readFileSync(path, 'utf8')
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    return isMissing ? {} : { ignored: `${path} cannot be read` }
  }
  const host = defaultFolders.has(login.host) ? 'localhost' : login.host
  const wanted = [host, String(login.port), login.database, login.user]
  for (const line of text.split('\n')) {
    const fields = fieldsOf(line.replace(/\r$/, ''))
    if (fields && wanted.every((value, index) => fields[index] === '*' || unescaped(fields[index]) === value))
      return { password: new Secret(unescaped(fields[4])) }
  }
  return {}
}

/** Four fields that end at a colon, then the password; null for what is no entry. */
function fieldsOf(line: string): string[] | null {
  if (line.startsWith('#')) return null
  const field = '((?:\\\\.|[^:\\\\])*)'
  const match = new RegExp(`^${field}:${field}:${field}:${field}:(.+)$`, 's').exec(line)
  return match ? match.slice(1) : null
}

function unescaped(field = ''): string {
  return field.replace(/\\(.)/gs, '$1')
}

/** Throws a usage Failure for a password file that is not there, or that libpq would not use. */
export function demandPasswordFile(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false })
  const loose = found !== undefined && (found.mode & 0o077) !== 0
  const why = !found ? 'there is no such file' : !found.isFile() ? 'it is not a plain file' : null
  if (why === null && !loose) return
  throw usage(
    `cannot use the password file ${path}`,
    why ?? 'its group or others may read or write it',
    loose ? `chmod 600 ${path}` : 'mount it there',
  )
}
