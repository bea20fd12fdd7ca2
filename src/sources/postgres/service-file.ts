import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { usage } from '../../model/failure.ts'
import { homeFolder } from '../../platform/home.ts'
import { type Place, placeFrom } from './url.ts'

/** Where Debian's libpq looks, and one that was built with the defaults for /usr. */
const systemFolders = ['/etc/postgresql-common', '/etc/postgresql', '/etc']

/**
 * What a service file says of a service (PostgreSQL docs, "The Connection Service File"): the user's own file first,
 * then the system's. Throws a usage Failure when none has it, or when its section cannot be read; values are not quoted.
 */
export function placeOfService(service: string, file: string | undefined, env: NodeJS.ProcessEnv): Place {
  const system = env.PGSYSCONFDIR ? [env.PGSYSCONFDIR] : systemFolders
  const files = [
    file ?? join(homeFolder(), '.pg_service.conf'),
    ...system.map(folder => join(folder, 'pg_service.conf')),
  ]
  for (const path of files) {
    const section = sectionOf(service, path, path === file)
    if (section) return placeFrom(section)
  }
  throw usage(
    `cannot connect to the service ${service}`,
    'no service file defines it',
    `write [${service}] and its host=, dbname= and so on into ${files[0]}, or set PGSERVICEFILE`,
  )
}

function sectionOf(service: string, path: string, isNamed: boolean): Record<string, string> | null {
  let found: Record<string, string> | null = null
  for (const [index, line] of textOf(path, isNamed).split('\n').entries()) {
    const text = line.trim()
    if (text === '' || text.startsWith('#')) continue
    const title = /^\[(.*)\]$/.exec(text)?.[1]
    if (title !== undefined) {
      if (found) return found
      if (title === service) found = {}
    } else if (found) {
      const at = text.indexOf('=')
      const key = text.slice(0, at)
      if (at < 1 || key === 'service')
        throw usage(
          `cannot connect to the service ${service}`,
          `line ${index + 1} of ${path} is not keyword=value`,
          'correct it',
        )
      found[key] ??= text.slice(at + 1)
    }
  }
  return found
}

/** A file that somebody named must be there. */
function textOf(path: string, isNamed: boolean): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (!isNamed && (code === 'ENOENT' || code === 'ENOTDIR')) return ''
    throw usage(
      'cannot read the service file',
      message,
      'check PGSERVICEFILE and the permissions of the file',
    )
  }
}
