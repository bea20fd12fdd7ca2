import { keyPattern } from '../../model/key-pattern.ts'
import { isBrokenRemote, isSecretName, parseRemote } from '../../stores/index.ts'
import type { Sorted } from './arguments.ts'
import type { Dialect, Plain } from './dialect.ts'
import { engineOf } from './engine.ts'
import { mariadbArguments } from './mariadb-arguments.ts'
import { pgArguments } from './pg-arguments.ts'
import { recipientsIn } from './recipients.ts'
import type { Variables } from './variables.ts'

/** Dumps of PostgreSQL or MariaDB, gzip, age, to any remote of rclone's. */
export const rclone: Dialect = {
  name: 'rclone',
  strong: ['BACKUP_DATABASES', 'BACKUP_ALL'],
  weak: [['UPLOAD_PREFIX']],
  needs: 'BACKUP_DATABASES or BACKUP_ALL, PGHOST or MYSQL_HOST, REMOTE_NAME and RCLONE_CONFIG_*',
  takesArguments: true,
  prefixes: ['BACKUP_', 'ENCRYPT_', 'UPLOAD_', 'REMOTE_'],
  translate: (env, args) => {
    const all = env.flag('BACKUP_ALL')
    const databases = databasesOf(env, all)
    const encryption = encryptionOf(env)
    return {
      stores: { [storeName]: storeOf(env) },
      jobs: {
        rclone: {
          source: sourceOf(env, args, all, databases),
          to: [storeName],
          key: { name: nameOf(env, all, databases), timezone: 'UTC', plain: true },
          compression: { gzip: {} },
          // A stream that has broken cannot be sent again: the dump is made again.
          retry: { times: 2, after: '5 s', only: 'stores' },
          ...(encryption ? { encryption: { age: encryption } } : {}),
        },
      },
    }
  },
}

const storeName = 'remote'

function databasesOf(env: Variables, all: boolean): string[] {
  const names = (env.text('BACKUP_DATABASES') ?? '')
    .split(',')
    .map(name => name.trim())
    .filter(name => name !== '')
  if (all && names.length > 0) env.warnings.push('BACKUP_ALL is set: BACKUP_DATABASES is not looked at')
  if (!all && names.length === 0)
    env.fault('BACKUP_DATABASES', 'names of databases with commas between, or BACKUP_ALL=true', null)
  return [...new Set(names)]
}

/**
 * `x`, `x.sql` and `x.sql.gz` all give `x.sql.gz`; what the stages add is left to them. Refuses what would leave the
 * remote's folder, and one name for several databases.
 */
function nameOf(env: Variables, all: boolean, databases: readonly string[]): string {
  const usual = all ? 'all_%Y-%m-%dT%H-%M-%SZ' : '${DB}-%Y-%m-%dT%H-%M-%SZ'
  const said = env.text('BACKUP_FILE_NAME')
  const base = (said ?? usual).replace(/\.gz$/, '').replace(/\.sql$/, '')
  const named = /\$\{DB\}|\$DB(?![A-Za-z0-9_])/.test(base)
  const fault = (expected: string): void => env.fault('BACKUP_FILE_NAME', expected, said ?? '')
  if (base.startsWith('/') || base.split('/').includes('..'))
    fault('a path within the remote, without a "/" at its beginning and without ".."')
  if (all && named) fault('no $DB, because BACKUP_ALL writes one file')
  if (!all && !named && databases.length > 1) fault('$DB in it, because there are several databases')
  // A "$" that begins no placeholder is a character like others.
  const name = `${base.replaceAll(/\$(?!\{DB\}|DB(?![A-Za-z0-9_]))/g, '$$$$')}.sql`
  try {
    keyPattern(name, { zone: 'UTC', plain: true })
  } catch (error) {
    fault(`a pattern of strftime's (${(error as Error).message})`)
  }
  return name
}

