import { keyPattern } from '../../model/key-pattern.ts'
import { isBrokenRemote, isSecretName, parseRemote, remoteVariable } from '../../stores/index.ts'
import type { Sorted } from './arguments.ts'
import type { Dialect, Plain } from './dialect.ts'
import { engineOf } from './engine.ts'
import { inlineSecret } from './inline.ts'
import { mariadbArguments } from './mariadb-arguments.ts'
import { pgArguments } from './pg-arguments.ts'
import { filesForRclone } from './rclone-secrets.ts'
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
  mustBeKnown(env, remote)
  const environment = filesForRclone(env)
  const path = prefix === undefined ? '' : prefix === '/' ? '/' : prefix.replace(/\/$/, '')
  return {
    type: 'rclone',
    ...remoteOf(env, `${withRegion(env, remote)}:${path}`),
    // Without a file of its own rclone says so at every start.
    config: env.text('RCLONE_CONFIG') ?? '/dev/null',
    ...smbOf(env, remote),
    ...(Object.keys(environment).length > 0 ? { environment } : {}),
  }
}

/**
 * The README says that AWS_REGION is the region. rclone asks us-east-1 nevertheless, and follows where that sends it, for which not all
 * credentials and no strict network have the right. What says more than the variable wins: a setting, a file.
 */
function withRegion(env: Variables, remote: string): string {
  const region = env.text('AWS_REGION') ?? env.text('AWS_DEFAULT_REGION') ?? ''
  const { name, settings } = parseRemote(`${remote}:`)
  const isNamed = /^[^:]/.test(name)
  const says = (key: string): string | undefined =>
    settings[key] ?? (isNamed ? env.text(remoteVariable(name, key)) : undefined)
  const isS3 = name === ':s3' || says('type') === 's3'
  if (!isS3 || !/^[\w-]+$/.test(region) || env.text('RCLONE_CONFIG') !== undefined) return remote
  const byChain = (says('env_auth') ?? env.text('RCLONE_S3_ENV_AUTH')) === 'true'
  const isSaid = (says('region') ?? env.text('RCLONE_S3_REGION')) !== undefined
  return byChain && !isSaid ? `${remote},region="${region}"` : remote
}

/** A remote by its name, of which no variable and no file says what it is, would only be missed when the dump is made. */
function mustBeKnown(env: Variables, remote: string): void {
  const isSaid = env.text('RCLONE_CONFIG') !== undefined || smbOf(env, remote).options !== undefined
  if (!/^[\w-]+$/.test(remote) || isSaid) return
  env.required(
    remoteVariable(remote, 'type'),
    `what kind of store "${remote}" is, as s3 or sftp (or RCLONE_CONFIG)`,
  )
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
  const hidden = entries.map(([key, value]) => [
    key,
    isSecretName(key) ? inlineSecret(value, `${key} of the connection string in REMOTE_NAME`) : value,
  ])
  return {
    remote: `${name.replace(/^:.*/, 'remote')}:${path}`,
    options: { ...type, ...Object.fromEntries(hidden) },
  }
}

/** The README spelled the settings of SMB in a way that rclone does not read, and its password in clear. */
function smbOf(env: Variables, remote: string): { options?: Plain; clear?: Plain } {
  if (remote.startsWith(':')) return {}
  const [name = ''] = remote.split(',')
  const prefix = remoteVariable(name, 'SMB_')
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
  // The accounts were tables of that database.
  const areWanted = all && !(lifted.exclude as string[] | undefined)?.includes('mysql')
  return { type: engine, ...mariadbOf(env, lifted), ...what, globals: areWanted && 'inside', args: rest }
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
