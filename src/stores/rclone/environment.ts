import { Secret } from '../../model/secret.ts'
import type { SecretSource } from '../../platform/secret-source.ts'
import { isSecretName, parseRemote } from './remote.ts'

/**
 * What is none of rclone's business: ours, the databases', and what is set for every program anyway. It gets everything
 * else, for nobody knows all that its backends and their credential chains read. HOME is the real one: rclone.conf,
 * `~/.aws`, `~/.ssh` lie there.
 */
const notPassedOn =
  /^((PG|POSTGRES|MYSQL|MARIADB|MONGO|CAIRN_|BACKUP_|ENCRYPT|S3_|WEBHOOK|NODE_|npm_|LD_|LC_).*|DATABASE_URL|LANG|LANGUAGE|PATH|TMPDIR|PWD|OLDPWD|SHLVL|_)$/

/**
 * What would make a daemon of ours somebody else's (RCLONE_RC_ADDR), hide what it says, or have it claim what it has
 * not done.
 */
const keptBack =
  /^RCLONE_(RC|RC_.+|DRY_RUN|INTERACTIVE|LOG_.+|QUIET|VERBOSE|USE_JSON_LOG|SYSLOG.*|STREAMING_UPLOAD_CUTOFF)$/

/** The part of our environment that rclone gets. What looks like a secret is one, so that no message shows it. */
export function inherited(env: Readonly<NodeJS.ProcessEnv>): Record<string, string | Secret> {
  const passed = Object.entries(env).filter(([name]) => !notPassedOn.test(name) && !keptBack.test(name))
  return Object.fromEntries(
    passed.map(([name, value = '']) => [name, isSecretName(name) ? new Secret(value) : value]),
  )
}

/** The variables that hold a remote's settings: `RCLONE_CONFIG_<NAME>_<KEY>`. Reads the secrets. */
export async function settingsAsEnvironment(
  remote: string,
  settings: Readonly<Record<string, SecretSource>>,
): Promise<Record<string, string | Secret>> {
  const { name } = parseRemote(remote)
  const env: Record<string, string | Secret> = {}
  for (const [key, source] of Object.entries(settings)) {
    const value = await source.read()
    // Messages would be unreadable with every host and user masked.
    const open = writtenOpenly(source) && !isSecretName(key)
    env[variable(name, key)] = open ? value.reveal() : value
  }
  return env
}

/** The configuration holds the value itself, not a place to take it from. */
function writtenOpenly(source: SecretSource): boolean {
  return source.where === 'the configuration'
}

/** What the environment says of a remote, by key. */
export function settingsIn(
  env: Readonly<Record<string, string | Secret>>,
  remote: string,
): Record<string, string> {
  const type = remote.startsWith(':') ? remote.slice(1) : null
  const prefix = type === null ? variable(remote, '') : `RCLONE_${type.toUpperCase()}_`
  const found: Record<string, string> = {}
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith(prefix)) continue
    found[name.slice(prefix.length).toLowerCase()] = value instanceof Secret ? value.reveal() : value
  }
  return found
}

/** What rclone reads: the name of the remote stays as it is but for its case, also with a `-` or a `.` in it. */
export function variable(remote: string, key: string): string {
  return `RCLONE_CONFIG_${remote}_${key.replaceAll('-', '_')}`.toUpperCase()
}