function storeOf(env: Variables): Plain {
  const remote = (env.text('REMOTE_NAME') ?? 'store').replace(/:$/, '')
  const prefix = env.text('UPLOAD_PREFIX')
  // An empty prefix must not put a "/" in front: on SFTP that is the root.
  const path = prefix === undefined ? '' : prefix === '/' ? '/' : prefix.replace(/\/$/, '')
  return {
    type: 'rclone',
    ...remoteOf(env, `${remote}:${path}`),
    // Without a file of its own rclone says so at every start.
    config: env.text('RCLONE_CONFIG') ?? '/dev/null',
    ...smbOf(env, remote),
  }
}

/** A connection string with a password in it becomes a remote whose settings stand by themselves: no message shows them then. */
function remoteOf(env: Variables, text: string): Plain {
  const { name, settings, path } = parseRemote(text)
  // Nobody knows which part of such a one is a password.
  if (isBrokenRemote(text))
    env.fault('REMOTE_NAME', 'a name, or a whole connection string (:type,key="value")', 'something else')
  const entries = Object.entries(settings)
  if (!entries.some(([key]) => isSecretName(key))) return { remote: text }
  const type = name.startsWith(':') ? { type: name.slice(1) } : {}
  const hidden = entries.map(([key, value]) => [key, isSecretName(key) ? { value } : value])
  return {
    remote: `${name.replace(/^:.*/, 'remote')}:${path}`,
    options: { ...type, ...Object.fromEntries(hidden) },
  }
}

/** The README spelled the settings of SMB in a way that rclone does not read, and its password in clear. */
function smbOf(env: Variables, remote: string): Plain {
  if (remote.startsWith(':')) return {}
  const [name = ''] = remote.split(',')
  const prefix = `RCLONE_CONFIG_${name.replaceAll(/[-. ]/g, '_').toUpperCase()}_SMB_`
  const keys = ['HOST', 'PORT', 'USER', 'DOMAIN'].filter(key => env.text(prefix + key) !== undefined)
  const pass = env.secret(`${prefix}PASS`)
  if (keys.length === 0 && !pass) return {}
  const options = Object.fromEntries(keys.map(key => [key.toLowerCase(), env.text(prefix + key)]))
  return { options: { type: 'smb', ...options }, ...(pass ? { clear: { pass } } : {}) }
}

function encryptionOf(env: Variables): Plain | null {
  const text = env.text('ENCRYPT_RECIPIENTS')
  const file = env.text('ENCRYPT_RECIPIENTS_FILE')
  if (text !== undefined && file !== undefined)
    env.warnings.push('ENCRYPT_RECIPIENTS is set: ENCRYPT_RECIPIENTS_FILE is not read')
  if (text === undefined) return file === undefined ? null : { recipientsFile: file, skipOtherKeys: true }
  return { recipients: recipientsIn(env, 'ENCRYPT_RECIPIENTS', text) }
}

function sourceOf(
  env: Variables,
  args: readonly string[],
  all: boolean,
  databases: readonly string[],
): Plain {
  const engine = engineOf(env, args)
  const { lifted, rest, notes } = engine === 'postgres' ? pgArguments(args, all) : mariadbArguments(args, all)
  env.warnings.push(...notes)
  const what = all ? { whole: true } : { databases }
  if (engine === 'postgres') return { type: engine, ...postgresOf(env, lifted, all), ...what, args: rest }
  return { type: engine, ...mariadbOf(env, lifted), ...what, globals: all ? 'inside' : false, args: rest }
}

function postgresOf(env: Variables, lifted: Sorted['lifted'], all: boolean): Plain {
  const password = env.secret('PGPASSWORD')
  // PGHOST and its like are read where all of libpq's variables are.
  return {
    ...(all ? {} : { format: 'plain', globals: false }),
    ...lifted,
    ...(password && 'file' in password ? { password } : {}),
    allowEmpty: true,
  }
}

function mariadbOf(env: Variables, lifted: Sorted['lifted']): Plain {
  const password = env.secret('MYSQL_PWD')
  const fallbackHost = env.text('MYSQL_HOST')
  return {
    ...(fallbackHost === undefined ? {} : { fallbackHost }),
    ...(password ? { password } : {}),
    ...lifted,
    createDatabase: true,
  }
}
